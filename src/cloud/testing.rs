//! For tests: a target in memory, and a process that dies at a chosen step.
//!
//! Durable steps are the writes of the store and the calls of the target. A [`Fate`] counts them, and from the chosen one on nothing works any more, as
//! for a process that was killed; half of the time the fatal step itself was still done. What is durable then is opened anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::backend::{
    Backend, BackendError, Caller, EncryptionContext, KeyChange, KeyState, KeyVersion, Made, MasterKey, NewDisk,
    NewHost, Opened, Sealed,
};
use super::category::Speed;
use super::config::{CloudConfig, CloudLimits, ZoneConfig};
use super::error::ApiError;
use super::params::Params;
use super::rows::{Account, Instance, InstanceState};
use super::service::{Call, Cloud};
use super::store::{Change, Ledger, Loaded, Store, StoreError};

/// When a process dies.
#[derive(Clone, Default)]
pub struct Fate(Arc<Mutex<FateState>>);

#[derive(Default)]
struct FateState {
    steps: u64,
    /// The step that is the last one, and whether it is still done.
    last: Option<(u64, bool)>,
}

/// What becomes of a step.
enum Step {
    /// It is done, and life goes on.
    Done,
    /// It is done, and nobody hears of it.
    DoneUnheard,
    /// It is not done.
    Dead,
}

impl Fate {
    /// To die at a step, counted from 0; `done` tells whether that one is still done.
    pub fn at(step: u64, done: bool) -> Self {
        Self(Arc::new(Mutex::new(FateState { steps: 0, last: Some((step, done)) })))
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    fn next(&self) -> Step {
        let mut state = self.state();
        let step = state.steps;
        state.steps += 1;
        match state.last {
            Some((last, true)) if step == last => Step::DoneUnheard,
            Some((last, _)) if step >= last => Step::Dead,
            _ => Step::Done,
        }
    }

    fn state(&self) -> MutexGuard<'_, FateState> {
        self.0.lock().expect("no test panics while it holds this lock")
    }
}

/// Rows by table and identifier.
type RowsByName = BTreeMap<(String, String), Vec<u8>>;

/// Rows that outlive the process.
#[derive(Clone, Default)]
pub struct Rows(Arc<Mutex<RowsByName>>);

struct MortalLedger {
    rows: Rows,
    fate: Fate,
}

impl Ledger for MortalLedger {
    fn load(&self) -> Result<Vec<Loaded>, StoreError> {
        let rows = self.rows.0.lock().expect("no test panics while it holds this lock");
        Ok(rows.iter().map(|((table, id), row)| (table.clone(), id.clone(), row.clone())).collect())
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let step = self.fate.next();
        if !matches!(step, Step::Dead) {
            let mut rows = self.rows.0.lock().expect("no test panics while it holds this lock");
            for Change { table, id, row } in changes {
                let key = ((*table).to_owned(), id.clone());
                match row {
                    Some(row) => drop(rows.insert(key, row.clone())),
                    None => drop(rows.remove(&key)),
                }
            }
        }
        match step {
            Step::Done => Ok(()),
            Step::DoneUnheard | Step::Dead => Err(StoreError::Lost("the process is dead".to_owned())),
        }
    }
}

/// A disk of the target in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeDisk {
    /// As it was made, with its size and speed of now.
    pub made: NewDisk,
    /// Its content: a word instead of blocks. Empty at first.
    pub content: String,
    /// The content that it was made with.
    pub first_content: String,
    /// The lineage of its key.
    pub lineage: Option<Uuid>,
    /// The hosts that see it.
    pub attached_to: BTreeSet<String>,
    /// Its namespace identifier.
    pub nsid: u32,
}

