//! A target with a cloud is killed at random moments while accounts change their disks, snapshots and instances. What had been answered is there when
//! it is back; what had not is done once or not at all, and said again with its token it comes to the same. The cloud, the pool and the exports agree.
//!
//! `STRONGROOM_SEED` repeats a run and `STRONGROOM_KILL_ROUNDS` makes it longer.

mod keeper;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/nbd_client.rs"]
mod nbd_client;
mod operator;
#[path = "common/random.rs"]
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use keeper::json_of;
use operator::{PATIENCE, Target, command};
use random::Random;
use serde_json::{Value, json};
use strongroom::cloud::{DatabaseFile, Store};

const ACCOUNTS: [&str; 3] = ["acme", "umbrella", "wayne"];
/// Disks, and snapshots, that an account has at most.
const MOST: usize = 6;
const GIB: u64 = 1 << 30;

const SITE: &str = "[reactor]\nmemory_mib = 64\nhugepages = 'never'\n[control]\nsocket = 'c'\n\
    [[device]]\nname = 'f'\nkind = 'file'\npath = 'pool'\nsize = '512M'\ncreate = true\n\
    [[pool]]\nname = 'p'\ndevice = 'f'\ncreate = true\n\
    [kms]\naudit_log = 'audit.log'\n\
    [kms.embedded]\npath = 'keys.store'\ncreate = true\nunlock = { passphrase = 'file:passphrase' }\n\
    [nvme_tcp]\nlisten = ['127.0.0.1:0']\n\
    [cloud]\nstate_dir = 'cloud'\n[[cloud.zone]]\nname = 'z'\npool = 'p'\n";

