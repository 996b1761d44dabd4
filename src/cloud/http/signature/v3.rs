//! Signatures in headers: ACS3-HMAC-SHA256.
//!
//! The client chooses what it signs; what counts for us has to be among it. The hash of the body is our own, and the header that says it has to say the
//! same.

use std::collections::BTreeSet;
use std::fmt::Write;

use aws_lc_rs::digest;
use hyper::header::AUTHORIZATION;

use crate::cloud::ApiError;

use super::super::Product;
use super::super::refusal;
use super::super::request::{Request, text};
use super::{Claim, Scheme, canonical, signed_at};

const ALGORITHM: &str = "ACS3-HMAC-SHA256";
const CONTENT_HASH: &str = "x-acs-content-sha256";
const DATE: &str = "x-acs-date";
const NONCE: &str = "x-acs-signature-nonce";
/// Whatever else is signed, without these a request could be changed or sent elsewhere.
const ALWAYS_SIGNED: [&str; 6] = ["host", "x-acs-action", CONTENT_HASH, DATE, NONCE, "x-acs-version"];

pub(super) fn claim(request: &Request<'_>, product: Product) -> Result<Claim, ApiError> {
    let header = request.header(AUTHORIZATION.as_str());
    let (algorithm, parts) = header.and_then(|header| header.split_once(' ')).ok_or_else(|| form(ALGORITHM))?;
    if algorithm != ALGORITHM {
        return Err(refusal::incomplete(format!("The algorithm is not served; sign by {ALGORITHM}.")));
    }
    let part = |name: &str| {
        let mut values = parts.split(',').filter_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        values.next().filter(|value| !value.is_empty() && values.next().is_none()).ok_or_else(|| form(name))
    };
    let (access_key, signed, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    check_signed(request, signed)?;
    let needed = |name| request.header(name).filter(|value| !value.is_empty());
    let nonce = needed(NONCE).ok_or_else(|| refusal::missing(product, NONCE))?;
    let body = hex(digest::digest(&digest::SHA256, request.http().body()).as_ref());
    let says_the_same = needed(CONTENT_HASH).is_some_and(|said| said.eq_ignore_ascii_case(&body));
    Ok(Claim {
        access_key: access_key.to_owned(),
        signed_at: signed_at(needed(DATE))?,
        nonce: Some(nonce.to_owned()),
        scheme: Scheme::V3,
        string_to_sign: string_to_sign(request, signed, &body)?,
        signature: if says_the_same { from_hex(signature) } else { Vec::new() },
    })
}

fn form(what: &str) -> ApiError {
    refusal::incomplete(format!(
        "The Authorization header lacks {what}, or has it twice; it looks like \
         {ALGORITHM} Credential=…,SignedHeaders=host;x-acs-action;…,Signature=…"
    ))
}

/// What counts is signed, and what is signed came once.
fn check_signed(request: &Request<'_>, signed: &str) -> Result<(), ApiError> {
    let names: BTreeSet<&str> = signed.split(';').collect();
    let headers = request.http().headers();
    let ours = headers.keys().map(|name| name.as_str()).filter(|name| name.starts_with("x-acs-"));
    if let Some(name) = ALWAYS_SIGNED.into_iter().chain(ours).find(|name| !names.contains(name)) {
        return Err(refusal::incomplete(format!("SignedHeaders lacks {name}.")));
    }
    match names.into_iter().find(|name| request.header(name).is_none()) {
        Some(name) => {
            let name: String = name.chars().take(64).collect();
            Err(refusal::incomplete(format!("The signed header {name:?} is missing, or came twice.")))
        }
        None => Ok(()),
    }
}

/// The hash of the request as it is signed.
fn string_to_sign(request: &Request<'_>, signed: &str, body: &str) -> Result<String, ApiError> {
    let canonical = canonical_request(request, signed, body)?;
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    Ok(format!("{ALGORITHM}\n{hash}"))
}

fn canonical_request(request: &Request<'_>, signed: &str, body: &str) -> Result<String, ApiError> {
    let (method, path) = (request.http().method(), request.http().uri().path());
    let mut canonical = format!("{method}\n{path}\n{}\n", canonical::query(&request.query));
    for name in signed.split(';') {
        let value = request.http().headers().get(name).and_then(text);
        let value = value.ok_or_else(|| refusal::incomplete("A signed header is no text."))?;
        writeln!(canonical, "{name}:{}", value.trim()).expect("a String takes everything");
    }
    write!(canonical, "\n{signed}\n{body}").expect("a String takes everything");
    Ok(canonical)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes everything");
        hex
    })
}

