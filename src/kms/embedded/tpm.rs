//! Slots that a TPM 2.0 opens: 256 random bits, sealed beneath the primary key of the owner hierarchy (feature `tpm`, through `tpm2-tss`).
//!
//! The primary key is made anew from the hierarchy's seed each time, by one template, so nothing has to be kept in the TPM. What it seals loads in
//! this TPM only, and opens only while the PCRs that it is bound to have the values of then. All talk with the TPM runs in a salted session
//! with encrypted parameters (TPM 2.0 Library part 1, sections 17.6 and 19), so that the bits do not cross the bus in clear.
//!
//! `tpm2-tss` has the bits on its own heap for a moment and frees them as they are: that copy is not wiped. Without the sealed file they open
//! nothing.

use std::str::FromStr;

use tss_esapi::attributes::{ObjectAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::SessionType;
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Digest, EccPoint, KeyedHashScheme, PcrSelectionList, PcrSelectionListBuilder, PcrSlot, Private, Public,
    PublicBuilder, PublicEccParametersBuilder, PublicKeyedHashParameters, SensitiveData, SymmetricDefinition,
    SymmetricDefinitionObject,
};
use tss_esapi::tcti_ldr::TctiNameConf;
use tss_esapi::traits::{Marshall, UnMarshall};
use tss_esapi::{Context, Result as TssResult};

use crate::crypto::scrub::scrub;
use crate::kms::KEY_BYTES;
use crate::memory::Secret;

use super::derive::{Key, random};
use super::error::StoreError;
use super::sealed_by_tpm::SealedByTpm;

/// Makes a new secret and seals it, bound to these PCRs as they are now.
pub(super) fn seal(tcti: &str, pcrs: &[u8]) -> Result<(SealedByTpm, Key), StoreError> {
    let secret = random()?;
    let pcrs = pcrs.iter().fold(0, |mask, pcr| mask | 1 << pcr);
    let seal = || {
        let mut tpm = Tpm::connect(tcti)?;
        let policy = if pcrs == 0 { Digest::default() } else { tpm.policy(pcrs)? };
        let public = sealed_template(policy)?;
        let sensitive = SensitiveData::try_from(secret.to_vec())?;
        let session = tpm.session(SessionType::Hmac)?;
        let parent = tpm.primary;
        let made = tpm.context.execute_with_session(Some(session), |context| {
            context.create(parent, public, None, Some(sensitive), None, None)
        })?;
        Ok(SealedByTpm { pcrs, public: made.out_public.marshall()?, private: made.out_private.value().to_vec() })
    };
    let sealed = seal().map_err(|error| failed(tcti, error));
    scrub();
    Ok((sealed?, secret))
}

/// The secret, or why the TPM does not give it out. Another slot may open then.
pub(super) fn unseal(tcti: &str, sealed: &SealedByTpm) -> Result<Result<Key, String>, StoreError> {
    let mut tpm = Tpm::connect(tcti).map_err(|error| failed(tcti, error))?;
    let unsealed = tpm.unseal(sealed);
    let key = unsealed.map(|secret| {
        Secret::filled(|key: &mut [u8; KEY_BYTES]| {
            let bytes = secret.value().try_into();
            *key = bytes.map_err(|_| StoreError::WrongTpm("what it unseals is no key".to_owned()))?;
            Ok::<_, StoreError>(())
        })
    });
    scrub();
    match key {
        Ok(key) => Ok(Ok(key?)),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// A connection, with the primary key in its place.
struct Tpm {
    context: Context,
    primary: KeyHandle,
}

impl Tpm {
    fn connect(tcti: &str) -> TssResult<Self> {
        let mut context = Context::new(TctiNameConf::from_str(tcti)?)?;
        let template = primary_template()?;
        let primary = context.execute_with_nullauth_session(|context| {
            context.create_primary(Hierarchy::Owner, template, None, None, None, None)
        })?;
        Ok(Self { context, primary: primary.key_handle })
    }

    /// A session that is salted by the primary key and encrypts parameters.
    fn session(&mut self, kind: SessionType) -> TssResult<AuthSession> {
        let (algorithm, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
        let session = self.context.start_auth_session(Some(self.primary), None, None, kind, algorithm, hash)?;
        let session = session.expect("tss-esapi gives a session or an error");
        let (attributes, mask) = SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).build();
        self.context.tr_sess_set_attributes(session, attributes, mask)?;
        Ok(session)
    }

    /// What a policy for these PCRs comes to now.
    fn policy(&mut self, pcrs: u32) -> TssResult<Digest> {
        let session = PolicySession::try_from(self.session(SessionType::Trial)?)?;
        self.context.policy_pcr(session, Digest::default(), selection(pcrs)?)?;
        self.context.policy_get_digest(session)
    }

    fn unseal(&mut self, sealed: &SealedByTpm) -> TssResult<SensitiveData> {
        let (public, private) = (Public::unmarshall(&sealed.public)?, Private::try_from(&sealed.private[..])?);
        let (session, parent) = (self.session(SessionType::Hmac)?, self.primary);
        let object =
            self.context.execute_with_session(Some(session), |context| context.load(parent, private, public))?;
        let session = match sealed.pcrs {
            0 => session,
            pcrs => {
                let session = self.session(SessionType::Policy)?;
                self.context.policy_pcr(PolicySession::try_from(session)?, Digest::default(), selection(pcrs)?)?;
                session
            }
        };
        self.context.execute_with_session(Some(session), |context| context.unseal(object.into()))
    }
}

/// An ECC P-256 storage key (TCG TPM v2.0 Provisioning Guidance, section 7.5.1).
fn primary_template() -> TssResult<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_decrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new_restricted_decryption_key(
        SymmetricDefinitionObject::AES_128_CFB,
        EccCurve::NistP256,
    );
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters.build()?)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

/// Bytes that are sealed. Without a policy the empty authorization value opens them.
fn sealed_template(policy: Digest) -> TssResult<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_no_da(true)
        .with_user_with_auth(policy.is_empty())
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(policy)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()
}

fn selection(pcrs: u32) -> TssResult<PcrSelectionList> {
    let slots = (0..24).map(|pcr| 1 << pcr).filter(|bit| pcrs & bit != 0).map(PcrSlot::try_from);
    let slots = slots.collect::<TssResult<Vec<_>>>()?;
    PcrSelectionListBuilder::new().with_selection(HashingAlgorithm::Sha256, &slots).build()
}

fn failed(tcti: &str, error: tss_esapi::Error) -> StoreError {
    StoreError::Tpm { tcti: tcti.to_owned(), what: error.to_string() }
}