/// What the target has.
#[derive(Clone, Debug, Default)]
pub struct FakeState {
    /// Accounts.
    pub accounts: BTreeSet<String>,
    /// Hosts by name.
    pub hosts: BTreeMap<String, NewHost>,
    /// Disks by identifier.
    pub disks: BTreeMap<String, FakeDisk>,
    /// Snapshots by pool and name: content, bytes and lineage.
    pub snapshots: BTreeMap<(String, String), (String, u64, Option<Uuid>)>,
    /// Master keys.
    pub keys: Vec<MasterKey>,
    /// KMS calls: operation and object.
    pub calls: Vec<String>,
    /// The disks that hosts of others were switched to.
    pub switched: BTreeMap<String, String>,
    /// Disks that are filled by a conversion.
    pub filled: BTreeSet<String>,
    /// The KMS does not answer.
    pub kms_is_away: bool,
    /// The KMS does not let the service in.
    pub kms_refuses: bool,
}

/// A target in memory, which outlives the process.
#[derive(Clone, Default)]
pub struct FakeTarget {
    state: Arc<Mutex<FakeState>>,
    fate: Fate,
}

type Done<T> = Result<T, BackendError>;

impl FakeTarget {
    /// What it has now.
    pub fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().expect("no test panics while it holds this lock")
    }

    /// As the converter does it: hosts of a disk have another one.
    pub fn switch(&self, source: &str, destination: &str) -> Done<()> {
        self.step(|state| {
            let (old, new) = (state.disk(source)?.clone(), state.disk(destination)?.clone());
            let disk = state.disk(destination)?;
            (disk.attached_to, disk.nsid, disk.content) = (old.attached_to, old.nsid, old.content);
            let disk = state.disk(source)?;
            (disk.attached_to, disk.nsid) = (new.attached_to, new.nsid);
            state.filled.remove(destination);
            state.switched.insert(source.to_owned(), destination.to_owned());
            Ok(())
        })
    }

    /// One durable step.
    fn step<T>(&self, act: impl FnOnce(&mut FakeState) -> Done<T>) -> Done<T> {
        let dead = || BackendError::Failed("the process is dead".to_owned());
        match self.fate.next() {
            Step::Done => act(&mut self.state()),
            Step::DoneUnheard => act(&mut self.state()).and(Err(dead())),
            Step::Dead => Err(dead()),
        }
    }
}

impl FakeState {
    /// The KMS is asked.
    fn kms(&mut self, call: &str) -> Done<()> {
        if self.kms_is_away {
            return Err(BackendError::Unavailable("KMS fake does not answer".to_owned()));
        }
        if self.kms_refuses {
            return Err(BackendError::Refused("KMS fake refuses".to_owned()));
        }
        self.calls.push(call.to_owned());
        Ok(())
    }

    fn service_key(&mut self, account: &str) -> MasterKey {
        if let Some(key) = self.keys.iter().find(|key| key.is_service_key && key.account == account) {
            return key.clone();
        }
        self.new_key(account, true)
    }

    fn new_key(&mut self, account: &str, is_service_key: bool) -> MasterKey {
        let key = MasterKey {
            id: Uuid::new_v4().to_string(),
            account: account.to_owned(),
            is_service_key,
            state: KeyState::Enabled,
            versions: vec![KeyVersion { number: 1, created_at: 1 }],
            created_at: 1,
            deletion_at: None,
        };
        self.keys.push(key.clone());
        key
    }

    fn usable_key(&self, account: &str, id: &str) -> Done<&MasterKey> {
        let key = self.keys.iter().find(|key| key.id == id && key.account == account);
        let key = key.ok_or_else(|| BackendError::NoKey(id.to_owned()))?;
        if key.state != KeyState::Enabled {
            return Err(BackendError::KeyState { id: id.to_owned(), state: key.state });
        }
        Ok(key)
    }

    fn disk(&mut self, id: &str) -> Done<&mut FakeDisk> {
        self.disks.get_mut(id).ok_or_else(|| BackendError::NotFound(format!("there is no disk {id}")))
    }

    fn check_attachable(&self, disk: &str) -> Done<()> {
        match self.filled.contains(disk) || self.switched.contains_key(disk) {
            true => Err(BackendError::InUse(format!("disk {disk} is part of a conversion"))),
            false => Ok(()),
        }
    }

