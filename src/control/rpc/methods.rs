//! The methods: the one list of what can be asked, with everything that has to be known to ask it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control::target::Target;
use crate::kms::audit::Actor;

use super::refusal::{Kind, Refusal};

/// What can be asked.
pub struct Method {
    /// Its name: noun and verb.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What it takes, in the order in which parameters by position have to come.
    pub params: &'static [Param],
    /// What it answers.
    pub result: &'static str,
    /// Parameters that show its use.
    pub example: &'static str,
    /// Whether it changes the target; this is logged.
    pub(super) changes: bool,
    pub(super) run: fn(&Target, Actor, Value) -> Result<Value, Refusal>,
}

/// A parameter.
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// Its JSON type.
    pub kind: &'static str,
    /// Whether it has to be there.
    pub required: bool,
    /// What it means.
    pub about: &'static str,
}

const fn needs(name: &'static str, kind: &'static str, about: &'static str) -> Param {
    Param { name, kind, required: true, about }
}

const fn takes(name: &'static str, kind: &'static str, about: &'static str) -> Param {
    Param { name, kind, required: false, about }
}

const DISK: Param = needs("name", "string", "the disk");
const POOL: Param = needs("name", "string", "the pool");
const POOL_IF_SEVERAL: Param = takes("pool", "string", "the pool; needed if several have what is named");
const KEY: Param = needs("key", "string", "the master key; or an account, for its service key");
const SERVICE_KEY_TOO: Param =
    takes("service_key_too", "boolean", "has to be true for a service key: all disks of its account depend on it");
const ACCESS_KEY: Param = needs("id", "string", "the access key");
const HOST: Param = needs("host", "string", "the host");