/// The bytes; none if it is no hexadecimal number.
fn from_hex(hex: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let pairs = hex.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use hyper::Request as HttpRequest;

    /// An example of the cloud's documentation.
    const SECRET: &[u8] = b"YourAccessKeySecret";
    const SIGNATURE: &str = "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0";
    const SIGNED: &str = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version";
    const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn example(change: impl FnOnce(&mut HttpRequest<Bytes>)) -> HttpRequest<Bytes> {
        let authorization =
            format!("{ALGORITHM} Credential=YourAccessKeyId,SignedHeaders={SIGNED},Signature={SIGNATURE}");
        let mut request = HttpRequest::builder()
            .method("POST")
            .uri("/?RegionId=cn-shanghai&ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd")
            .header("host", "ecs.cn-shanghai.aliyuncs.com")
            .header("x-acs-action", "RunInstances")
            .header("x-acs-version", "2014-05-26")
            .header("x-acs-date", "2023-10-26T10:22:32Z")
            .header("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d")
            .header("x-acs-content-sha256", NOTHING)
            .header("authorization", authorization)
            .body(Bytes::new())
            .expect("a request");
        change(&mut request);
        request
    }

    fn claim_of(http: &HttpRequest<Bytes>) -> Result<Claim, ApiError> {
        claim(&Request::read(http)?, Product::Ecs)
    }

    fn set(name: &'static str, value: &str) -> impl FnOnce(&mut HttpRequest<Bytes>) {
        move |request| {
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
    }

    #[test]
    fn the_published_signature_holds() {
        let http = example(|_| {});
        let request = Request::read(&http).expect("read");
        let canonical = canonical_request(&request, SIGNED, NOTHING).expect("canonical");
        let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        assert_eq!(hash, "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259");
        let claim = claim(&request, Product::Ecs).expect("a claim");
        assert_eq!(
            (claim.access_key.as_str(), claim.nonce.as_deref()),
            ("YourAccessKeyId", Some("3156853299f313e23d1673dc12e1703d"))
        );
        assert!(claim.is_signed_with(SECRET));
        assert!(!claim.is_signed_with(b"other"));
        let message = claim.mismatch().message;
        assert!(message.split(':').nth(1).is_some_and(|text| text.starts_with("ACS3-HMAC-SHA256\n7ea0")), "{message}");
    }

    #[test]
    fn a_request_that_was_changed_is_not_signed() {
        let body = |request: &mut HttpRequest<Bytes>| *request.body_mut() = Bytes::from_static(b"a=1");
        let query =
            |request: &mut HttpRequest<Bytes>| *request.uri_mut() = "/?RegionId=cn-shanghai".parse().expect("a URI");
        let method = |request: &mut HttpRequest<Bytes>| *request.method_mut() = hyper::Method::GET;
        for http in [
            example(body),
            example(query),
            example(method),
            example(set("x-acs-action", "DeleteInstances")),
            example(set("host", "elsewhere")),
            example(set("x-acs-content-sha256", "00")),
        ] {
            assert!(!claim_of(&http).expect("a claim").is_signed_with(SECRET), "{http:?}");
        }
    }

    #[test]
    fn a_header_that_does_not_count_need_not_be_signed() {
        let http = example(set("accept", "application/json"));
        assert!(claim_of(&http).expect("a claim").is_signed_with(SECRET));
    }

    #[test]
    fn what_is_not_signed_or_not_clear_is_named() {
        let twice = |request: &mut HttpRequest<Bytes>| {
            request.headers_mut().append("x-acs-action", "Other".parse().expect("a value"));
        };
        let gone = |request: &mut HttpRequest<Bytes>| {
            request.headers_mut().remove("x-acs-date");
        };
        let authorization = |text: &str| example(set("authorization", text));
        for (http, wanted) in [
            (example(twice), "x-acs-action"),
            (example(gone), "x-acs-date"),
            (example(set("x-acs-security-token", "t")), "SignedHeaders lacks x-acs-security-token"),
            (authorization("Basic dGVzdA=="), "sign by ACS3-HMAC-SHA256"),
            (authorization("ACS3-HMAC-SM3 Credential=a,SignedHeaders=host,Signature=00"), "sign by ACS3-HMAC-SHA256"),
            (authorization("ACS3-HMAC-SHA256"), "lacks ACS3-HMAC-SHA256"),
            (authorization("ACS3-HMAC-SHA256 Credential=a,Signature=00"), "lacks SignedHeaders"),
            (
                authorization(&format!(
                    "ACS3-HMAC-SHA256 Credential=a,Credential=b,SignedHeaders={SIGNED},Signature=00"
                )),
                "lacks Credential",
            ),
            (
                authorization("ACS3-HMAC-SHA256 Credential=a,SignedHeaders=host;x-acs-action,Signature=00"),
                "SignedHeaders lacks",
            ),
            (
                authorization(&format!("ACS3-HMAC-SHA256 Credential=a,SignedHeaders={SIGNED};nobody,Signature=00")),
                "\"nobody\" is missing",
            ),
        ] {
            let error = claim_of(&http).expect_err(wanted);
            assert_eq!((error.code.as_ref(), error.status), ("IncompleteSignature", 400));
            assert!(error.message.contains(wanted), "{}", error.message);
        }
        assert_eq!(claim_of(&example(set("x-acs-date", "yesterday"))).expect_err("no time").code, "IllegalTimestamp");
        assert_eq!(
            claim_of(&example(set("x-acs-signature-nonce", ""))).expect_err("no nonce").code,
            "MissingParameter"
        );
    }

    #[test]
    fn what_is_no_hexadecimal_number_is_no_signature() {
        assert_eq!(from_hex("00fF"), [0, 255]);
        for text in ["0", "0g", "+1", "数"] {
            assert!(from_hex(text).is_empty(), "{text}");
        }
    }
}