    /// The key of an encrypted disk is asked for.
    fn disk_key(&mut self, id: &str, what: &str) -> Done<()> {
        let disk = self.disk(id)?;
        let (account, encrypted, key) = (disk.made.account.clone(), disk.made.encrypted, disk.made.key_id.clone());
        if !encrypted {
            return Ok(());
        }
        self.kms(&format!("{what} {id}"))?;
        self.usable_key(&account, &key.expect("it has one")).map(drop)
    }
}

impl Backend for FakeTarget {
    fn add_account(&self, account: &str) -> Done<()> {
        self.step(|state| {
            state.accounts.insert(account.to_owned());
            Ok(())
        })
    }

    fn add_host(&self, host: &NewHost) -> Done<()> {
        self.step(|state| {
            state.hosts.insert(host.name.clone(), host.clone());
            Ok(())
        })
    }

    fn remove_host(&self, host: &str) -> Done<()> {
        self.step(|state| {
            if state.disks.values().any(|disk| disk.attached_to.contains(host)) {
                return Err(BackendError::Failed(format!("host {host} has disks")));
            }
            state.hosts.remove(host);
            Ok(())
        })
    }

    fn create_disk(&self, new: &NewDisk, _by: &Caller) -> Done<Made> {
        self.step(|state| {
            if let Some(there) = state.disks.get(&new.id) {
                return Ok(Made { key_id: there.made.key_id.clone(), nsid: there.nsid });
            }
            let mut made = new.clone();
            let (content, lineage) = match &new.source {
                Some(source) => {
                    let source = state.snapshots.get(&(new.pool.clone(), source.clone()));
                    let (content, _, lineage) = source
                        .cloned()
                        .ok_or_else(|| BackendError::NotFound("there is no such snapshot".to_owned()))?;
                    (content, lineage)
                }
                None => (String::new(), new.encrypted.then(Uuid::new_v4)),
            };
            if new.encrypted {
                state.kms(&format!("create {}", new.id))?;
                let key = match &new.key_id {
                    Some(key) => state.usable_key(&new.account, key)?.id.clone(),
                    None => state.service_key(&new.account).id,
                };
                state.usable_key(&new.account, &key)?;
                made.key_id = Some(key);
            }
            let key_id = made.key_id.clone();
            let of_account = |disk: &&FakeDisk| disk.made.account == new.account;
            let taken: BTreeSet<u32> = state.disks.values().filter(of_account).map(|disk| disk.nsid).collect();
            let nsid = (1..).find(|nsid| !taken.contains(nsid)).expect("there are many");
            let (first_content, attached_to) = (content.clone(), BTreeSet::new());
            let disk = FakeDisk { made, first_content, content, lineage, attached_to, nsid };
            state.disks.insert(new.id.clone(), disk);
            Ok(Made { key_id, nsid })
        })
    }

    fn delete_disk(&self, disk: &str, _by: &Caller) -> Done<()> {
        self.step(|state| {
            if state.disks.get(disk).is_some_and(|disk| !disk.attached_to.is_empty()) {
                return Err(BackendError::Failed(format!("disk {disk} is attached")));
            }
            state.disks.remove(disk);
            Ok(())
        })
    }

    fn attach(&self, disk: &str, host: &str, _by: &Caller) -> Done<()> {
        self.step(|state| {
            if !state.hosts.contains_key(host) {
                return Err(BackendError::NotFound(format!("there is no host {host}")));
            }
            if state.disk(disk)?.attached_to.contains(host) {
                return Ok(());
            }
            state.check_attachable(disk)?;
            state.disk_key(disk, "attach")?;
            let disk = state.disk(disk)?;
            if !disk.made.shared && !disk.attached_to.is_empty() {
                return Err(BackendError::Failed("it is not shared".to_owned()));
            }
            disk.attached_to.insert(host.to_owned());
            Ok(())
        })
    }