/// An operation with its parameters.
type Request = (&'static str, BTreeMap<&'static str, String>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Disk {
    gib: u64,
    encrypted: bool,
    source: String,
    instance: String,
    was_used: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Snapshot {
    disk: String,
    gib: u64,
    encrypted: bool,
}

/// What an account knows that it has: what it was answered.
struct Account {
    name: &'static str,
    random: Random,
    disks: BTreeMap<String, Disk>,
    snapshots: BTreeMap<String, Snapshot>,
    /// Whether each runs.
    instances: BTreeMap<String, bool>,
    answered: Vec<(Request, Value)>,
    /// What was asked when the target died.
    pending: Option<Request>,
}

/// A connection to the control socket of a target that may die.
struct Wire(BufReader<UnixStream>);

impl Wire {
    fn open(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        Some(Self(BufReader::new(stream)))
    }

    /// The answer; nothing if the target has died.
    fn call(&mut self, account: &str, (action, params): &Request) -> Option<Value> {
        let call = json!({"account": account, "action": action, "params": params});
        let request = json!({"jsonrpc": "2.0", "method": "cloud.call", "params": call, "id": 1});
        self.0.get_mut().write_all(format!("{request}\n").as_bytes()).ok()?;
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("{account}: {action} hangs"),
            Ok(_) if line.ends_with('\n') => {}
            _ => return None,
        }
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        assert!(answer["error"].is_null(), "{account}: {action} {params:?} is refused: {answer}");
        Some(answer["result"].clone())
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

fn pick<'m, T>(random: &mut Random, of: &'m BTreeMap<String, T>) -> Option<(&'m String, &'m T)> {
    of.iter().nth(random.below(of.len().max(1) as u64) as usize)
}

impl Account {
    fn new(name: &'static str, seed: u64) -> Self {
        let (disks, snapshots, instances, answered, pending) = Default::default();
        Self { name, random: Random(seed), disks, snapshots, instances, answered, pending }
    }

    /// Changes what it has until the target dies.
    fn drive(&mut self, socket: &Path) {
        let Some(mut wire) = Wire::open(socket) else { return };
        loop {
            let request = self.choose();
            self.pending = Some(request);
            if !self.ask_pending(&mut wire) {
                return;
            }
        }
    }

    /// Asks what is pending, and keeps the answer. False if the target has died.
    fn ask_pending(&mut self, wire: &mut Wire) -> bool {
        let Some(request) = &self.pending else { return true };
        let Some(answer) = wire.call(self.name, request) else { return false };
        let request = self.pending.take().expect("it was just there");
        self.apply(&request, &answer);
        self.answered.push((request, answer));
        true
    }

    fn choose(&mut self) -> Request {
        loop {
            let mut random = Random(self.random.next());
            if let Some((action, params)) = self.maybe(&mut random) {
                let mut params: BTreeMap<_, _> = params.into_iter().collect();
                params.insert("ClientToken", format!("{:016x}", self.random.next()));
                return (action, params);
            }
        }
    }

    /// A request that has to succeed, unless the dice ask for one that would not.
    fn maybe(&self, random: &mut Random) -> Option<(&'static str, Vec<(&'static str, String)>)> {
        let word = |text: &str| text.to_owned();
        let runs = |instance: &str| self.instances.get(instance) == Some(&true);
        let has_room = self.disks.len() < MOST;
        let (instance, running) = pick(random, &self.instances)?;
        let new = |gib: u64| vec![("DiskCategory", word("cloud_ssd")), ("Size", gib.to_string())];
        let kind = random.below(13);
        if kind < 2 {
            let encrypted = ("Encrypted", random.one_in(2).to_string());
            return has_room.then(|| ("CreateDisk", [new(20), vec![encrypted]].concat()));
        }
        if kind == 2 {
            return Some(match running {
                true => ("StopInstance", vec![("InstanceId", instance.clone())]),
                false => ("StartInstance", vec![("InstanceId", instance.clone())]),
            });
        }
        if kind < 6 && !self.snapshots.is_empty() {
            let (id, snapshot) = pick(random, &self.snapshots)?;
            let it = ("SnapshotId", id.clone());
            return match kind {
                3 => has_room.then(|| ("CreateDisk", [new(snapshot.gib + random.below(2)), vec![it]].concat())),
                4 => {
                    let rests = self.disks.get(&snapshot.disk).is_some_and(|disk| !runs(&disk.instance));
                    rests.then(|| ("ResetDisk", vec![("DiskId", snapshot.disk.clone()), it]))
                }
                _ => Some(("DeleteSnapshot", vec![it, ("Force", word("true"))])),
            };
        }
        let (id, disk) = pick(random, &self.disks)?;
        let it = ("DiskId", id.clone());
        let is_free = disk.instance.is_empty();
        match kind {
            6 | 7 => is_free.then(|| ("AttachDisk", vec![it, ("InstanceId", instance.clone())])),
            8 => (!is_free).then(|| ("DetachDisk", vec![it, ("InstanceId", disk.instance.clone())])),
            9 | 10 if disk.was_used && self.snapshots.len() < MOST => Some(("CreateSnapshot", vec![it])),
            11 if !is_free => {
                let source_is_there = disk.source.is_empty() || self.snapshots.contains_key(&disk.source);
                (!runs(&disk.instance) && source_is_there).then(|| ("ReInitDisk", vec![it]))
            }
            11 => Some(("DeleteDisk", vec![it])),
            12 => {
                let way = if runs(&disk.instance) { "online" } else { "offline" };
                Some(("ResizeDisk", vec![it, ("NewSize", (disk.gib + 1).to_string()), ("Type", word(way))]))
            }
            _ => None,
        }
    }

    fn apply(&mut self, (action, params): &Request, answer: &Value) {
        let param = |name: &str| params.get(name).cloned().unwrap_or_default();
        let (disk, snapshot, instance) = (param("DiskId"), param("SnapshotId"), param("InstanceId"));
        match *action {
            "CreateDisk" => {
                let source = self.snapshots.get(&snapshot);
                let encrypted = source.map_or(param("Encrypted") == "true", |source| source.encrypted);
                let gib = param("Size").parse().expect("a number");
                let made = Disk { gib, encrypted, source: snapshot, ..Disk::default() };
                assert!(self.disks.insert(text(answer, "DiskId"), made).is_none(), "{answer}: made twice");
            }
            "CreateSnapshot" => {
                let of = &self.disks[&disk];
                let made = Snapshot { disk, gib: of.gib, encrypted: of.encrypted };
                assert!(self.snapshots.insert(text(answer, "SnapshotId"), made).is_none(), "{answer}: made twice");
            }
            "DeleteDisk" => drop(self.disks.remove(&disk)),
            "DeleteSnapshot" => drop(self.snapshots.remove(&snapshot)),
            "StartInstance" | "StopInstance" => drop(self.instances.insert(instance, *action == "StartInstance")),
            "ResetDisk" | "ReInitDisk" => {}
            change => {
                let of = self.disks.get_mut(&disk).expect("it was asked for by who has it");
                match change {
                    "AttachDisk" => (of.instance, of.was_used) = (instance, true),
                    "DetachDisk" => of.instance.clear(),
                    "ResizeDisk" => of.gib = param("NewSize").parse().expect("a number"),
                    _ => unreachable!("{action}"),
                }
            }
        }
    }

    fn describe(&self, wire: &mut Wire, action: &'static str, names: (&str, &str)) -> Vec<Value> {
        let answer = wire.call(self.name, &(action, [("PageSize", "100".to_owned())].into())).expect("it lives");
        let list = answer[names.0][names.1].as_array().expect("a list").clone();
        assert_eq!(answer["TotalCount"], list.len());
        list
    }

    /// What the cloud shows has to be what was answered, and nothing may be under way. Returns all disks, those of instances too.
    fn check(&self, wire: &mut Wire) -> Vec<Value> {
        let all = self.describe(wire, "DescribeDisks", ("Disks", "Disk"));
        let mut disks = self.disks.clone();
        for disk in all.iter().filter(|disk| disk["Type"] == "data") {
            let id = text(disk, "DiskId");
            let status = if text(disk, "InstanceId").is_empty() { "Available" } else { "In_use" };
            assert_eq!(text(disk, "Status"), status, "{disk}");
            assert_eq!(disk["Encrypted"] == true, !text(disk, "KMSKeyId").is_empty(), "{disk}");
            let known = disks.remove(&id).unwrap_or_else(|| panic!("nobody was told of {disk}"));
            let shown = Disk {
                gib: disk["Size"].as_u64().expect("a number"),
                encrypted: disk["Encrypted"] == true,
                source: text(disk, "SourceSnapshotId"),
                instance: text(disk, "InstanceId"),
                was_used: known.was_used,
            };
            assert_eq!(shown, known, "{id}");
        }
        assert!(disks.is_empty(), "lost: {disks:?}");
        let snapshots = self.describe(wire, "DescribeSnapshots", ("Snapshots", "Snapshot")).into_iter();
        let snapshots = snapshots.map(|shown| {
            assert_eq!(text(&shown, "Status"), "accomplished", "{shown}");
            let gib = text(&shown, "SourceDiskSize").parse().expect("a number");
            let snapshot = Snapshot { disk: text(&shown, "SourceDiskId"), gib, encrypted: shown["Encrypted"] == true };
            (text(&shown, "SnapshotId"), snapshot)
        });
        assert_eq!(snapshots.collect::<BTreeMap<_, _>>(), self.snapshots);
        let instances = self.describe(wire, "DescribeInstances", ("Instances", "Instance")).into_iter();
        let instances = instances.map(|shown| {
            let status = text(&shown, "Status");
            assert!(["Running", "Stopped"].contains(&status.as_str()), "{shown}");
            (text(&shown, "InstanceId"), status == "Running")
        });
        assert_eq!(instances.collect::<BTreeMap<_, _>>(), self.instances);
        all
    }

    /// What was answered to a token is answered again, and changes nothing.
    fn repeat_some(&mut self, wire: &mut Wire) {
        for _ in 0..4.min(self.answered.len()) {
            let (request, answer) = &self.answered[self.random.below(self.answered.len() as u64) as usize];
            assert_eq!(wire.call(self.name, request).as_ref(), Some(answer), "{request:?}");
        }
    }
}

/// After a restart: nothing is under way, the pool has what the cloud has, and hosts see what their running instances have.
fn check(target: &Target, accounts: &mut [Account]) {
    let mut wire = Wire::open(&target.socket()).expect("it listens");
    check_pool(target, &mut wire, accounts);
    for account in accounts.iter_mut() {
        assert!(account.ask_pending(&mut wire));
        account.repeat_some(&mut wire);
    }
    check_pool(target, &mut wire, accounts);
    accounts.iter().for_each(|account| drop(account.check(&mut wire)));
}

fn check_pool(target: &Target, wire: &mut Wire, accounts: &[Account]) {
    let (mut volumes, mut snapshots, mut seen) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for account in accounts {
        let running: BTreeSet<_> = account
            .describe(wire, "DescribeInstances", ("Instances", "Instance"))
            .iter()
            .filter(|instance| instance["Status"] == "Running")
            .map(|instance| text(instance, "InstanceId"))
            .collect();
        for disk in account.describe(wire, "DescribeDisks", ("Disks", "Disk")) {
            let (id, instance) = (text(&disk, "DiskId"), text(&disk, "InstanceId"));
            assert!(["Available", "In_use"].contains(&text(&disk, "Status").as_str()), "{disk}");
            volumes.insert(id.clone(), disk["Size"].as_u64().expect("a number") * GIB);
            seen.extend(running.contains(&instance).then_some((id, instance)));
        }
        for snapshot in account.describe(wire, "DescribeSnapshots", ("Snapshots", "Snapshot")) {
            assert_eq!(snapshot["Status"], "accomplished", "{snapshot}");
            snapshots.insert(format!("{}@{}", text(&snapshot, "SourceDiskId"), text(&snapshot, "SnapshotId")));
        }
    }
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let pool = json_of(target, &["pool", "show", "p"]);
    let contents = list(&pool["contents"]).into_iter().filter(|volume| volume["kind"] == "volume");
    let there = contents.map(|volume| (text(&volume, "name"), volume["size_bytes"].as_u64().expect("a number")));
    assert_eq!(there.collect::<BTreeMap<_, _>>(), volumes, "volumes of the pool, and disks of the cloud");
    let there = list(&json_of(target, &["snapshot", "list"])).into_iter().map(|snapshot| text(&snapshot, "name"));
    assert_eq!(there.collect::<BTreeSet<_>>(), snapshots, "snapshots of the pool, and of the cloud");
    let exports = json_of(target, &["export", "list"]);
    let subsystems = list(&exports["nvme_tcp"]["subsystems"]);
    let namespaces = subsystems.iter().flat_map(|subsystem| list(&subsystem["namespaces"]));
    let exported = namespaces.flat_map(|namespace| {
        let host = |host: &Value| (text(&namespace, "disk"), host.as_str().expect("a text").to_owned());
        list(&namespace["attached_to"]).iter().map(host).collect::<Vec<_>>()
    });
    assert_eq!(exported.collect::<BTreeSet<_>>(), seen, "what hosts see, and what running instances have");
}

/// The operations that a target has left unfinished when it ended. Its store stays as it is: a copy is looked at.
fn unfinished(dir: &Path) -> usize {
    let copy = dir.join("copy");
    std::fs::copy(dir.join("cloud/cloud.redb"), &copy).expect("copied");
    let store = Store::open(Box::new(DatabaseFile::open(&copy).expect("it opens"))).expect("it is read");
    store.read(|world| world.intents.iter().count())
}

#[test]
fn whatever_was_answered_is_there_after_any_kill() {
    let seed = Random::seed("STRONGROOM_SEED");
    let rounds: u64 = std::env::var("STRONGROOM_KILL_ROUNDS").map_or(12, |text| text.parse().expect("a number"));
    let mut random = Random(seed);
    let mut accounts = ACCOUNTS.map(|name| Account::new(name, random.next()));
    let mut target = Target::start_with(keeper::folder(), SITE);
    for account in &mut accounts {
        target.done(&["account", "add", account.name]);
        target.done(&["account", "open-kms", account.name]);
        for _ in 0..2 {
            let id = target.done(&["instance", "create", "--account", account.name]).trim().to_owned();
            account.instances.insert(id, true);
        }
    }
    let mut left = 0;
    for round in 0..rounds {
        let socket = target.socket();
        let dir = std::thread::scope(|scope| {
            let drivers = accounts.each_mut().map(|account| scope.spawn(|| account.drive(&socket)));
            std::thread::sleep(Duration::from_millis(50 + random.below(700)));
            let dir = target.kill();
            drivers.into_iter().for_each(|driver| driver.join().expect("no panic"));
            dir
        });
        let unfinished = unfinished(dir.path());
        let answered: usize = accounts.iter().map(|account| account.answered.len()).sum();
        println!("round {round}: {answered} answers so far, {unfinished} operations cut");
        left += unfinished;
        target = Target::start_with(dir, SITE);
        check(&target, &mut accounts);
    }
    assert!(left > 0 || rounds < 12, "no kill came between");
    let dir = target.stop();
    assert_eq!(self::unfinished(dir.path()), 0);
    let pool = dir.path().join("pool");
    let (out, err, code) = command(&["pool", "check", pool.to_str().expect("text")], Path::new("/nowhere"));
    assert_eq!(code, 0, "{out}{err}");
}
