//! Everything that the cloud knows, in memory.

use super::StoreError;
use super::ledger::Change;
use super::table::{AnyTable, Table};
use crate::cloud::intent::Open;
use crate::cloud::rows::{AccessKey, Account, Alias, Disk, Image, Instance, KeyNote, Policy, Snapshot, Token};

/// All tables.
pub struct World {
    /// Accounts by name.
    pub accounts: Table<Account>,
    /// Access keys by identifier.
    pub access_keys: Table<AccessKey>,
    /// Instances by identifier.
    pub instances: Table<Instance>,
    /// Disks by identifier.
    pub disks: Table<Disk>,
    /// Snapshots by identifier.
    pub snapshots: Table<Snapshot>,
    /// Images by identifier.
    pub images: Table<Image>,
    /// Policies of automatic snapshots by identifier.
    pub policies: Table<Policy>,
    /// What users say of master keys, by the keys' identifiers.
    pub key_notes: Table<KeyNote>,
    /// Aliases of master keys, by account and name.
    pub aliases: Table<Alias>,
    /// Client tokens, by account, action and token.
    pub tokens: Table<Token>,
    /// What was begun and is not finished, by number.
    pub intents: Table<Open>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            accounts: Table::new("accounts"),
            access_keys: Table::new("access_keys"),
            instances: Table::new("instances"),
            disks: Table::new("disks"),
            snapshots: Table::new("snapshots"),
            images: Table::new("images"),
            policies: Table::new("policies"),
            key_notes: Table::new("key_notes"),
            aliases: Table::new("aliases"),
            tokens: Table::new("tokens"),
            intents: Table::new("intents"),
        }
    }
}

impl World {
    fn tables(&self) -> [&dyn AnyTable; 11] {
        let Self { accounts, access_keys, instances, disks, snapshots, images, policies, .. } = self;
        let Self { key_notes, aliases, tokens, intents, .. } = self;
        [accounts, access_keys, instances, disks, snapshots, images, policies, key_notes, aliases, tokens, intents]
    }

    fn tables_mut(&mut self) -> [&mut dyn AnyTable; 11] {
        let Self {
            accounts,
            access_keys,
            instances,
            disks,
            snapshots,
            images,
            policies,
            key_notes,
            aliases,
            tokens,
            intents,
        } = self;
        [accounts, access_keys, instances, disks, snapshots, images, policies, key_notes, aliases, tokens, intents]
    }

    pub(super) fn changes(&self) -> Result<Vec<Change>, StoreError> {
        let mut all = Vec::new();
        for table in self.tables() {
            all.extend(table.changes()?);
        }
        Ok(all)
    }

    pub(super) fn accept(&mut self) {
        self.tables_mut().into_iter().for_each(AnyTable::accept);
    }

    pub(super) fn revert(&mut self) {
        self.tables_mut().into_iter().for_each(AnyTable::revert);
    }

    pub(super) fn load(&mut self, name: &str, id: &str, row: &[u8]) -> Result<(), StoreError> {
        let table = self.tables_mut().into_iter().find(|table| table.name() == name);
        table.ok_or_else(|| StoreError::Unknown(name.to_owned()))?.load(id.to_owned(), row)
    }
}
