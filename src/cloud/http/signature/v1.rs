//! Signatures in parameters: HMAC-SHA1, version 1.0.

use base64ct::{Base64, Encoding};

use crate::cloud::ApiError;

use super::super::Product;
use super::super::refusal;
use super::super::request::Request;
use super::{Claim, Scheme, canonical, signed_at};

const SIGNATURE: &str = "Signature";

pub(super) fn claim(request: &Request<'_>, product: Product) -> Result<Claim, ApiError> {
    let needed =
        |name| request.param(name).filter(|value| !value.is_empty()).ok_or_else(|| refusal::missing(product, name));
    let access_key = needed("AccessKeyId")?.to_owned();
    let signature = request
        .param(SIGNATURE)
        .filter(|signature| !signature.is_empty())
        .ok_or_else(|| refusal::incomplete("The request is not signed: there is no parameter \"Signature\"."))?;
    for (name, only) in [("SignatureMethod", "HMAC-SHA1"), ("SignatureVersion", "1.0")] {
        if needed(name)? != only {
            return Err(refusal::unknown_signing(name));
        }
    }
    let nonce = match product {
        Product::Ecs => Some(needed("SignatureNonce")?),
        Product::Kms => request.param("SignatureNonce").filter(|nonce| !nonce.is_empty()),
    };
    Ok(Claim {
        access_key,
        signed_at: signed_at(request.param("Timestamp"))?,
        nonce: nonce.map(str::to_owned),
        scheme: Scheme::V1,
        string_to_sign: string_to_sign(request),
        signature: Base64::decode_vec(signature).unwrap_or_default(),
    })
}

/// The method, the path, and all parameters but the signature.
fn string_to_sign(request: &Request<'_>) -> String {
    let signed = request.query.iter().chain(&request.form).filter(|(name, _)| name != SIGNATURE);
    format!("{}&%2F&{}", request.http().method(), canonical::encode(&canonical::query(signed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use hyper::Request as HttpRequest;

    /// Examples of the cloud's documentation, with the key `testid` and the secret `testsecret`.
    const DESCRIBE_REGIONS: &str = "Format=XML&AccessKeyId=testid&Action=DescribeRegions&SignatureMethod=HMAC-SHA1\
        &SignatureNonce=3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf&Version=2014-05-26&Timestamp=2016-02-23T12%3A46%3A24Z\
        &SignatureVersion=1.0&Signature=OLeaidS1JvxuMvnyHOwuJ%2BuX5qY%3D";
    const CREATE_KEY: &str = "AccessKeyId=testid&Action=CreateKey&SignatureMethod=HMAC-SHA1&SignatureVersion=1.0\
        &Timestamp=2016-03-28T03%3A13%3A08Z&Version=2016-01-20&Format=json&Signature=41wk2SSX1GJh7fwnc5eqOfiJPFg%3D";

    fn get(query: &str) -> HttpRequest<Bytes> {
        HttpRequest::builder().uri(format!("/?{query}")).body(Bytes::new()).expect("a request")
    }

    fn claim_of(query: &str, product: Product) -> Result<Claim, ApiError> {
        let http = get(query);
        claim(&Request::read(&http).expect("read"), product)
    }

    #[test]
    fn published_signatures_hold() {
        for (query, product) in [(DESCRIBE_REGIONS, Product::Ecs), (CREATE_KEY, Product::Kms)] {
            let claim = claim_of(query, product).expect("a claim");
            assert_eq!(claim.access_key, "testid");
            assert_eq!(claim.nonce.is_some(), product == Product::Ecs);
            assert!(claim.is_signed_with(b"testsecret"));
            assert!(!claim.is_signed_with(b"testsecre"));
            let other = query.replace("Action=", "Action=X");
            assert!(!claim_of(&other, product).expect("a claim").is_signed_with(b"testsecret"));
        }
    }

    #[test]
    fn a_form_is_signed_as_if_it_stood_in_the_query() {
        let http = HttpRequest::builder().method("POST").uri("/?b=2&Signature=x").body(Bytes::from_static(b"a=1+*&c="));
        let http = http.expect("a request");
        let request = Request::read(&http).expect("read");
        assert_eq!(string_to_sign(&request), "POST&%2F&a%3D1%2520%252A%26b%3D2%26c%3D");
    }

    #[test]
    fn a_mismatch_tells_the_official_sdk_what_was_signed() {
        let message = claim_of(DESCRIBE_REGIONS, Product::Ecs).expect("a claim").mismatch().message;
        let parts: Vec<_> = message.split(':').collect();
        assert!(parts.len() == 2 && parts[1].starts_with("GET&%2F&AccessKeyId%3Dtestid%26Action"), "{message}");
    }

    #[test]
    fn what_is_not_there_or_not_known_is_named() {
        for (from, to, product, code, name) in [
            ("AccessKeyId=testid&", "", Product::Ecs, "MissingParameter", "AccessKeyId"),
            ("AccessKeyId=testid&", "AccessKeyId=&", Product::Ecs, "MissingParameter", "AccessKeyId"),
            ("&SignatureMethod=HMAC-SHA1", "", Product::Ecs, "MissingParameter", "SignatureMethod"),
            ("HMAC-SHA1", "HMAC-SHA256", Product::Ecs, "InvalidParamater", "SignatureMethod"),
            ("SignatureVersion=1.0", "SignatureVersion=2.0", Product::Ecs, "InvalidParamater", "SignatureVersion"),
            ("SignatureNonce", "Other", Product::Ecs, "MissingParameter", "SignatureNonce"),
            ("Signature=", "Other=", Product::Ecs, "IncompleteSignature", "Signature"),
            ("Timestamp=", "Other=", Product::Ecs, "IllegalTimestamp", "timestamp"),
            ("T12%3A", "T25%3A", Product::Ecs, "IllegalTimestamp", "timestamp"),
        ] {
            let error = claim_of(&DESCRIBE_REGIONS.replace(from, to), product).expect_err(code);
            assert_eq!((error.code.as_ref(), error.status), (code, 400));
            assert!(error.message.contains(name), "{}", error.message);
        }
        // What is no base64 cannot be the signature.
        let claim = claim_of(&DESCRIBE_REGIONS.replace("OLeaidS1", "!!!!"), Product::Ecs).expect("a claim");
        assert!(!claim.is_signed_with(b"testsecret"));
    }
}
