//! Who has signed a request: what it claims, and whether the claim holds.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `canonical` | the form in which requests are signed |
//! | `v1` | signatures in parameters: HMAC-SHA1, version 1.0 |
//! | `v3` | signatures in headers: ACS3-HMAC-SHA256 |
//!
//! Nothing in a request is believed before [`Claim::is_signed_with`] has said so. Signatures are compared in constant time.

pub(super) mod canonical;
mod v1;
mod v3;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::cloud::ApiError;
use crate::time::Time;

use super::Product;
use super::refusal;
use super::request::Request;

pub(super) use canonical::Pair;

/// How far the time of a signature may be from ours.
pub(super) const WINDOW_MS: u64 = 15 * 60 * 1000;

/// What a request says of its signature.
#[derive(Debug)]
pub(super) struct Claim {
    /// The key that it says it was signed with.
    pub(super) access_key: String,
    /// When.
    pub(super) signed_at: Time,
    /// What makes it different from all others. KMS does not ask for it in version 1.0.
    pub(super) nonce: Option<String>,
    scheme: Scheme,
    string_to_sign: String,
    /// Empty if it is none.
    signature: Vec<u8>,
}

/// How a text is signed with a secret.
#[derive(Clone, Copy, Debug)]
enum Scheme {
    /// HMAC-SHA1; the key is the secret and an ampersand.
    V1,
    /// HMAC-SHA256.
    V3,
}

impl Claim {
    /// Reads it.
    pub(super) fn of(request: &Request<'_>, product: Product) -> Result<Self, ApiError> {
        if request.is_signed_in_headers() { v3::claim(request, product) } else { v1::claim(request, product) }
    }

    /// The time has to be near ours.
    pub(super) fn check_time(&self, now_ms: u64) -> Result<(), ApiError> {
        let [earliest, latest] = [now_ms.saturating_sub(WINDOW_MS), now_ms + WINDOW_MS].map(Time::from_ms);
        if self.signed_at < earliest || self.signed_at > latest {
            return Err(refusal::timestamp("The timestamp is more than 15 minutes away from the server's time."));
        }
        Ok(())
    }

    /// Whether the signature was made with this secret.
    pub(super) fn is_signed_with(&self, secret: &[u8]) -> bool {
        let key = match self.scheme {
            Scheme::V1 => {
                let key = Zeroizing::new([secret, b"&"].concat());
                hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key)
            }
            Scheme::V3 => hmac::Key::new(hmac::HMAC_SHA256, secret),
        };
        hmac::verify(&key, self.string_to_sign.as_bytes(), &self.signature).is_ok()
    }

    /// What to answer if the signature is another one.
    pub(super) fn mismatch(&self) -> ApiError {
        refusal::mismatch(&self.string_to_sign)
    }
}

/// A time such as `2018-06-07T06:08:54Z`.
fn signed_at(text: Option<&str>) -> Result<Time, ApiError> {
    let wrong = || refusal::timestamp("The timestamp is missing or malformed; it looks like 2018-06-07T06:08:54Z.");
    let to_the_second = text.filter(|text| text.len() == "2018-06-07T06:08:54Z".len());
    let without_zone = to_the_second.and_then(|text| text.strip_suffix('Z')).ok_or_else(wrong)?;
    format!("{without_zone}.000Z").parse().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_form() {
        assert_eq!(signed_at(Some("1970-01-01T00:00:01Z")), Ok(Time::from_ms(1000)));
        for text in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:01.0Z",
            "1970-01-01T00:00:61Z",
            "1970-01-01 00:00:01Z",
            "数数数数数数Z",
        ] {
            assert_eq!(signed_at(Some(text)).expect_err(text).code, "IllegalTimestamp");
        }
        assert_eq!(signed_at(None).expect_err("none").code, "IllegalTimestamp");
    }
}
