//! The reservation of one namespace as all reactors see it: the state, its store, and what each connected host may do now.
//!
//! Commands on the data path load one byte. A change is worked out, stored and installed by a thread that may block, one change at a time; the
//! state itself is locked only for moments, so a reactor that reads it (Reservation Report) never waits for the store.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tracing::warn;

use crate::disk::reservation::{
    AccessCell, HostId, Outcome, Refusal, Report, ReservationStore, Reservations, StoreError, Transition,
};

use super::subsystem;
use super::wire::status::Status;

/// A connected host as reservations name it.
pub(super) fn holder(host: subsystem::HostId) -> HostId {
    HostId::extended(host.0).expect("a host without identifier is not let in")
}

/// The reservation of one namespace.
pub(super) struct Desk {
    disk: String,
    store: Option<ReservationStore>,
    /// Held while a change is worked out, stored and installed; never on a reactor.
    turn: Mutex<()>,
    reservations: Mutex<Reservations>,
    cells: Mutex<HashMap<HostId, Weak<AccessCell>>>,
}

impl Desk {
    /// Reads what has survived a loss of power. Without a folder nothing does, and hosts are told so.
    pub(super) fn open(disk: &str, folder: Option<&Path>) -> Result<Self, StoreError> {
        let store = folder.map(|folder| ReservationStore::new(folder, disk));
        let reservations = match &store {
            Some(store) => store.load()?,
            None => Reservations::volatile(),
        };
        Ok(Self {
            disk: disk.to_owned(),
            store,
            turn: Mutex::default(),
            reservations: Mutex::new(reservations),
            cells: Mutex::default(),
        })
    }

    fn reservations(&self) -> MutexGuard<'_, Reservations> {
        self.reservations.lock().expect("no thread panics while it holds this lock")
    }

    fn cells(&self) -> MutexGuard<'_, HashMap<HostId, Weak<AccessCell>>> {
        self.cells.lock().expect("no thread panics while it holds this lock")
    }

    /// What a host may do, kept up to date for as long as somebody holds it.
    pub(super) fn access_of(&self, host: HostId) -> Arc<AccessCell> {
        let mut cells = self.cells();
        if let Some(cell) = cells.get(&host).and_then(Weak::upgrade) {
            return cell;
        }
        cells.retain(|_, cell| cell.strong_count() > 0);
        // Read while the cells are locked: a change that comes next finds the new cell among them.
        let cell = Arc::new(AccessCell::new(self.reservations().access(&host)));
        cells.insert(host, Arc::downgrade(&cell));
        cell
    }

    /// Waits for commands of a host that its access let in before it changed, and that reach the disk in another way than by its namespace: a
    /// virtual machine's.
    pub(super) async fn drain(&self, host: &HostId) {
        let cell = self.cells().get(host).and_then(Weak::upgrade);
        if let Some(cell) = cell {
            cell.drain().await;
        }
    }

    /// Reservation Capabilities (RESCAP).
    pub(super) fn capabilities(&self) -> u8 {
        self.reservations().capabilities()
    }

    /// Looks at the state.
    pub(super) fn report<T>(&self, look: impl FnOnce(Report<'_>) -> T) -> T {
        look(self.reservations().report())
    }

    /// Works out a change, stores it and makes it. It blocks: not to be called on a reactor.
    pub(super) fn change(
        &self,
        work_out: impl FnOnce(&Reservations) -> Result<Transition, Refusal>,
    ) -> Result<Outcome, Status> {
        let _turn = self.turn.lock().expect("no thread panics while it holds this lock");
        let transition = work_out(&self.reservations()).map_err(status_of)?;
        if let Some(store) = &self.store
            && let Err(e) = store.commit(&transition)
        {
            warn!("disk {}: a reservation could not be stored, and is not changed: {e}", self.disk);
            return Err(Status::INTERNAL_ERROR);
        }
        let cells = self.cells();
        let mut reservations = self.reservations();
        let outcome = reservations.install(transition);
        for (host, cell) in cells.iter() {
            if let Some(cell) = cell.upgrade() {
                cell.set(reservations.access(host));
            }
        }
        Ok(outcome)
    }
}

fn status_of(refusal: Refusal) -> Status {
    match refusal {
        Refusal::ReservationConflict => Status::RESERVATION_CONFLICT.final_one(),
        Refusal::InvalidField => Status::INVALID_FIELD.final_one(),
        Refusal::HostIdInconsistentFormat => Status::HOST_ID_INCONSISTENT.final_one(),
        Refusal::TooManyRegistrants => Status::INTERNAL_ERROR,
    }
}
