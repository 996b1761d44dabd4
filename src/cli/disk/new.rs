//! Disks that come: what has to be said of one, on a device of its own or in a pool.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::Outcome;
use crate::cli::client::Ask;
use crate::cli::cloud::disk::CloudDiskArgs;
use crate::device::Size;

#[derive(Args)]
pub(super) struct AddArgs {
    /// Its name, and that of its device or volume
    name: String,
    /// Open the volume of this name in a pool, instead of a device
    #[arg(long, conflicts_with_all = ["kind", "path", "size", "create"])]
    pool: Option<String>,
    /// file, memory or null
    #[arg(long, default_value = "file")]
    kind: String,
    /// The file or block device
    #[arg(long)]
    path: Option<PathBuf>,
    /// Bytes of memory, or of a file that is created
    #[arg(long)]
    size: Option<Size>,
    /// Make the file if it does not exist
    #[arg(long, requires = "size")]
    create: bool,
    #[command(flatten)]
    encryption: EncryptionArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args)]
pub(super) struct CreateArgs {
    /// Its name, and that of its volume; the cloud names its disks itself
    #[arg(requires = "pool")]
    name: Option<String>,
    /// The pool
    #[arg(long, requires = "name", required_unless_present = "category")]
    pool: Option<String>,
    #[command(flatten)]
    cloud: CloudDiskArgs,
    #[command(flatten)]
    content: ContentArgs,
    #[command(flatten)]
    encryption: CloneEncryptionArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// What is on it at first.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct ContentArgs {
    /// Bytes, such as 20G; they take space when they are written
    #[arg(long)]
    size: Option<Size>,
    /// Begin with the content of a snapshot: DISK@SNAPSHOT, or s-… of the cloud
    #[arg(long, value_name = "SNAPSHOT")]
    from_snapshot: Option<String>,
}

/// One of them has to be there: nobody gets a plain disk by leaving something out.
#[derive(Args)]
#[group(id = "encryption_of_a_disk", required = true, multiple = false)]
struct EncryptionArgs {
    /// A file with the key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// kms: a key of its own, which the KMS keeps; or none: what is written is stored as it is
    #[arg(long, value_parser = ["kms", "none"])]
    encryption: Option<String>,
}

/// A disk from a snapshot has the encryption of the snapshot's disk.
#[derive(Args)]
#[group(id = "encryption_of_a_volume", multiple = false)]
struct CloneEncryptionArgs {
    /// A file with the key; with --from-snapshot, that of the snapshot's disk if left out
    #[arg(long, value_name = "FILE", required_unless_present_any = ["encryption", "from_snapshot", "category"])]
    key_file: Option<PathBuf>,
    /// kms: a key of its own, which the KMS keeps; or none: what is written is stored as it is
    #[arg(long, value_parser = ["kms", "none"])]
    encryption: Option<String>,
}

#[derive(Args)]
struct CommonArgs {
    /// Bytes of a sector: 512 or 4096; 4096, or what a volume that is there was made with, if left out
    #[arg(long, value_name = "BYTES")]
    sector_size: Option<u32>,
    /// What the cipher's tweak counts: sector or 512
    #[arg(long, value_name = "UNIT", requires = "key_file")]
    tweak_unit: Option<String>,
    /// Whose disk it is
    #[arg(long)]
    account: Option<String>,
    /// Several hosts may have it at once
    #[arg(long)]
    shared: bool,
    /// A host that sees it; may be there several times
    #[arg(long = "attach", value_name = "HOST")]
    attached_to: Vec<String>,
    /// The namespace identifier; the lowest free one, if left out
    #[arg(long)]
    nsid: Option<u32>,
    /// The identity that hosts know it by; derived from its names, if left out
    #[arg(long)]
    uuid: Option<Uuid>,
}

/// Paths mean the same wherever the target runs.
fn absolute(path: &PathBuf) -> io::Result<PathBuf> {
    std::path::absolute::<&Path>(path.as_ref())
}

impl CommonArgs {
    /// The keys of `[[disk]]` that all disks have.
    fn params(&self, name: &str, key_file: Option<&PathBuf>, word: Option<&str>) -> io::Result<Value> {
        let encryption = match key_file {
            None => json!(word),
            Some(file) => {
                let mut encryption = json!({"key_file": absolute(file)?});
                if let Some(unit) = &self.tweak_unit {
                    encryption["tweak_unit"] = json!(unit);
                }
                encryption
            }
        };
        Ok(json!({
            "name": name,
            "sector_size": self.sector_size,
            "encryption": encryption,
            "account": self.account,
            "shared": self.shared,
            "attached_to": self.attached_to,
            "nsid": self.nsid,
            "uuid": self.uuid,
        }))
    }
}

impl AddArgs {
    /// The parameters of `disk.add`.
    pub(super) fn params(&self) -> io::Result<Value> {
        let EncryptionArgs { key_file, encryption } = &self.encryption;
        let mut disk = self.common.params(&self.name, key_file.as_ref(), encryption.as_deref())?;
        if let Some(pool) = &self.pool {
            disk["pool"] = json!(pool);
            return Ok(json!({"disk": disk}));
        }
        disk["device"] = json!(self.name);
        Ok(json!({
            "disk": disk,
            "device": {
                "name": self.name,
                "kind": self.kind,
                "path": self.path.as_ref().map(absolute).transpose()?,
                "size": self.size.map(|Size(bytes)| bytes),
                "create": self.create,
            },
        }))
    }
}

impl CreateArgs {
    /// Whether the cloud is to make it.
    pub(super) fn is_for_cloud(&self) -> bool {
        self.cloud.category.is_some()
    }

    /// Has the cloud make it.
    pub(super) fn in_cloud(&self, ask: &Ask) -> Outcome {
        let ContentArgs { size, from_snapshot } = &self.content;
        let CommonArgs { account, shared, .. } = &self.common;
        self.cloud.create(ask, account.as_deref(), *size, from_snapshot.as_deref(), *shared)
    }

    /// The parameters of `disk.create`.
    pub(super) fn params(&self) -> io::Result<Value> {
        let CloneEncryptionArgs { key_file, encryption } = &self.encryption;
        let name = self.name.as_deref().unwrap_or_default();
        let mut disk = self.common.params(name, key_file.as_ref(), encryption.as_deref())?;
        disk["pool"] = json!(self.pool);
        disk["size"] = json!(self.content.size.map(|Size(bytes)| bytes));
        disk["from_snapshot"] = json!(self.content.from_snapshot);
        Ok(disk)
    }
}
