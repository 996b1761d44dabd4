//! A token, through its vendor's library: one session, and the few calls that master keys need.
//!
//! A disk key is wrapped by `C_Encrypt` with `CKM_AES_GCM` (PKCS#11 v3.0 Current Mechanisms, section 2.12.3). Whether what does not open is not
//! authentic cannot be told by a code (SoftHSM says `CKR_GENERAL_ERROR`), so the same key first has to open something else of the moment.

use std::path::Path;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::{AuthPin, Ulong};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::kms::KEY_BYTES;
use crate::kms::pkcs11::message::{Bound, Failure, IV_BYTES, Object, SEALED_BYTES, SealedKey, TAG_BYTES};

use super::trouble::Trouble;

type Outcome<T> = Result<T, Trouble>;

/// A loaded library and its token, not logged in.
pub(super) struct Token {
    library: Pkcs11,
    slot: Slot,
}

impl Token {
    /// Loads the library and looks for the token by its label.
    pub(super) fn open(module: &Path, label: &str) -> Outcome<Self> {
        let library = Pkcs11::new(module).map_err(|error| {
            let why = Trouble::from(error).what;
            Trouble::new(
                Failure::Config,
                format!("{} is no PKCS#11 library that can be loaded: {why}", module.display()),
            )
        })?;
        library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
        let slot = find(&library, label)?;
        if !library.get_mechanism_list(slot)?.contains(&MechanismType::AES_GCM) {
            return Err(Trouble::new(Failure::Unsupported, "wrap keys: the token has no CKM_AES_GCM; use another one"));
        }
        Ok(Self { library, slot })
    }

