//! What a fuzzer may throw at requests; see `tests/fuzz`. Tests feed the same entries.

use bytes::Bytes;
use hyper::Request as HttpRequest;
use hyper::header::{HeaderName, HeaderValue};

use super::Product;
use super::request::{Request, parse};
use super::signature::{Claim, Pair, canonical};

/// Names and values that can be read are written so that they are read again; the order of parameters does not change what is signed. False if they cannot
/// be read.
pub fn parameters(bytes: &[u8]) -> bool {
    let Ok(pairs) = parse("query", bytes) else { return false };
    let written: Vec<_> = pairs.iter().map(|(name, value)| write(name, value)).collect();
    assert_eq!(parse("query", written.join("&").as_bytes()).expect("it was written"), pairs);

    let signed = canonical::query(&pairs);
    assert!(signed.is_ascii() && !signed.contains([' ', '+', '*']));
    let turned: Vec<Pair> = pairs.iter().rev().cloned().collect();
    assert_eq!(canonical::query(&turned), signed);
    let mut sorted = pairs;
    sorted.sort();
    assert_eq!(parse("query", signed.as_bytes()).expect("it was written"), sorted);
    true
}

fn write(name: &str, value: &str) -> String {
    format!("{}={}", canonical::encode(name), canonical::encode(value))
}

/// Lines: the method, the query, a form, and headers. A request has one claim, whatever the order of its parameters, and a secret that nobody knows has not
/// signed it. False if it has none.
pub fn claim(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default().to_vec();
    let (method, query, form) = (line(), line(), line());
    let headers: Vec<_> = lines.filter_map(header).collect();
    let turned = |part: &[u8]| {
        let mut parts: Vec<_> = part.split(|byte| *byte == b'&').collect();
        parts.reverse();
        parts.join(&b'&')
    };
    let claims = [(query.clone(), form.clone()), (turned(&query), turned(&form))].map(|(query, form)| {
        let uri = [b"/?", &query[..]].concat();
        let mut request = HttpRequest::builder().method(&method[..]).uri(uri);
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let http = request.body(Bytes::from(form)).ok()?;
        let request = Request::read(&http).ok()?;
        let _ = (request.shape(), request.target().is_ok());
        [Product::Ecs, Product::Kms].into_iter().find_map(|product| Claim::of(&request, product).ok())
    });
    for claim in claims.iter().flatten() {
        assert!(!claim.is_signed_with(b"a secret that nobody knows"));
        assert_eq!(claim.mismatch().message.split(':').count(), 2);
    }
    if let [Some(one), Some(other)] = &claims {
        // The hash of a form is that of its bytes.
        let in_headers = headers.iter().any(|(name, _)| name == "authorization");
        assert!(in_headers && !form.is_empty() || one.mismatch() == other.mismatch());
    }
    claims.iter().any(Option::is_some)
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    Some((name, HeaderValue::from_bytes(&line[colon + 1..]).ok()?))
}