    fn detach(&self, disk: &str, host: &str, _by: &Caller) -> Done<()> {
        self.step(|state| {
            if let Some(disk) = state.disks.get_mut(disk) {
                disk.attached_to.remove(host);
            }
            Ok(())
        })
    }

    fn check_attachable(&self, disk: &str) -> Done<()> {
        self.state().check_attachable(disk)
    }

    fn check_deletable(&self, disk: &str) -> Done<()> {
        match self.state().filled.contains(disk) {
            true => Err(BackendError::InUse(format!("disk {disk} is filled by a conversion"))),
            false => Ok(()),
        }
    }

    fn switched_to(&self, disk: &str) -> Done<Option<String>> {
        Ok(self.state().switched.get(disk).cloned())
    }

    fn resize(&self, disk: &str, bytes: u64, speed: Speed) -> Done<()> {
        self.step(|state| {
            let made = &mut state.disk(disk)?.made;
            (made.bytes, made.speed) = (bytes.max(made.bytes), speed);
            Ok(())
        })
    }

    fn snapshot(&self, disk: &str, snapshot: &str, _by: &Caller) -> Done<()> {
        self.step(|state| {
            let FakeDisk { made, content, lineage, .. } = state.disk(disk)?.clone();
            let name = (made.pool.clone(), format!("{disk}@{snapshot}"));
            if !state.snapshots.contains_key(&name) {
                state.disk_key(disk, "snapshot")?;
                state.snapshots.insert(name, (content, made.bytes, lineage));
            }
            Ok(())
        })
    }

    fn delete_snapshot(&self, pool: &str, name: &str, _by: &Caller) -> Done<()> {
        self.step(|state| {
            state.snapshots.remove(&(pool.to_owned(), name.to_owned()));
            Ok(())
        })
    }

    fn snapshot_bytes(&self, pool: &str, name: &str) -> Option<u64> {
        self.state().snapshots.get(&(pool.to_owned(), name.to_owned())).map(|(content, ..)| content.len() as u64)
    }

    fn rollback(&self, disk: &str, snapshot: &str, _by: &Caller) -> Done<()> {
        self.step(|state| {
            state.disk_key(disk, "rollback")?;
            let name = (state.disk(disk)?.made.pool.clone(), format!("{disk}@{snapshot}"));
            let snapshot = state.snapshots.get(&name).cloned();
            let (content, ..) = snapshot.ok_or_else(|| BackendError::NotFound("no such snapshot".to_owned()))?;
            let disk = state.disk(disk)?;
            if !disk.attached_to.is_empty() {
                return Err(BackendError::Failed("it is attached".to_owned()));
            }
            disk.content = content;
            Ok(())
        })
    }

    fn reinitialise(&self, disk: &str, _by: &Caller) -> Done<()> {
        self.step(|state| {
            state.disk_key(disk, "reinitialise")?;
            let disk = state.disk(disk)?;
            if !disk.attached_to.is_empty() {
                return Err(BackendError::Failed("it is attached".to_owned()));
            }
            disk.content = disk.first_content.clone();
            Ok(())
        })
    }

    fn export_snapshot(&self, pool: &str, name: &str, to: &std::path::Path) -> Done<()> {
        self.step(|state| {
            let snapshot = state.snapshots.get(&(pool.to_owned(), name.to_owned()));
            let (content, ..) = snapshot.ok_or_else(|| BackendError::NotFound("no such snapshot".to_owned()))?;
            std::fs::write(to, content).map_err(|e| BackendError::Failed(e.to_string()))
        })
    }

    fn service_key(&self, account: &str, _by: &Caller) -> Done<MasterKey> {
        self.step(|state| {
            state.kms("service key")?;
            Ok(state.service_key(account))
        })
    }

    fn keys(&self, account: &str) -> Done<Vec<MasterKey>> {
        let mut state = self.state();
        state.kms("list")?;
        Ok(state.keys.iter().filter(|key| key.account == account).cloned().collect())
    }