    /// Opens the session. A PIN that one more mistake would lock is left alone.
    pub(super) fn login(self, pin: &[u8]) -> Outcome<LoggedIn> {
        let info = self.library.get_token_info(self.slot)?;
        if info.user_pin_locked() {
            return Err(Trouble::new(
                Failure::Refused,
                "the PIN is locked; the token's security officer has to set it anew",
            ));
        }
        if info.user_pin_final_try() {
            let what = "one more wrong PIN locks the token, so none is tried; log in once by other means, \
                        such as pkcs11-tool --login, with the right PIN";
            return Err(Trouble::new(Failure::Refused, what));
        }
        let session = self.library.open_rw_session(self.slot)?;
        let text = std::str::from_utf8(pin).map_err(|_| Trouble::new(Failure::WrongPin, "it is no text"))?;
        match session.login(UserType::User, Some(&AuthPin::new(text.into()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(LoggedIn { session, token: self }),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets the library say goodbye to its token.
    pub(super) fn close(self) {
        // The process ends next, so that an error changes nothing any more.
        let _ = self.library.finalize();
    }
}

fn find(library: &Pkcs11, label: &str) -> Outcome<Slot> {
    let known =
        |slot: Slot| library.get_token_info(slot).ok().filter(TokenInfo::token_initialized).map(|info| (slot, info));
    let tokens: Vec<_> = library.get_slots_with_token()?.into_iter().filter_map(known).collect();
    let mut ours = tokens.iter().filter(|(_, info)| info.label() == label);
    match (ours.next(), ours.next()) {
        (Some((slot, _)), None) => Ok(*slot),
        (Some(_), Some(_)) => {
            Err(Trouble::new(Failure::Config, format!("several tokens are called {label:?}; rename one")))
        }
        (None, _) => {
            let others: Vec<_> = tokens.iter().map(|(_, info)| info.label()).collect();
            Err(Trouble::new(Failure::Unavailable, format!("no token is called {label:?}; there are {others:?}")))
        }
    }
}

/// A session that may use the keys.
pub(super) struct LoggedIn {
    session: Session,
    token: Token,
}

impl LoggedIn {
    /// What the token says of itself.
    pub(super) fn about(&self) -> Outcome<String> {
        let info = self.token.library.get_token_info(self.token.slot)?;
        match self.session.get_session_info()?.session_state() {
            SessionState::RwUser => {
                Ok(format!("{} {}, serial {}", info.manufacturer_id(), info.model(), info.serial_number()))
            }
            state => Err(Trouble::new(Failure::Unavailable, format!("the session is in state {state:?}"))),
        }
    }

    /// All AES keys whose label begins so, and whose `CKA_ID` is like ours.
    pub(super) fn list(&self, prefix: &str, mut tell: impl FnMut(Object<'_>) -> Outcome<()>) -> Outcome<()> {
        for handle in self.session.find_objects(&aes_keys())? {
            let known = self.session.get_attributes(handle, &[AttributeType::Label, AttributeType::Id])?;
            let [Attribute::Label(label), Attribute::Id(id)] = known.as_slice() else { continue };
            let (Ok(label), Ok(id)) = (std::str::from_utf8(label), id.as_slice().try_into()) else { continue };
            if label.starts_with(prefix) {
                tell(Object { label, id })?;
            }
        }
        Ok(())
    }

    /// Makes a master key that never leaves the token.
    pub(super) fn generate(&self, object: Object<'_>) -> Outcome<()> {
        let mut template = aes_keys();
        template.extend([
            Attribute::Label(object.label.into()),
            Attribute::Id(object.id.to_vec()),
            Attribute::ValueLen(Ulong::new(KEY_BYTES as _)),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            // Else it could carry other keys of the token out.
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
        ]);
        let handle = self.session.generate_key(&Mechanism::AesKeyGen, &template)?;
        self.check_kept_inside(handle, object.label)
    }

    /// Wraps a disk key, and opens it again: what is stored has to open.
    pub(super) fn wrap(&self, with: Bound<'_>, key: &[u8; KEY_BYTES]) -> Outcome<SealedKey> {
        let handle = self.object(with.object)?;
        self.check_kept_inside(handle, with.object.label)?;
        let sealed = self.seal(handle, with.context, key)?;
        let opened = self.open_sealed(handle, with.context, &sealed)?;
        if bool::from(opened.ct_eq(key.as_slice())) {
            return Ok(sealed);
        }
        Err(Trouble::new(Failure::Nonsense, "what it wrapped opens as something else"))
    }

    /// Opens a wrapped key.
    pub(super) fn unwrap(&self, with: Bound<'_>, sealed: &SealedKey) -> Outcome<Zeroizing<[u8; KEY_BYTES]>> {
        let handle = self.object(with.object)?;
        let opened = match self.open_sealed(handle, with.context, sealed) {
            Ok(opened) => opened,
            Err(trouble) if trouble.failure == Failure::Refused => return Err(trouble),
            Err(trouble) => return Err(self.tell_apart(handle, with.object.label, trouble)),
        };
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if opened.len() != KEY_BYTES {
            return Err(Trouble::new(Failure::Nonsense, format!("a key opens as {} bytes", opened.len())));
        }
        key.copy_from_slice(&opened);
        Ok(key)
    }

    /// Not authentic, if the same key opens something else at the same time.
    fn tell_apart(&self, handle: ObjectHandle, label: &str, trouble: Trouble) -> Trouble {
        const CONTEXT: &[u8] = b"strongroom self-check";
        let sealed = self.seal(handle, CONTEXT, &[0x5a; KEY_BYTES]);
        let opened = sealed.and_then(|sealed| self.open_sealed(handle, CONTEXT, &sealed));
        match opened {
            Ok(opened) if *opened == [0x5a; KEY_BYTES] => {
                Trouble::new(Failure::NotAuthentic, format!("{label}: {}", trouble.what))
            }
            _ => Trouble::new(Failure::Unavailable, format!("{label} opens nothing: {}", trouble.what)),
        }
    }

    fn seal(&self, key: ObjectHandle, context: &[u8], plain: &[u8]) -> Outcome<SealedKey> {
        let mut iv = [0; IV_BYTES];
        getrandom::fill(&mut iv)
            .map_err(|error| Trouble::new(Failure::Unavailable, format!("no random numbers: {error}")))?;
        let text = self.session.encrypt(&Mechanism::AesGcm(gcm(&mut iv, context)?), key, plain)?;
        let mut sealed = [0; SEALED_BYTES];
        // Tokens that insist on nonces of their own have written theirs over ours.
        sealed[..IV_BYTES].copy_from_slice(&iv);
        let room = &mut sealed[IV_BYTES..];
        if text.len() != room.len() {
            return Err(Trouble::new(
                Failure::Nonsense,
                format!("{} bytes are wrapped as {}", plain.len(), text.len()),
            ));
        }
        room.copy_from_slice(&text);
        Ok(sealed)
    }

    fn open_sealed(&self, key: ObjectHandle, context: &[u8], sealed: &SealedKey) -> Outcome<Zeroizing<Vec<u8>>> {
        let (iv, text) = sealed.split_at(IV_BYTES);
        let mut iv = iv.to_vec();
        Ok(Zeroizing::new(self.session.decrypt(&Mechanism::AesGcm(gcm(&mut iv, context)?), key, text)?))
    }

    fn object(&self, object: Object<'_>) -> Outcome<ObjectHandle> {
        let mut template = aes_keys();
        template.extend([Attribute::Label(object.label.into()), Attribute::Id(object.id.to_vec())]);
        let found = self.session.find_objects(&template)?.first().copied();
        found.ok_or_else(|| Trouble::new(Failure::NotFound, object.label))
    }

    /// Nothing is wrapped by a key that others can read out, whoever has made it.
    fn check_kept_inside(&self, key: ObjectHandle, label: &str) -> Outcome<()> {
        let wanted = [Attribute::Sensitive(true), Attribute::Extractable(false)];
        let known = self.session.get_attributes(key, &[AttributeType::Sensitive, AttributeType::Extractable])?;
        if known == wanted {
            return Ok(());
        }
        let what =
            format!("key {label} can be read out of the token (it has to be sensitive and not extractable); rotate it");
        Err(Trouble::new(Failure::Refused, what))
    }

    /// Ends the session.
    pub(super) fn close(self) {
        let Self { session, token } = self;
        let _ = session.logout();
        drop(session);
        token.close();
    }
}

fn gcm<'a>(iv: &'a mut [u8], context: &'a [u8]) -> Outcome<GcmParams<'a>> {
    Ok(GcmParams::new(iv, context, Ulong::new(8 * TAG_BYTES as u64))?)
}

fn aes_keys() -> Vec<Attribute> {
    vec![Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES), Attribute::Token(true)]
}
