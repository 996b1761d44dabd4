//! Data of users by the Transit engine: encrypted with a key that it derives from the user's key and the [`DataContext`].
//!
//! What it is bound to goes there as a hash: a context may be far longer than what a request has room for. The label before it keeps it apart from the
//! contexts of disk keys, so that neither opens in the place of the other.

use aws_lc_rs::digest::{SHA256, digest};

use crate::kms::{Answer, CmkId, DataContext, KmsError, MOST_CIPHERTEXT, Plaintext};
use crate::memory::Secret;

use super::answer::{Encrypted, Envelope, version_of};
use super::text::{Middling, TooLong, data_of, written};
use super::transit::{Call, Unwrapped, Vault};

const LABEL: &[u8] = b"strongroom data context 1\0";

impl Vault {
    #[inline(never)]
    pub(super) fn seal_left(
        &self,
        cmk: &CmkId,
        plain: &[u8],
        context: &DataContext,
    ) -> Result<Answer<(u32, Vec<u8>)>, KmsError> {
        self.check_owner(cmk, context)?;
        let path = format!("encrypt/{cmk}");
        let body = written(|body: &mut Middling| {
            body.push(b"{\"plaintext\":\"")?.push_base64(plain)?;
            push_context(body, context)
        })?;
        let reply = self.with_key(&Call::post(path.clone(), &body), cmk, self.http.deadline())?;
        let Envelope { request_id, data } = self.http.parse::<Envelope<Encrypted>>(&reply, &path)?;
        let version = version_of(&data.ciphertext).filter(|_| data.ciphertext.len() <= MOST_CIPHERTEXT);
        let Some(version) = version else {
            return Err(self.http.nonsense(format!("its answer for {path} is no cipher text")));
        };
        Ok(Answer::new((version, data.ciphertext.into_bytes()), request_id))
    }

    #[inline(never)]
    pub(super) fn open_left(
        &self,
        cmk: &CmkId,
        version: u32,
        sealed: &[u8],
        context: &DataContext,
    ) -> Result<Answer<Secret<Plaintext>>, KmsError> {
        self.check_owner(cmk, context)?;
        let damaged = |what: String| KmsError::CipherText { kms: self.http.name(), what };
        let text = str::from_utf8(sealed).ok().filter(|text| version_of(text) == Some(version));
        let text = text.ok_or_else(|| damaged("it is not what Vault makes".to_owned()))?;
        let path = format!("decrypt/{cmk}");
        let body = written(|body: &mut Middling| {
            body.push(b"{\"ciphertext\":\"")?.push(text.as_bytes())?;
            push_context(body, context)
        })?;
        let reply = self.with_key(&Call::post(path.clone(), &body), cmk, self.http.deadline());
        let reply = reply.map_err(|error| match error {
            KmsError::NotAuthentic { what, .. } => damaged(what),
            other => other,
        })?;
        let answer: Unwrapped<'_> = self.http.parse(&reply, &path)?;
        let plain = data_of(answer.data.plaintext)
            .ok_or_else(|| self.http.nonsense("what it decrypted is longer than what may be encrypted"))??;
        Ok(Answer::new(plain, answer.request_id))
    }

    /// Nobody is told whether there is a key of somebody else.
    fn check_owner(&self, cmk: &CmkId, context: &DataContext) -> Result<(), KmsError> {
        let (_, account) = self.owner(cmk)?;
        let is_theirs = account == context.owner.account && self.region == context.owner.region;
        if is_theirs { Ok(()) } else { Err(self.not_found(cmk)) }
    }
}

/// Ends a request by what the data is bound to.
fn push_context<'a>(body: &'a mut Middling, context: &DataContext) -> Result<&'a mut Middling, TooLong> {
    let bound_to = [LABEL, digest(&SHA256, &context.encode()).as_ref()].concat();
    body.push(b"\",\"context\":\"")?.push_base64(&bound_to)?.push(b"\"}")
}
