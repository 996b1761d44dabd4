//! Master keys of the KMS in the cloud's words.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::backend::actor;
use crate::cloud::backend::{
    BackendError, Caller, EncryptionContext, KeyChange, KeyState, KeyVersion, MasterKey, Opened, Sealed,
};
use crate::control::config::ConfigError;
use crate::control::target::Target;
use crate::kms::{Change, Cmk, CmkId, CmkState, Creator, DataBlob, Kms, KmsError};

type Done<T> = Result<T, BackendError>;

impl From<KmsError> for BackendError {
    fn from(error: KmsError) -> Self {
        use KmsError as E;
        let what = error.to_string();
        match error {
            E::Unavailable { .. } | E::Store { .. } => Self::Unavailable(what),
            E::State { key, state, .. } => Self::KeyState { id: key, state: state_of(state) },
            E::NotFound { key, .. } => Self::NoKey(key),
            E::Unsupported { .. } => Self::Unsupported(what),
            E::CipherText { .. } => Self::NotAuthentic(what),
            E::LimitExceeded { .. } => Self::NoSpace(what),
            E::Refused { .. } => Self::Refused(what),
            _ => Self::Failed(what),
        }
    }
}

fn state_of(state: CmkState) -> KeyState {
    match state {
        CmkState::Enabled => KeyState::Enabled,
        CmkState::Disabled => KeyState::Disabled,
        CmkState::PendingDeletion | CmkState::Destroyed => KeyState::PendingDeletion,
    }
}

fn master_key(cmk: Cmk) -> MasterKey {
    let versions = cmk.versions.iter();
    MasterKey {
        versions: versions
            .map(|version| KeyVersion { number: version.number, created_at: version.created_at.unwrap_or(0) })
            .collect(),
        id: cmk.id.0,
        account: cmk.account,
        is_service_key: cmk.creator == Creator::Service,
        state: state_of(cmk.state),
        created_at: cmk.created_at.unwrap_or(0),
        deletion_at: cmk.deletion_at,
    }
}

fn sealed(blob: DataBlob) -> Sealed {
    Sealed { blob: blob.ciphertext, key_id: blob.key.0, version: blob.version }
}

/// The KMS; if it cannot be opened, it may be later.
fn kms(target: &Target) -> Done<Arc<Kms>> {
    target.kms().map_err(|e| match e {
        ConfigError::Kms { source, .. } => source.into(),
        other => BackendError::Unavailable(other.to_string()),
    })
}

pub(super) fn service_key(target: &Target, account: &str, by: &Caller) -> Done<MasterKey> {
    Ok(master_key(kms(target)?.service_key_of(actor(by), account)?))
}

/// All but those that are no more.
pub(super) fn keys(target: &Target, account: &str) -> Done<Vec<MasterKey>> {
    let all = kms(target)?.keys()?.into_iter();
    Ok(all.filter(|cmk| cmk.account == account && cmk.state != CmkState::Destroyed).map(master_key).collect())
}

pub(super) fn create_key(target: &Target, account: &str, by: &Caller) -> Done<MasterKey> {
    Ok(master_key(kms(target)?.create_key(actor(by), account)?))
}

pub(super) fn change_key(target: &Target, account: &str, id: &str, change: KeyChange, by: &Caller) -> Done<MasterKey> {
    let (kms, actor) = (kms(target)?, actor(by));
    let cmk = kms.key_of(account, &CmkId(id.to_owned()))?;
    let changed = match change {
        KeyChange::Rotate => kms.rotate(actor, &cmk)?,
        KeyChange::Enable => kms.change(actor, &cmk, Change::Enable)?,
        KeyChange::Disable => kms.change(actor, &cmk, Change::Disable)?,
        KeyChange::ScheduleDeletion(days) => kms.change(actor, &cmk, Change::ScheduleDeletion { days })?,
        KeyChange::CancelDeletion => {
            let kept = kms.change(actor, &cmk, Change::CancelDeletion)?;
            kms.change(actor, &kept, Change::Enable)?
        }
    };
    Ok(master_key(changed))
}

pub(super) fn seal(
    target: &Target,
    account: &str,
    id: &str,
    plain: &[u8],
    context: &EncryptionContext,
    by: &Caller,
) -> Done<Sealed> {
    Ok(sealed(kms(target)?.encrypt(actor(by), account, &CmkId(id.to_owned()), plain, context)?))
}

pub(super) fn new_data_key(
    target: &Target,
    account: &str,
    id: &str,
    bytes: usize,
    context: &EncryptionContext,
    by: &Caller,
) -> Done<(Sealed, Zeroizing<Vec<u8>>)> {
    let made = kms(target)?.generate_data_key(actor(by), account, &CmkId(id.to_owned()), bytes, context)?;
    let plain = Zeroizing::new(made.plaintext.to_vec());
    Ok((sealed(made.blob), plain))
}

pub(super) fn open(
    target: &Target,
    account: &str,
    blob: &[u8],
    context: &EncryptionContext,
    by: &Caller,
) -> Done<Opened> {
    let opened = kms(target)?.decrypt(actor(by), account, blob, context)?;
    let plain = Zeroizing::new(opened.plaintext.to_vec());
    Ok(Opened { plain, key_id: opened.key.0, version: opened.version })
}