/// All methods, in the order of their names.
pub static METHODS: &[Method] = &[
    Method {
        name: "access_key.add",
        about: "make an access key, by which requests of an account to the cloud API are signed",
        params: &[
            needs("account", "string", "the account"),
            takes("id", "string", "its identifier; one is made, if left out"),
            needs("secret", "string", "where its secret lies: file:PATH, env:NAME or credential:NAME"),
        ],
        result: "the access key, with where its secret lies",
        example: r#"{"account": "acme", "secret": "file:/etc/strongroom/acme.secret"}"#,
        changes: true,
        run: |target, _, params| reply(target.add_access_key(take(params)?)?),
    },
    Method {
        name: "access_key.disable",
        about: "take no more requests that an access key has signed",
        params: &[ACCESS_KEY],
        result: "the access key",
        example: r#"{"id": "AKEXAMPLE"}"#,
        changes: true,
        run: |target, _, params| reply(target.enable_access_key(&take(params)?, false)?),
    },
    Method {
        name: "access_key.enable",
        about: "take requests that an access key has signed again",
        params: &[ACCESS_KEY],
        result: "the access key",
        example: r#"{"id": "AKEXAMPLE"}"#,
        changes: true,
        run: |target, _, params| reply(target.enable_access_key(&take(params)?, true)?),
    },
    Method {
        name: "access_key.list",
        about: "list access keys, with where their secrets lie",
        params: &[takes("account", "string", "the account; all, if left out")],
        result: "an array of access keys",
        example: "{}",
        changes: false,
        run: |target, _, params| reply(target.access_keys(&take(params)?)?),
    },
    Method {
        name: "access_key.remove",
        about: "forget an access key; its secret stays where it lies",
        params: &[ACCESS_KEY],
        result: "the identifier",
        example: r#"{"id": "AKEXAMPLE"}"#,
        changes: true,
        run: |target, _, params| reply(target.remove_access_key(&take(params)?)?),
    },
    Method {
        name: "account.add",
        about: "add an account",
        params: &[needs("name", "string", "its name: letters, digits, '-', '_' and '.'")],
        result: "the account",
        example: r#"{"name": "acme"}"#,
        changes: true,
        run: |target, _, params| reply(target.new_account(&take(params)?)?),
    },
    Method {
        name: "account.list",
        about: "list accounts with their hosts and disks",
        params: &[],
        result: "an array of accounts",
        example: "{}",
        changes: false,
        run: |target, _, params| nothing(params, || reply(target.accounts())),
    },
    Method {
        name: "cloud.call",
        about: "carry out an operation of the cloud API for an account, without a signature",
        params: &[
            takes("account", "string", "for which account; that of what is named, or the only one, if left out"),
            takes("product", "string", "ecs or kms; ecs, if left out"),
            needs("action", "string", "the operation, such as CreateDisk"),
            takes("params", "object", "its parameters, as the API has them"),
        ],
        result: "what the API answers",
        example: r#"{"account": "acme", "action": "DescribeDisks", "params": {"PageSize": 50}}"#,
        changes: true,
        run: |target, actor, params| reply(target.cloud_call(&take(params)?, actor)?),
    },
    Method {
        name: "connection.list",
        about: "list the controllers that hosts have: who, on which connections, and how long silent",
        params: &[],
        result: "an array of controllers",
        example: "{}",
        changes: false,
        run: |target, _, params| nothing(params, || reply(target.controllers())),
    },
    Method {
        name: "disk.add",
        about: "open a disk on a device of its own, or on a volume that is there",
        params: &[
            needs("disk", "object", "the keys of [[disk]] in the configuration"),
            takes("device", "object", "the keys of [[device]] in the configuration, unless the disk names a pool"),
        ],
        result: "the disk",
        example: r#"{"disk": {"name": "scratch", "device": "scratch", "encryption": "none"}, "device": {"name": "scratch", "kind": "memory", "size": "64 MiB"}}"#,
        changes: true,
        run: |target, actor, params| reply(target.add_disk(take(params)?, actor)?),
    },
    Method {
        name: "disk.attach",
        about: "let a host see a disk as a namespace",
        params: &[DISK, HOST],
        result: "the disk",
        example: r#"{"name": "vol0", "host": "web1"}"#,
        changes: true,
        run: |target, actor, params| reply(target.attach(&outside(target, params)?, actor)?),
    },
    Method {
        name: "disk.conversions",
        about: "list the conversions since the target was started: how far they are, or how they ended",
        params: &[],
        result: "an array of conversions",
        example: "{}",
        changes: false,
        run: |target, _, params| nothing(params, || reply(target.conversion_reports())),
    },
    Method {
        name: "disk.convert",
        about: "copy a disk in a pool to another one that is encrypted, or is not, while hosts go on writing; or go on with that",
        params: &[
            needs("source", "string", "the disk"),
            needs(
                "destination",
                "string",
                "the disk to copy to: made, unless it is there and empty or was begun before",
            ),
            needs("encryption", "string", "of the destination: \"kms\" or \"none\""),
            takes("pool", "string", "the pool that it is made in; the source's, if left out"),
            takes("switch", "boolean", "in the end the source's hosts go on with the destination, and do not notice"),
            takes("verify", "boolean", "read all that was copied again, and compare"),
        ],
        result: "the conversion, which goes on: `disk.convert_status` tells how far it is",
        example: r#"{"source": "vol0", "destination": "vol0-encrypted", "encryption": "kms", "switch": true}"#,
        changes: true,
        run: |target, actor, params| reply(target.convert(take(params)?, actor)?),
    },
    Method {
        name: "disk.convert_cancel",
        about: "end a conversion and delete its destination; or use a disk again from which hosts were switched",
        params: &[
            needs("name", "string", "the conversion's destination, or the disk that hosts were switched from"),
            takes("keep", "boolean", "keep the destination, with the content of the last round"),
        ],
        result: "the name",
        example: r#"{"name": "vol0-encrypted"}"#,
        changes: true,
        run: |target, actor, params| reply(target.cancel_conversion(&take(params)?, actor)?),
    },
    Method {
        name: "disk.convert_status",
        about: "tell how far a conversion is, or how it ended",
        params: &[needs("name", "string", "its destination")],
        result: "the conversion: phase, round, bytes_done, bytes_total, bytes_per_s, ended, and error if it failed",
        example: r#"{"name": "vol0-encrypted"}"#,
        changes: false,
        run: |target, _, params| reply(target.conversion(&take(params)?)?),
    },
    Method {
        name: "disk.create",
        about: "make a volume in a pool, and open it as a disk",
        params: &[
            needs("name", "string", "its name, and that of the volume"),
            needs("pool", "string", "the pool"),
            takes("size", "number or string", "bytes, such as \"20 GiB\"; they take space when they are written"),
            takes("from_snapshot", "string", "disk@snapshot: begin with its content, instead of a size"),
            takes("sector_size", "number", "512 or 4096; 4096, or as the snapshot, if left out"),
            takes(
                "encryption",
                "object or string",
                "\"kms\", {\"key_file\": …} or \"none\"; with from_snapshot as the disk that it is of, if left out",
            ),
            takes("account", "string", "whose disk it is"),
            takes("shared", "boolean", "several hosts may have it at once"),
            takes("attached_to", "array", "the hosts that see it"),
            takes("limits", "object", "how fast it may be: {iops, bytes_per_second}; as fast as it can, if left out"),
            takes("master_key", "string", "the key that wraps its key; its account's service key, if left out"),
            takes("nsid", "number", "the namespace identifier; the lowest free one, if left out"),
            takes("uuid", "string", "the identity that hosts know it by; derived from its names, if left out"),
        ],
        result: "the disk",
        example: r#"{"name": "vol2", "pool": "p0", "size": "20 GiB", "encryption": "none"}"#,
        changes: true,
        run: |target, actor, params| reply(target.create_disk(take(params)?, actor)?),
    },
    Method {
        name: "disk.delete",
        about: "close a disk that nobody sees, and delete its volume: its content is gone, its snapshots stay",
        params: &[DISK],
        result: "the name",
        example: r#"{"name": "vol2"}"#,
        changes: true,
        run: |target, actor, params| reply(target.delete_disk(&outside(target, params)?, actor)?),
    },
    Method {
        name: "disk.detach",
        about: "take a disk from a host, once the commands that it has sent are finished",
        params: &[DISK, HOST],
        result: "the disk",
        example: r#"{"name": "vol0", "host": "web1"}"#,
        changes: true,
        run: |target, actor, params| reply(target.detach(&outside(target, params)?, actor)?),
    },
    Method {
        name: "disk.list",
        about: "list disks",
        params: &[],
        result: "an array of disks",
        example: "{}",
        changes: false,
        run: |target, _, params| nothing(params, || reply(target.disks())),
    },
    Method {
        name: "disk.reinitialise",
        about: "give a disk in a pool what it began with: nothing, or the snapshot that it was made from; nobody may have it meanwhile",
        params: &[DISK],
        result: "the disk",
        example: r#"{"name": "vol0"}"#,
        changes: true,
        run: |target, actor, params| reply(target.reinitialise(&outside(target, params)?, actor)?),
    },
    Method {
        name: "disk.remove",
        about: "close a disk that nobody sees, and its device; its content stays where it is",
        params: &[DISK],
        result: "the name",
        example: r#"{"name": "scratch"}"#,
        changes: true,
        run: |target, _, params| reply(target.remove_disk(&outside(target, params)?)?),
    },
    Method {
        name: "disk.resize",
        about: "make a disk larger, or smaller if it lies in a pool, or look again how large its file or block device is",
        params: &[
            DISK,
            takes("size", "number or string", "the new size, such as \"2 GiB\"; look again, if left out"),
            takes(
                "shrink",
                "boolean",
                "it may become smaller: what lies behind the new end is lost; nobody may have it meanwhile",
            ),
        ],
        result: "the disk",
        example: r#"{"name": "vol0", "size": "2 GiB"}"#,
        changes: true,
        run: |target, _, params| reply(target.resize(&outside(target, params)?)?),
    },
    Method {
        name: "disk.show",
        about: "show one disk with what it stands on",
        params: &[DISK],
        result: "the disk, with `kernel`, `device_is` and, in a pool, `volume`: own and shared bytes, and snapshots",
        example: r#"{"name": "vol0"}"#,
        changes: false,
        run: |target, _, params| reply(target.disk(&take(params)?)?),
    },
    Method {
        name: "export.list",
        about: "show where the target listens and what is found there",
        params: &[],
        result: "an object with one key for each export that the configuration has",
        example: "{}",
        changes: false,
        run: |target, _, params| nothing(params, || reply(target.exports())),
    },
    Method {
        name: "host.add",
        about: "let a host connect to its account's subsystem",
        params: &[
            needs("name", "string", "the name that disks are attached to"),
            needs("account", "string", "the account that it belongs to"),
            needs("nqn", "string", "the NVMe Qualified Name that it connects with"),
            takes("host_id", "string", "the identifier that it has to connect with; any, if left out"),
            takes(
                "dhchap_secret",
                "string",
                "where its DH-HMAC-CHAP secret lies: file:PATH, env:NAME or credential:NAME",
            ),
            takes("dhchap_controller_secret", "string", "where the target's own secret for this host lies"),
        ],
        result: "the host",
        example: r#"{"name": "web2", "account": "acme", "nqn": "nqn.2014-08.org.nvmexpress:uuid:6f3b1c9e-0b6f-4c55-8d0a-3b7f1f8f6a11"}"#,
        changes: true,
        run: |target, _, params| reply(target.add_host(take(params)?)?),
    },
    Method {
        name: "host.list",
        about: "list hosts",
        params: &[],
        result: "an array of hosts; of their secrets only whether there are some",
        example: "{}",
        changes: false,
        run: |target, _, params| nothing(params, || reply(target.hosts())),
    },
    Method {
        name: "host.remove",
        about: "end a host's connections and let it in no more; its disks have to be detached before",
        params: &[needs("name", "string", "the host")],
        result: "the name",
        example: r#"{"name": "web2"}"#,
        changes: true,
        run: |target, _, params| reply(target.remove_host(&outside(target, params)?)?),
    },
    Method {
        name: "key.backup",
        about: "write a copy of the KMS's keys, sealed as they are, to a file on the target's machine",
        params: &[needs("to", "string", "the file, which must not be there; an absolute path")],
        result: "the file",
        example: r#"{"to": "/var/backups/keys.store"}"#,
        changes: true,
        run: |target, actor, params| reply(target.backup_keys(&take(params)?, actor)?),
    },
    Method {
        name: "key.cancel_deletion",
        about: "keep a key that was to be destroyed; it is disabled then",
        params: &[KEY],
        result: "the key",
        example: r#"{"key": "acme"}"#,
        changes: true,
        run: |target, actor, params| reply(target.cancel_key_deletion(&take(params)?, actor)?),
    },
    Method {
        name: "key.disable",
        about: "let nothing be wrapped or opened by a key; disks that are attached go on",
        params: &[KEY, SERVICE_KEY_TOO],
        result: "the key",
        example: r#"{"key": "acme", "service_key_too": true}"#,
        changes: true,
        run: |target, actor, params| reply(target.disable_key(&take(params)?, actor)?),
    },
    Method {
        name: "key.enable",
        about: "let a disabled key be used again",
        params: &[KEY],
        result: "the key",
        example: r#"{"key": "acme"}"#,
        changes: true,
        run: |target, actor, params| reply(target.enable_key(&take(params)?, actor)?),
    },
    Method {
        name: "key.list",
        about: "list the master keys of the region with the disks whose keys they wrap",
        params: &[],
        result: "an array of keys",
        example: "{}",
        changes: false,
        run: |target, _, params| nothing(params, || reply(target.keys()?)),
    },
    Method {
        name: "key.rewrap",
        about: "wrap disk keys by the newest version of their master key; data stays as it is",
        params: &[takes("key", "string", "the master key, or its account; all, if left out")],
        result: "what was wrapped anew, what was by now, and what failed; to be repeated until nothing fails",
        example: "{}",
        changes: true,
        run: |target, actor, params| reply(target.rewrap_keys(&take(params)?, actor)?),
    },
    Method {
        name: "key.rotate",
        about: "make a new version of a master key: it wraps new disk keys, and old versions open what they wrapped",
        params: &[KEY],
        result: "the key",
        example: r#"{"key": "acme"}"#,
        changes: true,
        run: |target, actor, params| reply(target.rotate_key(&take(params)?, actor)?),
    },
    Method {
        name: "key.schedule_deletion",
        about: "have a key destroyed after a waiting period, and with it the data of all disks whose keys it wraps",
        params: &[KEY, takes("days", "number", "the waiting period, 7 to 366; 30, if left out"), SERVICE_KEY_TOO],
        result: "the key",
        example: r#"{"key": "acme", "days": 30, "service_key_too": true}"#,
        changes: true,
        run: |target, actor, params| reply(target.schedule_key_deletion(&take(params)?, actor)?),
    },
    Method {
        name: "key.show",
        about: "show one master key",
        params: &[KEY],
        result: "the key",
        example: r#"{"key": "acme"}"#,
        changes: false,
        run: |target, _, params| reply(target.key(&take(params)?)?),
    },
    Method {
        name: "kms.status",
        about: "ask the KMS how it is",
        params: &[],
        result: "its kind and name, `available`, what it says, the calls made to it, and the disks that wait for it",
        example: "{}",
        changes: false,
        run: |target, _, params| nothing(params, || reply(target.kms_status()?)),
    },
    Method {
        name: "log.level",
        about: "tell what is logged, or change it",
        params: &[takes("filter", "string", "error, warn, info, debug, or such as info,strongroom::export=debug")],
        result: "the filter",
        example: r#"{"filter": "info"}"#,
        changes: true,
        run: |target, _, params| reply(target.log_level(take(params)?)?),
    },
    Method {
        name: "pool.add",
        about: "open a pool on a device of its own; with `create` it formats a blank one",
        params: &[
            needs("pool", "object", "the keys of [[pool]] in the configuration"),
            needs("device", "object", "the keys of [[device]] in the configuration"),
        ],
        result: "the pool",
        example: r#"{"pool": {"name": "p1", "device": "p1", "create": true}, "device": {"name": "p1", "kind": "memory", "size": "64 MiB", "hugepages": "never"}}"#,
        changes: true,
        run: |target, _, params| reply(target.add_pool(take(params)?)?),
    },
    Method {
        name: "pool.grow",
        about: "take in what the device has become larger, or make a file larger first",
        params: &[
            POOL,
            takes(
                "size",
                "number or string",
                "the new size of its file; look again how large the device is, if left out",
            ),
        ],
        result: "the pool",
        example: r#"{"name": "p0"}"#,
        changes: true,
        run: |target, _, params| reply(target.grow_pool(&take(params)?)?),
    },
    Method {
        name: "pool.list",
        about: "list pools with their space",
        params: &[],
        result: "an array of pools",
        example: r#"{}"#,
        changes: false,
        run: |target, _, params| nothing(params, || reply(target.pools())),
    },
    Method {
        name: "pool.remove",
        about: "close a pool without open disks, and its device; its content stays where it is",
        params: &[POOL],
        result: "the name",
        example: r#"{"name": "p1"}"#,
        changes: true,
        run: |target, _, params| reply(target.remove_pool(&take(params)?)?),
    },
    Method {
        name: "pool.show",
        about: "show one pool with its volumes and snapshots",
        params: &[POOL],
        result: "the pool, with `device_is` and `contents`",
        example: r#"{"name": "p0"}"#,
        changes: false,
        run: |target, _, params| reply(target.pool(&take(params)?)?),
    },
    Method {
        name: "rpc.list",
        about: "list the methods",
        params: &[],
        result: "an array of methods with their parameters, results and examples",
        example: "{}",
        changes: false,
        run: |_, _, params| nothing(params, || reply(MethodList::all())),
    },
    Method {
        name: "snapshot.create",
        about: "keep a disk's content of this moment",
        params: &[
            needs("disk", "string", "the disk"),
            needs("name", "string", "the snapshot's name: letters, digits, '-', '_' and '.'"),
        ],
        result: "the snapshot, whose full name is disk@snapshot",
        example: r#"{"disk": "vol0", "name": "monday"}"#,
        changes: true,
        run: |target, actor, params| reply(target.create_snapshot(&outside(target, params)?, actor)?),
    },
    Method {
        name: "snapshot.delete",
        about: "delete a snapshot; disks made from it keep their content",
        params: &[needs("name", "string", "disk@snapshot"), POOL_IF_SEVERAL],
        result: "the name",
        example: r#"{"name": "vol0@monday"}"#,
        changes: true,
        run: |target, actor, params| reply(target.delete_snapshot(&outside(target, params)?, actor)?),
    },
    Method {
        name: "snapshot.diff",
        about: "tell which ranges of a disk or snapshot differ from an earlier snapshot",
        params: &[
            needs("to", "string", "a disk, or disk@snapshot"),
            takes("from", "string", "disk@snapshot; all that is not zero differs, if left out"),
            POOL_IF_SEVERAL,
            takes("offset", "number", "tell ranges from this byte on"),
            takes("limit", "number", "the most ranges; 10000, if left out"),
        ],
        result: "size_bytes; ranges, an array of {offset, length, kind: data or zero}; and next_offset, if there are more",
        example: r#"{"to": "vol0", "from": "vol0@monday"}"#,
        changes: false,
        run: |target, _, params| reply(target.diff(&take(params)?)?),
    },
    Method {
        name: "snapshot.list",
        about: "list snapshots, the oldest first",
        params: &[takes("disk", "string", "the disk; all, if left out")],
        result: "an array of snapshots",
        example: r#"{"disk": "vol0"}"#,
        changes: false,
        run: |target, _, params| reply(target.snapshots(&take(params)?)?),
    },
    Method {
        name: "snapshot.rollback",
        about: "give a disk the content of one of its snapshots; no host and no client may have it meanwhile",
        params: &[
            needs("disk", "string", "the disk"),
            needs("snapshot", "string", "the snapshot's name, without the disk's"),
        ],
        result: "the disk",
        example: r#"{"disk": "vol0", "snapshot": "monday"}"#,
        changes: true,
        run: |target, actor, params| reply(target.rollback(&outside(target, params)?, actor)?),
    },
    Method {
        name: "stat",
        about: "tell what disks have done since they were opened: commands, bytes, errors, latencies; and how much space their pools have",
        params: &[takes("name", "string", "the disk; all disks, if left out")],
        result: "an array with an object for each disk: quantiles in microseconds, histograms as [from ns, to ns, commands]",
        example: r#"{"name": "vol0"}"#,
        changes: false,
        run: |target, _, params| reply(target.stat(&take(params)?)?),
    },
    Method {
        name: "target.info",
        about: "tell about the process and its reactors",
        params: &[],
        result: "version, pid, uptime_s, region and an array of reactors",
        example: "{}",
        changes: false,
        run: |target, _, params| nothing(params, || reply(target.report())),
    },
];

