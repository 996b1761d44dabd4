//! What a request says: its parameters, from the query and from a form, and what is asked for.
//!
//! There are two styles. In the older one everything is a parameter. In the newer one, which an `Authorization` header tells, action and version are
//! headers. No name may come twice: the signature does not cover the order of equal names, so somebody in between could choose the value that counts.

use std::collections::HashSet;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request as HttpRequest};

use crate::cloud::{ApiError, Params};

use super::Product;
use super::envelope::{Format, Shape};
use super::refusal;
use super::signature::Pair;

/// Parameters of the protocol; operations do not see them.
const COMMON: [&str; 11] = [
    "AccessKeyId",
    "Action",
    "Format",
    "SecurityToken",
    "Signature",
    "SignatureMethod",
    "SignatureNonce",
    "SignatureType",
    "SignatureVersion",
    "Timestamp",
    "Version",
];

/// A request whose parameters have been read.
pub(super) struct Request<'a> {
    http: &'a HttpRequest<Bytes>,
    /// From the query.
    pub(super) query: Vec<Pair>,
    /// From a form in the body.
    pub(super) form: Vec<Pair>,
}

impl<'a> Request<'a> {
    /// Reads the parameters.
    pub(super) fn read(http: &'a HttpRequest<Bytes>) -> Result<Self, ApiError> {
        let query = parse("query", http.uri().query().unwrap_or_default().as_bytes())?;
        let form = match http.body() {
            body if body.is_empty() => Vec::new(),
            _ if !is_form(http.headers()) => {
                return Err(refusal::unreadable(
                    "The body is no form; send parameters in the query, or as application/x-www-form-urlencoded.",
                ));
            }
            body => parse("body", body)?,
        };
        let mut names = HashSet::new();
        if let Some((name, _)) = query.iter().chain(&form).find(|(name, _)| !names.insert(name)) {
            return Err(refusal::unreadable(format!("The specified parameter \"{name}\" is given more than once.")));
        }
        Ok(Self { http, query, form })
    }

    /// Whether action, version and signature are in headers.
    pub(super) fn is_signed_in_headers(&self) -> bool {
        self.http.headers().contains_key(AUTHORIZATION)
    }

    /// The HTTP request.
    pub(super) fn http(&self) -> &HttpRequest<Bytes> {
        self.http
    }

    /// The value of a parameter.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().chain(&self.form).find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The value of a header that came once and is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.http.headers().get_all(name).iter();
        let first = values.next()?;
        if values.next().is_some() { None } else { text(first) }
    }

    /// What is asked for, if anything is.
    pub(super) fn action(&self) -> Option<&str> {
        let action = if self.is_signed_in_headers() { self.header("x-acs-action") } else { self.param("Action") };
        action.filter(|action| !action.is_empty())
    }

    fn version(&self) -> Option<&str> {
        let version = if self.is_signed_in_headers() { self.header("x-acs-version") } else { self.param("Version") };
        version.filter(|version| !version.is_empty())
    }

    /// How the answer shall look, whatever becomes of the request.
    pub(super) fn shape(&self) -> Shape {
        let product = self.version().and_then(Product::of_version).unwrap_or(Product::Ecs);
        let format = match self.param("Format").map(Format::of_name) {
            Some(Some(format)) => format,
            Some(None) => Format::Json,
            None if self.is_signed_in_headers() || product == Product::Kms => Format::Json,
            None => Format::Xml,
        };
        Shape { product, format }
    }

    /// What is asked of whom, once it is clear that the front can tell.
    pub(super) fn target(&self) -> Result<(Product, &str), ApiError> {
        if !is_served(self.http.method()) {
            return Err(refusal::method());
        }
        if !matches!(self.http.uri().path(), "/" | "") {
            return Err(refusal::no_such_action());
        }
        if self.param("Format").is_some_and(|name| Format::of_name(name).is_none()) {
            return Err(refusal::invalid("Format"));
        }
        let version = self.version().ok_or_else(|| refusal::missing(Product::Ecs, "Version"))?;
        let product = Product::of_version(version).ok_or_else(|| refusal::invalid("Action or Version"))?;
        let action = self.action().ok_or_else(|| refusal::missing(product, "Action"))?;
        Ok((product, action))
    }

    /// The parameters of the operation.
    pub(super) fn into_params(self) -> Params {
        let mut params = Params::new();
        for (name, value) in self.query.into_iter().chain(self.form) {
            if COMMON.binary_search(&name.as_str()).is_err() {
                params.insert(name, value);
            }
        }
        params
    }
}