    fn create_key(&self, account: &str, _by: &Caller) -> Done<MasterKey> {
        self.step(|state| {
            state.kms("create key")?;
            Ok(state.new_key(account, false))
        })
    }

    fn change_key(&self, account: &str, id: &str, change: KeyChange, _by: &Caller) -> Done<MasterKey> {
        self.step(|state| {
            state.kms("change key")?;
            let key = state.keys.iter_mut().find(|key| key.id == id && key.account == account);
            let key = key.ok_or_else(|| BackendError::NoKey(id.to_owned()))?;
            match change {
                KeyChange::Enable => key.state = KeyState::Enabled,
                KeyChange::Disable => key.state = KeyState::Disabled,
                KeyChange::ScheduleDeletion(days) => {
                    key.state = KeyState::PendingDeletion;
                    key.deletion_at = Some(u64::from(days) * 86_400);
                }
                KeyChange::CancelDeletion => (key.state, key.deletion_at) = (KeyState::Enabled, None),
                KeyChange::Rotate => {
                    let number = key.versions.len() as u32 + 1;
                    key.versions.push(KeyVersion { number, created_at: u64::from(number) });
                }
            }
            Ok(key.clone())
        })
    }

    fn seal(&self, account: &str, id: &str, plain: &[u8], context: &EncryptionContext, _by: &Caller) -> Done<Sealed> {
        let mut state = self.state();
        state.kms("seal")?;
        let version = state.usable_key(account, id)?.versions.len() as u32;
        let blob = serde_json::to_vec(&(id, version, account, context, plain)).expect("it is JSON");
        Ok(Sealed { blob, key_id: id.to_owned(), version })
    }

    fn new_data_key(
        &self,
        account: &str,
        id: &str,
        bytes: usize,
        context: &EncryptionContext,
        by: &Caller,
    ) -> Done<(Sealed, Zeroizing<Vec<u8>>)> {
        let plain = Zeroizing::new(vec![7; bytes]);
        Ok((self.seal(account, id, &plain, context, by)?, plain))
    }

    fn open(&self, account: &str, blob: &[u8], context: &EncryptionContext, _by: &Caller) -> Done<Opened> {
        type Content = (String, u32, String, EncryptionContext, Vec<u8>);
        let mut state = self.state();
        state.kms("open")?;
        let not_authentic =
            || BackendError::NotAuthentic("what was sealed is damaged or bound to something else".to_owned());
        let (id, version, owner, sealed_context, plain): Content =
            serde_json::from_slice(blob).map_err(|_| not_authentic())?;
        if owner != account || sealed_context != *context {
            return Err(not_authentic());
        }
        state.usable_key(account, &id)?;
        Ok(Opened { plain: Zeroizing::new(plain), key_id: id, version })
    }
}

/// What outlives a process: the store's rows and the target.
#[derive(Clone, Default)]
pub struct Site {
    rows: Rows,
    target: FakeTarget,
    /// The time, in seconds since 1970.
    pub clock: Arc<AtomicU64>,
    /// What accounts may have.
    pub limits: CloudLimits,
    /// Where images are exported to.
    pub export_dir: Option<std::path::PathBuf>,
}

/// The zone of tests; a second one is `zone-b`.
pub const ZONE: &str = "zone-a";
/// The region of tests.
pub const REGION: &str = "cn-test";

impl Site {
    /// A site with the accounts `acme` and `other`, of which the first has opened the KMS.
    pub fn new() -> Self {
        let site = Self::default();
        site.clock.store(1_528_351_734, Ordering::Relaxed);
        let cloud = site.open();
        let made = cloud.store().change(|world| -> Result<(), ApiError> {
            for (name, kms_opened) in [("acme", true), ("other", false)] {
                world.accounts.put(name, Account { name: name.to_owned(), created_at: 1, kms_opened });
            }
            Ok(())
        });
        made.expect("it lives");
        site
    }