pub(super) fn find(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.name == name)
}

/// Reads parameters, by name or by position.
fn take<P: DeserializeOwned>(params: Value) -> Result<P, Refusal> {
    serde_json::from_value(params)
        .map_err(|e| Refusal::new(Kind::InvalidParams, format!("the parameters do not fit: {e}")))
}

/// Reads parameters of a change to a disk, snapshot or host: one of the cloud's is not changed behind its back. The first of them names it; where there is
/// a `disk`, a `name` is that of its snapshot.
fn outside<P: DeserializeOwned>(target: &Target, params: Value) -> Result<P, Refusal> {
    let first = params.get("disk").or_else(|| params.get("name")).or_else(|| params.get(0));
    if let Some(name) = first.and_then(Value::as_str) {
        target.refuse_if_of_cloud(name)?;
    }
    take(params)
}

/// For methods without parameters.
fn nothing(params: Value, run: impl FnOnce() -> Result<Value, Refusal>) -> Result<Value, Refusal> {
    let is_empty =
        params.as_object().is_some_and(|fields| fields.is_empty()) || params.as_array().is_some_and(Vec::is_empty);
    if is_empty { run() } else { Err(Refusal::new(Kind::InvalidParams, "this method takes no parameters")) }
}

fn reply(result: impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(result)
        .map_err(|e| Refusal::new(Kind::Failed, format!("the answer cannot be written as JSON: {e}")))
}

