//! Backups: a copy of the sealed file, which opens by what opened the store when it was made.

use std::path::Path;

use crate::kms::KmsError;

use super::commit;
use super::config::EmbeddedConfig;
use super::error::StoreError;
use super::folder::{self, Files, Folder, Name};
use super::format;
use super::store::{self, EmbeddedStore, open_body, seal_file, unseal};
use super::witness::{self, Generation};

/// What a restored backup may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Nothing, or the same store if it is not newer.
    NothingNewer,
    /// Whatever is there: what was done since the backup is lost.
    Anything,
}

impl EmbeddedStore {
    /// Copies the store to a new file, and proves that the copy opens.
    pub fn backup(&self, to: &Path) -> Result<Generation, KmsError> {
        self.copy(to).map_err(|error| self.told(error))
    }

    fn copy(&self, to: &Path) -> Result<Generation, StoreError> {
        let state = self.state();
        let is = state.header.is;
        let bytes = self.folder.read(Name::Store)?.ok_or(StoreError::Vanished(is.number))?;
        let proved = |bytes: &[u8]| {
            let sealed = format::decode(bytes)?;
            sealed.header.is.follows(&is)?;
            open_body(&sealed, &state.root)
        };
        proved(&bytes)?;
        folder::write_new(to, &bytes)?;
        let copied = folder::read(to)?.unwrap_or_default();
        proved(&copied)?;
        Ok(is)
    }

    /// Puts a backup in the place of a store that nobody has open.
    ///
    /// The backup has to open by what unlocks the store. It gets a generation that is newer than all that were seen here, so that it counts as the
    /// newest from then on.
    pub fn restore(config: &EmbeddedConfig, backup: &Path, overwrite: Overwrite) -> Result<Generation, KmsError> {
        let lock = || Files::lock(&config.path);
        let restored = lock().and_then(|files| restore_in(&files, config, backup, overwrite));
        restored.map_err(|error| error.into_kms(store::name(&config.path)))
    }
}

fn restore_in(
    folder: &dyn Folder,
    config: &EmbeddedConfig,
    backup: &Path,
    overwrite: Overwrite,
) -> Result<Generation, StoreError> {
    let bytes = folder::read(backup)?.ok_or(StoreError::NoBackup(backup.to_owned()))?;
    let open = || unseal(format::decode(&bytes)?, &config.unlock);
    let mut state = open().map_err(|error| StoreError::Backup { path: backup.to_owned(), error: Box::new(error) })?;
    let is = state.header.is;
    let here = generations_here(folder)?;
    if overwrite == Overwrite::NothingNewer {
        refuse_losses(&is, &here)?;
    }
    let ours = here.iter().filter(|here| here.store == is.store).map(|here| here.number);
    state.header.is.number = ours.fold(is.number, u64::max) + 1;
    commit::replace(folder, &seal_file(&state.header, &state.body, &state.root)?)?;
    commit::finish(folder, &witness::encode(&state.header.is, &state.root)?)?;
    commit::clear(folder)?;
    Ok(state.header.is)
}

/// What the files here say of themselves. They may be damaged: that is what backups are for.
fn generations_here(folder: &dyn Folder) -> Result<Vec<Generation>, StoreError> {
    let store = folder.read(Name::Store)?.and_then(|bytes| format::generation(&bytes).ok());
    let counter = folder.read(Name::Witness)?.and_then(|bytes| witness::decode(&bytes));
    Ok(store.into_iter().chain(counter).collect())
}

fn refuse_losses(backup: &Generation, here: &[Generation]) -> Result<(), StoreError> {
    if let Some(other) = here.iter().find(|here| here.store != backup.store) {
        return Err(StoreError::WouldReplace { backup: backup.store, here: other.store });
    }
    match here.iter().map(|here| here.number).max() {
        Some(newest) if newest > backup.number => Err(StoreError::WouldLose { backup: backup.number, newest }),
        _ => Ok(()),
    }
}
