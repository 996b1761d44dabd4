//! Reservation commands (Base sections 7.2 to 7.5): from the host's data to the namespace's [`Desk`](super::desk::Desk), and what follows a change.

use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::disk::reservation::{
    Acquire, Event, HostId, Outcome, PowerLossChange, Refusal, Register, Release, Reservations, Transition,
};
use crate::reactor::offload;

use super::attached::Attached;
use super::connection::{Arrived, Queue};
use super::desk::holder;
use super::shard::ViewsOf;
use super::slot::{Answer, Served};
use super::subsystem::{self, Namespace};
use super::wire::command::Command;
use super::wire::log_page::ReservationNotice;
use super::wire::opcode::io as op;
use super::wire::reservation::{Registered, ReportHeader};
use super::wire::status::Status;

/// Extended Data Structure: bit 0 of dword 11 of Reservation Report (Base section 7.5).
const EXTENDED: u32 = 1 << 0;

/// A change that a host asks for.
enum Request {
    Register(Register),
    Acquire(Acquire),
    Release(Release),
}

impl Request {
    fn data_bytes(opcode: u8) -> usize {
        match opcode {
            op::RESERVATION_REGISTER => Register::DATA_BYTES,
            op::RESERVATION_ACQUIRE => Acquire::DATA_BYTES,
            _ => Release::DATA_BYTES,
        }
    }

    fn decode(command: &Command, data: &[u8]) -> Result<Self, Refusal> {
        let dword10 = command.cdw10.get();
        Ok(match command.opcode {
            op::RESERVATION_REGISTER => Self::Register(Register::decode(dword10, data)?),
            op::RESERVATION_ACQUIRE => Self::Acquire(Acquire::decode(dword10, data)?),
            _ => Self::Release(Release::decode(dword10, data)?),
        })
    }

    fn work_out(&self, reservations: &Reservations, host: HostId) -> Result<Transition, Refusal> {
        match self {
            Self::Register(register) => reservations.register(host, register),
            Self::Acquire(acquire) => reservations.acquire(host, acquire),
            Self::Release(release) => reservations.release(host, release),
        }
    }
}

impl Served<'_> {
    /// Carries out a reservation command.
    pub(super) async fn reservation(
        &self,
        queue: &Queue,
        attached: &Attached,
        arrived: Arrived,
    ) -> Result<Answer, Status> {
        let command = arrived.command;
        if command.opcode == op::RESERVATION_REPORT {
            return self.report(attached, &command).await;
        }
        let data = match self.payload(arrived, Request::data_bytes(command.opcode)).await {
            Ok(data) => data,
            Err(answer) => return Ok(answer),
        };
        let request = Request::decode(&command, data.bytes()).map_err(|_| Status::INVALID_FIELD.final_one())?;
        let (desk, host) = (attached.desk.clone(), holder(queue.controller.host_id()));
        let outcome = offload(move || desk.change(|reservations| request.work_out(reservations, host))).await?;
        self.follow(queue, attached, outcome).await;
        Ok(Answer::SUCCESS)
    }

    /// What a change brings for other hosts: the commands of preempted ones end, and all concerned are told.
    async fn follow(&self, queue: &Queue, attached: &Attached, outcome: Outcome) {
        let Some(subsystem) = queue.controller.subsystem() else { return };
        let nsid = attached.namespace.nsid();
        for host in &outcome.aborts {
            let views = ViewsOf { subsystem: subsystem.nqn().to_string(), host: None, host_id: Some(connected(host)) };
            self.connection.shard.drain_everywhere(nsid, views, Status::ABORTED_PREEMPT).await;
            attached.desk.drain(host).await;
        }
        for notice in &outcome.notices {
            subsystem.notify_reservation(nsid, connected(&notice.host), notice_of(notice.event));
        }
    }

    /// The Reservation Persistence feature (Base section 5.27.1.27).
    pub(super) async fn get_persistence(&self, queue: &Queue, namespace: &Namespace) -> Answer {
        let Some(attached) = self.connection.shard.namespace(queue, namespace.nsid()).await else {
            return Status::INVALID_NAMESPACE.final_one().into();
        };
        let survives = attached.desk.report(|report| report.survives_power_loss());
        Answer::Complete { status: Status::SUCCESS, result: survives.into() }
    }

    pub(super) async fn set_persistence(&self, queue: &Queue, namespaces: &[Arc<Namespace>], persists: bool) -> Answer {
        let change = if persists { PowerLossChange::Survive } else { PowerLossChange::Forget };
        for namespace in namespaces {
            let Some(attached) = self.connection.shard.namespace(queue, namespace.nsid()).await else { continue };
            let desk = attached.desk.clone();
            let changed = offload(move || desk.change(|reservations| reservations.change_persistence(change))).await;
            match changed {
                Ok(outcome) => self.follow(queue, &attached, outcome).await,
                Err(status) => return status.into(),
            }
        }
        Answer::SUCCESS
    }

    async fn report(&self, attached: &Attached, command: &Command) -> Result<Answer, Status> {
        if command.cdw11.get() & EXTENDED == 0 {
            // Fabrics hosts have 128-bit identifiers, which only the extended structure can hold.
            return Err(Status::HOST_ID_INCONSISTENT.final_one());
        }
        // A host that asks for less than there is gets the beginning; one that asks for more gets zeros behind it.
        let wanted = (command.cdw10.get() as usize).saturating_add(1).saturating_mul(4);
        let mut data = attached.desk.report(|report| {
            let mut bytes = ReportHeader::new(&report).as_bytes().to_vec();
            for registrant in report.registrants() {
                bytes.extend_from_slice(Registered::new(&registrant).as_bytes());
            }
            bytes
        });
        if wanted > super::LARGEST_TRANSFER {
            return Err(Status::INVALID_FIELD.final_one());
        }
        self.check_destination(command, wanted)?;
        data.resize(wanted, 0);
        let len = data.len();
        let mut buffer = self.connection.link.reactor.buffers().take(len).await;
        buffer[..len].copy_from_slice(&data);
        Ok(Answer::Data { buffer, len })
    }
}

/// A registrant as controllers know their hosts.
fn connected(host: &HostId) -> subsystem::HostId {
    let mut id = [0; 16];
    id[..host.as_bytes().len()].copy_from_slice(host.as_bytes());
    subsystem::HostId(id)
}

fn notice_of(event: Event) -> ReservationNotice {
    match event {
        Event::RegistrationPreempted => ReservationNotice::RegistrationPreempted,
        Event::ReservationReleased => ReservationNotice::ReservationReleased,
        Event::ReservationPreempted => ReservationNotice::ReservationPreempted,
    }
}
