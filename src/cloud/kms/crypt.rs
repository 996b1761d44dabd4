//! Encrypt, Decrypt, ReEncrypt, GenerateDataKey and GenerateDataKeyWithoutPlaintext: what keys of users do with small secrets.
//!
//! The service key does none of this for a user: it is there for disks. Plain bytes lie in memory that is wiped. The one copy that is not is the base64
//! text in the answer: such answers are built without `json!`, which would copy it.

use base64ct::{Base64, Encoding};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::ask::{needed, refuse_service_key, user_key_id};
use super::errors::KmsError;
use super::view::version_id;
use crate::cloud::backend::{BackendError, EncryptionContext, Opened, Sealed};
use crate::cloud::params::Params;
use crate::cloud::service::{Call, Cloud};

/// Bytes that a key seals at once: the documentation's 6 KB.
const MOST_PLAIN: usize = 6 << 10;
/// Bytes of a data key.
const DATA_KEY_BYTES: std::ops::RangeInclusive<usize> = 1..=1024;
/// Characters of an encryption context.
const LONGEST_CONTEXT: usize = 8192;

/// The operation Encrypt.
pub fn encrypt(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    needed(call.params, "KeyId")?;
    let plain = decoded(call.params, "Plaintext")?;
    if plain.len() > MOST_PLAIN {
        return Err(KmsError::invalid("Plaintext"));
    }
    let context = context(call.params, "EncryptionContext")?;
    let key = user_key_id(cloud, call, "KeyId")?;
    let sealed = cloud.backend().seal(call.account(), &key, &plain, &context, call.caller)?;
    Ok(Value::Object(sealed_answer(&sealed)))
}

/// The operation Decrypt. The blob names its key.
pub fn decrypt(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let opened = open(cloud, call, "EncryptionContext")?;
    let mut answer = used_key(&opened.key_id, opened.version);
    put_plain(&mut answer, &opened.plain);
    Ok(Value::Object(answer))
}

/// The operation ReEncrypt. The plain bytes stay here.
pub fn re_encrypt(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    needed(call.params, "CiphertextBlob")?;
    let context = context(call.params, "DestinationEncryptionContext")?;
    let key = user_key_id(cloud, call, "DestinationKeyId")?;
    let opened = open(cloud, call, "SourceEncryptionContext")?;
    let sealed = cloud.backend().seal(call.account(), &key, &opened.plain, &context, call.caller)?;
    Ok(Value::Object(sealed_answer(&sealed)))
}

/// The operation GenerateDataKey.
pub fn generate_data_key(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let (sealed, plain) = new_data_key(cloud, call)?;
    let mut answer = sealed_answer(&sealed);
    put_plain(&mut answer, &plain);
    Ok(Value::Object(answer))
}

/// The operation GenerateDataKeyWithoutPlaintext.
pub fn generate_data_key_without_plaintext(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let (sealed, _) = new_data_key(cloud, call)?;
    Ok(Value::Object(sealed_answer(&sealed)))
}

fn new_data_key(cloud: &Cloud, call: &Call<'_>) -> Result<(Sealed, Zeroizing<Vec<u8>>), KmsError> {
    needed(call.params, "KeyId")?;
    let bytes = data_key_bytes(call.params)?;
    let context = context(call.params, "EncryptionContext")?;
    let key = user_key_id(cloud, call, "KeyId")?;
    Ok(cloud.backend().new_data_key(call.account(), &key, bytes, &context, call.caller)?)
}

/// How long a data key is wanted: `NumberOfBytes` wins over `KeySpec`.
fn data_key_bytes(params: &Params) -> Result<usize, KmsError> {
    let of_spec = match params.text("KeySpec") {
        None | Some("AES_256") => 32,
        Some("AES_128") => 16,
        Some(_) => return Err(KmsError::invalid("KeySpec")),
    };
    match params.number("NumberOfBytes")? {
        None => Ok(of_spec),
        Some(bytes) if DATA_KEY_BYTES.contains(&bytes) => Ok(bytes),
        Some(_) => Err(KmsError::invalid("NumberOfBytes")),
    }
}

/// Opens `CiphertextBlob` with the context in a parameter, if a key of the user has sealed it.
fn open(cloud: &Cloud, call: &Call<'_>, context_name: &str) -> Result<Opened, KmsError> {
    let blob = decoded(call.params, "CiphertextBlob")?;
    let context = context(call.params, context_name)?;
    let opened = cloud.backend().open(call.account(), &blob, &context, call.caller).map_err(|error| match error {
        BackendError::NotAuthentic(_) => KmsError::not_authentic(context_name),
        error => error.into(),
    })?;
    refuse_service_key(cloud, call, &opened.key_id)?;
    Ok(opened)
}

/// The bytes of a parameter in base64, which has to be there.
fn decoded(params: &Params, name: &str) -> Result<Zeroizing<Vec<u8>>, KmsError> {
    let text = needed(params, name)?;
    // Room for the padding too: the decoder takes what it needs.
    let mut bytes = Zeroizing::new(vec![0; text.len().div_ceil(4) * 3]);
    let len = Base64::decode(text, &mut bytes).map_err(|_| KmsError::invalid(name))?.len();
    bytes.truncate(len);
    Ok(bytes)
}

/// The pairs that something is bound to: a JSON object of texts. Order and white space do not count.
fn context(params: &Params, name: &str) -> Result<EncryptionContext, KmsError> {
    let Some(text) = params.text(name) else { return Ok(EncryptionContext::new()) };
    if text.chars().count() > LONGEST_CONTEXT {
        return Err(KmsError::invalid(name));
    }
    serde_json::from_str(text).map_err(|_| KmsError::invalid(name))
}

fn used_key(key: &str, version: u32) -> Map<String, Value> {
    let mut answer = Map::new();
    answer.insert("KeyId".to_owned(), Value::String(key.to_owned()));
    answer.insert("KeyVersionId".to_owned(), Value::String(version_id(key, version)));
    answer
}

fn sealed_answer(sealed: &Sealed) -> Map<String, Value> {
    let mut answer = used_key(&sealed.key_id, sealed.version);
    answer.insert("CiphertextBlob".to_owned(), Value::String(Base64::encode_string(&sealed.blob)));
    answer
}

/// Puts plain bytes into an answer, as the only copy in it.
fn put_plain(answer: &mut Map<String, Value>, plain: &[u8]) {
    answer.insert("Plaintext".to_owned(), Value::String(Base64::encode_string(plain)));
}