/// The methods that there are.
fn is_served(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::POST)
}

/// A header's value, if it is text.
pub(super) fn text(value: &hyper::header::HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok()
}

/// By which name the client has reached us.
pub(super) fn host(headers: &HeaderMap) -> &str {
    headers.get(HOST).and_then(text).unwrap_or_default()
}

/// A body without a type is taken for a form, as there is no other kind.
fn is_form(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_none_or(|kind| {
        let kind = text(kind).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}

/// Parses what is encoded as a form (WHATWG URL, section 5.1), but strictly: what is no percent-encoded UTF-8 is refused.
pub(super) fn parse(place: &str, encoded: &[u8]) -> Result<Vec<Pair>, ApiError> {
    let pairs = encoded.split(|byte| *byte == b'&').filter(|part| !part.is_empty());
    pairs
        .map(|part| {
            let equals = part.iter().position(|byte| *byte == b'=');
            let (name, value) = equals.map_or((part, &[][..]), |at| (&part[..at], &part[at + 1..]));
            Ok((decode(place, name)?, decode(place, value)?))
        })
        .collect()
}

fn decode(place: &str, encoded: &[u8]) -> Result<String, ApiError> {
    let wrong = |what: &str| refusal::unreadable(format!("The {place} cannot be read: {what}."));
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = (rest.next().and_then(digit), rest.next().and_then(digit));
                let (Some(high), Some(low)) = digits else {
                    return Err(wrong("a percent sign is not followed by two hexadecimal digits"));
                };
                high << 4 | low
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong("its text is not UTF-8"))
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::super::signature::canonical;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn http(method: &str, query: &str, headers: &[(&str, &str)], body: &str) -> HttpRequest<Bytes> {
        let mut request = HttpRequest::builder().method(method).uri(format!("/?{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Bytes::copy_from_slice(body.as_bytes())).expect("a request")
    }

    fn refused(http: &HttpRequest<Bytes>) -> (String, u16, String) {
        let read = Request::read(http).and_then(|request| request.target().map(|_| ()));
        let error = read.expect_err("refused");
        (error.code.into_owned(), error.status, error.message)
    }

    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");

    #[test]
    fn query_and_form_are_one() {
        let http = http("POST", "Action=A&Version=2014-05-26&a=1+2%2b&b", &[FORM], "c=%E6%95%B0&d=x=y&&Signature=s");
        let request = Request::read(&http).expect("read");
        assert_eq!(request.target().expect("clear"), (Product::Ecs, "A"));
        let params = request.into_params();
        let all: Vec<_> = params.iter().collect();
        assert_eq!(all, [("a", "1 2+"), ("b", ""), ("c", "数"), ("d", "x=y")]);
    }

    #[test]
    fn what_is_not_percent_encoded_utf_8_is_refused_and_not_repeated() {
        for (query, wanted) in [
            ("a=%", "two hexadecimal digits"),
            ("a=%4", "two hexadecimal digits"),
            ("a=%+1", "two hexadecimal digits"),
            ("s3cret=%zz", "two hexadecimal digits"),
            ("a=s3cret%ff", "not UTF-8"),
            ("%C3=1", "not UTF-8"),
            ("a=%ED%A0%80", "not UTF-8"),
        ] {
            let (code, status, message) = refused(&http("GET", query, &[], ""));
            assert_eq!((code.as_str(), status), ("InvalidParameter", 400), "{query}");
            assert!(message.contains(wanted) && message.contains("query") && !message.contains("s3cret"), "{message}");
        }
    }

    #[test]
    fn a_name_comes_once() {
        for (query, body) in [("a=1&a=1", ""), ("a=1", "a=2"), ("Action=A&Action=B", "")] {
            let (_, status, message) = refused(&http("POST", query, &[FORM], body));
            assert!(status == 400 && message.contains("more than once"), "{message}");
        }
    }

    #[test]
    fn a_body_is_a_form() {
        let (.., message) = refused(&http("POST", "", &[("content-type", "application/json")], "{}"));
        assert!(message.contains("x-www-form-urlencoded"), "{message}");
        for headers in [&[][..], &[("content-type", "Application/X-WWW-Form-Urlencoded")]] {
            assert!(Request::read(&http("POST", "", headers, "a=1")).is_ok());
        }
        assert!(Request::read(&http("POST", "a=1", &[("content-type", "application/octet-stream")], "")).is_ok());
    }

    #[test]
    fn what_cannot_be_answered_is_refused_by_its_code() {
        for (method, query, wanted) in [
            ("PUT", "Action=A&Version=2014-05-26", ("UnsupportedHTTPMethod", 403)),
            ("GET", "Action=A", ("MissingParameter", 400)),
            ("GET", "Action=A&Version=2014-05-27", ("InvalidParameter", 400)),
            ("GET", "Version=2014-05-26", ("MissingParameter", 400)),
            ("GET", "Action=&Version=2016-01-20", ("MissingParameter", 400)),
            ("GET", "Action=A&Version=2014-05-26&Format=yaml", ("InvalidParameter", 400)),
        ] {
            let (code, status, _) = refused(&http(method, query, &[], ""));
            assert_eq!((code.as_str(), status), wanted, "{method} {query}");
        }
        let other = HttpRequest::builder().uri("/api?Action=A&Version=2014-05-26").body(Bytes::new());
        let (code, ..) = refused(&other.expect("a request"));
        assert_eq!(code, "InvalidAction.NotFound");
    }

    #[test]
    fn the_answer_looks_as_it_was_asked_for() {
        let signed = ("authorization", "ACS3-HMAC-SHA256 …");
        let kms = ("x-acs-version", "2016-01-20");
        for (query, headers, product, format) in [
            ("Version=2014-05-26", &[][..], Product::Ecs, Format::Xml),
            ("Version=2014-05-26&Format=JSON", &[], Product::Ecs, Format::Json),
            ("Version=2016-01-20", &[], Product::Kms, Format::Json),
            ("Version=2016-01-20&Format=xml", &[], Product::Kms, Format::Xml),
            ("", &[], Product::Ecs, Format::Xml),
            ("", &[signed], Product::Ecs, Format::Json),
            ("Format=XML", &[signed, kms], Product::Kms, Format::Xml),
            ("Version=2014-05-26", &[signed, kms], Product::Kms, Format::Json),
        ] {
            let http = http("GET", query, headers, "");
            let shape = Request::read(&http).expect("read").shape();
            assert_eq!((shape.product, shape.format), (product, format), "{query} {headers:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_its_order_is_not_signed(pairs in vec((any::<String>(), any::<String>()), 0..6)) {
            let written = canonical::query(&pairs);
            let mut sorted = pairs.clone();
            sorted.sort();
            prop_assert_eq!(parse("query", written.as_bytes()), Ok(sorted));
            let turned: Vec<_> = pairs.into_iter().rev().collect();
            prop_assert_eq!(canonical::query(&turned), written);
        }
    }

    #[test]
    fn common_parameters_are_in_order() {
        assert!(COMMON.is_sorted());
    }
}