/// The methods, as `rpc.list` answers them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MethodList(pub Vec<MethodReport>);

/// A method, for who asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MethodReport {
    /// Its name.
    pub name: String,
    /// What it does.
    pub about: String,
    /// What it takes.
    pub params: Vec<ParamReport>,
    /// What it answers.
    pub result: String,
    /// A request.
    pub example: Value,
}

/// A parameter, for who asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ParamReport {
    /// Its name.
    pub name: String,
    /// Its JSON type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it has to be there.
    pub required: bool,
    /// What it means.
    pub about: String,
}

impl MethodList {
    /// All methods.
    pub fn all() -> Self {
        Self(METHODS.iter().map(MethodReport::of).collect())
    }
}

impl MethodReport {
    fn of(method: &Method) -> Self {
        let params = method.params.iter().map(|param| ParamReport {
            name: param.name.to_owned(),
            kind: param.kind.to_owned(),
            required: param.required,
            about: param.about.to_owned(),
        });
        let example: Value = serde_json::from_str(method.example).expect("the tests read each example");
        Self {
            name: method.name.to_owned(),
            about: method.about.to_owned(),
            params: params.collect(),
            result: method.result.to_owned(),
            example: serde_json::json!({"jsonrpc": "2.0", "method": method.name, "params": example, "id": 1}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_its_examples_have_the_parameters() {
        assert!(METHODS.is_sorted_by_key(|method| method.name));
        for method in METHODS {
            let example: Value = serde_json::from_str(method.example).expect(method.name);
            let example = example.as_object().expect("by name");
            for param in method.params.iter().filter(|param| param.required) {
                assert!(example.contains_key(param.name), "{}: {}", method.name, param.name);
            }
            for name in example.keys() {
                assert!(method.params.iter().any(|param| param.name == name), "{}: {name}", method.name);
            }
        }
    }
}
