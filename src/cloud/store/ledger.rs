//! Where the store's rows are durable: a database file, behind the two calls that the store needs of it.

use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

use super::StoreError;

/// A row that was changed, or taken out.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its table.
    pub table: &'static str,
    /// Its identifier.
    pub id: String,
    /// As it is now; none if it is gone.
    pub row: Option<Vec<u8>>,
}

/// A row that was read: table, identifier, bytes.
pub type Loaded = (String, String, Vec<u8>);

/// What keeps rows. All changes of one call are durable when it returns, or none of them is, whatever happens meanwhile.
pub trait Ledger: Send {
    /// All rows.
    fn load(&self) -> Result<Vec<Loaded>, StoreError>;

    /// Makes changes durable.
    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}

/// A database file. One process has it at a time.
pub struct DatabaseFile {
    path: PathBuf,
    database: Database,
}

impl DatabaseFile {
    /// Opens a file, or makes it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path).map_err(|e| StoreError::file(path, e))?;
        Ok(Self { path: path.to_owned(), database })
    }

    fn read(&self) -> Result<Vec<Loaded>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let mut rows = Vec::new();
        for table in transaction.list_tables()? {
            let name = table.name().to_owned();
            let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(&name);
            for row in transaction.open_table(definition)?.iter()? {
                let (id, bytes) = row?;
                rows.push((name.clone(), id.value().to_owned(), bytes.value().to_owned()));
            }
        }
        Ok(rows)
    }

    fn commit(&self, changes: &[Change]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        for Change { table, id, row } in changes {
            let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(table);
            let mut table = transaction.open_table(definition)?;
            match row {
                Some(row) => drop(table.insert(id.as_str(), row.as_slice())?),
                None => drop(table.remove(id.as_str())?),
            }
        }
        // Durable when it returns: redb syncs the file unless told otherwise.
        transaction.commit()?;
        Ok(())
    }
}

impl Ledger for DatabaseFile {
    fn load(&self) -> Result<Vec<Loaded>, StoreError> {
        self.read().map_err(|e| StoreError::file(&self.path, e))
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.commit(changes).map_err(|e| StoreError::file(&self.path, e))
    }
}
