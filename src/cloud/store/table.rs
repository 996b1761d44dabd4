//! A table in memory that knows what was changed since it was last the same as on the disk.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use super::ledger::Change;

/// Rows by their identifiers. What is changed is remembered with what it was, until it is accepted or taken back.
pub struct Table<R> {
    name: &'static str,
    rows: BTreeMap<String, R>,
    /// Rows as they were before they were changed; none for those that were not there.
    before: BTreeMap<String, Option<R>>,
}

impl<R: Clone> Table<R> {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, rows: BTreeMap::new(), before: BTreeMap::new() }
    }

    /// The row of this identifier.
    pub fn get(&self, id: &str) -> Option<&R> {
        self.rows.get(id)
    }

    /// The row, to be changed.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut R> {
        let row = self.rows.get_mut(id)?;
        if let Entry::Vacant(entry) = self.before.entry(id.to_owned()) {
            entry.insert(Some(row.clone()));
        }
        Some(row)
    }

    /// Adds a row, or puts it in the place of another.
    pub fn put(&mut self, id: impl Into<String>, row: R) {
        let id = id.into();
        let old = self.rows.insert(id.clone(), row);
        self.before.entry(id).or_insert(old);
    }

    /// Takes a row out.
    pub fn remove(&mut self, id: &str) -> Option<R> {
        let old = self.rows.remove(id)?;
        self.before.entry(id.to_owned()).or_insert_with(|| Some(old.clone()));
        Some(old)
    }

    /// Whether there is such a row.
    pub fn contains(&self, id: &str) -> bool {
        self.rows.contains_key(id)
    }

    /// All rows with their identifiers, in the order of these.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &R)> {
        self.rows.iter().map(|(id, row)| (id.as_str(), row))
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = &R> {
        self.rows.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// What the store does with every table, whatever its rows are.
pub(super) trait AnyTable {
    fn name(&self) -> &'static str;
    /// What was changed.
    fn changes(&self) -> Result<Vec<Change>, StoreError>;
    /// The changes are durable.
    fn accept(&mut self);
    /// They are not, and never were.
    fn revert(&mut self);
    fn load(&mut self, id: String, row: &[u8]) -> Result<(), StoreError>;
}

impl<R: Clone + Serialize + DeserializeOwned> AnyTable for Table<R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn changes(&self) -> Result<Vec<Change>, StoreError> {
        let change = |id: &String| {
            let row = self.rows.get(id).map(serde_json::to_vec).transpose();
            let row = row.map_err(|source| StoreError::Row { table: self.name, id: id.clone(), source })?;
            Ok(Change { table: self.name, id: id.clone(), row })
        };
        self.before.keys().map(change).collect()
    }

    fn accept(&mut self) {
        self.before.clear();
    }

    fn revert(&mut self) {
        for (id, row) in std::mem::take(&mut self.before) {
            match row {
                Some(row) => drop(self.rows.insert(id, row)),
                None => drop(self.rows.remove(&id)),
            }
        }
    }

    fn load(&mut self, id: String, row: &[u8]) -> Result<(), StoreError> {
        let parsed = serde_json::from_slice(row);
        let row = parsed.map_err(|source| StoreError::Row { table: self.name, id: id.clone(), source })?;
        self.rows.insert(id, row);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_accepted_is_as_it_was() {
        let mut table = Table::new("t");
        table.put("a", 1);
        table.put("b", 2);
        table.accept();
        *table.get_mut("a").expect("there") = 10;
        table.put("a", 11);
        table.remove("b");
        table.put("b", 20);
        table.put("c", 3);
        table.remove("c");
        assert_eq!(table.changes().expect("rows can be written").len(), 3);
        table.revert();
        assert_eq!(table.iter().collect::<Vec<_>>(), [("a", &1), ("b", &2)]);
        assert!(table.changes().expect("none").is_empty());
    }
}