    /// The target.
    pub fn target(&self) -> MutexGuard<'_, FakeState> {
        self.target.state()
    }

    /// What switches hosts in a process with a fate.
    pub fn converter(&self, fate: &Fate) -> FakeTarget {
        FakeTarget { state: self.target.state.clone(), fate: fate.clone() }
    }

    /// A process that does not die.
    pub fn open(&self) -> Cloud {
        self.open_until(&Fate::default())
    }

    /// A process with a fate. It has not recovered yet.
    pub fn open_until(&self, fate: &Fate) -> Cloud {
        let ledger = MortalLedger { rows: self.rows.clone(), fate: fate.clone() };
        let store = Store::open(Box::new(ledger)).expect("rows can be read");
        let target = FakeTarget { state: self.target.state.clone(), fate: fate.clone() };
        let zone = |name: &str| ZoneConfig { name: name.to_owned(), pool: "p0".to_owned() };
        let config = CloudConfig {
            state_dir: "".into(),
            zones: vec![zone(ZONE), zone("zone-b")],
            limits: self.limits.clone(),
            api: None,
            export_dir: self.export_dir.clone(),
        };
        let clock = self.clock.clone();
        let now = Box::new(move || clock.load(Ordering::Relaxed));
        Cloud::with_clock(REGION, config, Arc::new(store), Arc::new(target), now)
    }

    /// A copy of everything, that goes its own way from here.
    pub fn fork(&self) -> Self {
        let rows = self.rows.0.lock().expect("no test panics while it holds this lock").clone();
        let state = self.target.state().clone();
        let target = FakeTarget { state: Arc::new(Mutex::new(state)), fate: Fate::default() };
        let clock = Arc::new(AtomicU64::new(self.clock.load(Ordering::Relaxed)));
        let (limits, export_dir) = (self.limits.clone(), self.export_dir.clone());
        Self { rows: Rows(Arc::new(Mutex::new(rows))), target, clock, limits, export_dir }
    }
}

/// Has an account ask for an operation of ECS.
pub fn ask_as(cloud: &Cloud, account: &str, action: &str, params: &[(&str, &str)]) -> Result<Value, ApiError> {
    let caller = Caller { account: account.to_owned(), access_key: "test".to_owned() };
    let params: Params = params.iter().copied().collect();
    let operation =
        super::ecs::OPERATIONS.iter().find(|(name, _)| *name == action).expect("there is such an operation");
    operation.1(cloud, &Call { caller: &caller, action, params: &params, now: cloud.now() })
}

/// Has `acme` ask.
pub fn ask(cloud: &Cloud, action: &str, params: &[(&str, &str)]) -> Result<Value, ApiError> {
    ask_as(cloud, "acme", action, params)
}

/// The code and status of a refusal.
pub fn refusal(answer: Result<Value, ApiError>) -> (String, u16) {
    let error = answer.expect_err("it is refused");
    (error.code.into_owned(), error.status)
}

/// Makes an instance in the store and at the target without an operation.
pub fn new_instance(cloud: &Cloud, id: &str, state: InstanceState) -> String {
    let host_id = Uuid::new_v4();
    let instance = Instance {
        id: id.to_owned(),
        account: "acme".to_owned(),
        zone: ZONE.to_owned(),
        name: id.to_owned(),
        description: String::new(),
        instance_type: "ecs.test".to_owned(),
        image: String::new(),
        state,
        nqn: format!("nqn.2014-08.org.nvmexpress:uuid:{host_id}"),
        host_id,
        dhchap_secret: None,
        was_started: true,
        created_at: cloud.now(),
        started_at: Some(cloud.now()),
        tags: Vec::new(),
    };
    let host = NewHost {
        name: id.to_owned(),
        account: instance.account.clone(),
        nqn: instance.nqn.clone(),
        host_id,
        dhchap_secret: None,
    };
    cloud.backend().add_host(&host).expect("it lives");
    let put = cloud.store().change(|world| -> Result<(), ApiError> {
        world.instances.put(id, instance);
        Ok(())
    });
    put.expect("it lives");
    id.to_owned()
}
