//! Requests and their answers, without connections.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Request as HttpRequest, Response};
use serde_json::{Value, json};

use super::super::front::Front;
use super::super::signature::canonical;
use super::super::testing::{Dummy, signed, signed_headers};

const ECS: &str = "2014-05-26";
const KMS: &str = "2016-01-20";
const HOST: &str = "ecs.example:8080";

struct Bench {
    service: Arc<Dummy>,
    front: Front,
}

struct Answer {
    status: u16,
    kind: String,
    request_id: String,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }

    fn code(&self) -> (String, u16) {
        (self.json()["Code"].as_str().expect("a code").to_owned(), self.status)
    }
}

impl Bench {
    fn new(per_second: u32) -> Self {
        let service = Dummy::new();
        let front = Front::open(service.clone(), service.state(), per_second).expect("a front");
        Self { service, front }
    }

    fn get(&self, version: &str, given: &[(&str, &str)]) -> Answer {
        self.send("GET", &canonical::query(&signed("GET", version, given)), &[], "")
    }

    fn send(&self, method: &str, query: &str, headers: &[(String, String)], body: &str) -> Answer {
        let mut request = HttpRequest::builder().method(method).uri(format!("/?{query}")).header("host", HOST);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Bytes::copy_from_slice(body.as_bytes())).expect("a request");
        read(self.front.answer(&request))
    }
}

fn read(response: Response<http_body_util::Full<Bytes>>) -> Answer {
    let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
    let (status, kind, request_id) = (response.status().as_u16(), header("content-type"), header("x-acs-request-id"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let body = runtime.block_on(response.into_body().collect()).expect("a body").to_bytes();
    Answer { status, kind, request_id, text: String::from_utf8(body.to_vec()).expect("text") }
}

const JSON: (&str, &str) = ("Format", "JSON");

#[test]
fn an_operation_gets_its_caller_and_its_parameters_only() {
    let bench = Bench::new(0);
    let answer = bench.get(ECS, &[JSON, ("SignatureType", ""), ("RegionId", "r"), ("DiskName", "数 *~+")]);
    assert_eq!((answer.status, answer.kind.as_str()), (200, "application/json;charset=utf-8"));
    let id = &answer.request_id;
    assert!(id.len() == 36 && id.parse::<uuid::Uuid>().is_ok() && *id == id.to_uppercase(), "{id}");
    let params = json!([{ "Name": "DiskName", "Value": "数 *~+" }, { "Name": "RegionId", "Value": "r" }]);
    let wanted = json!({ "Account": "acme", "Key": "testid", "Params": { "Param": params }, "RequestId": id });
    assert_eq!(answer.json(), wanted);
    assert_ne!(bench.get(ECS, &[JSON]).request_id, *id);
}

#[test]
fn ecs_answers_xml_unless_it_is_asked_not_to() {
    let bench = Bench::new(0);
    let answer = bench.get(ECS, &[("a", "<")]);
    let id = &answer.request_id;
    assert_eq!((answer.status, answer.kind.as_str()), (200, "text/xml;charset=utf-8"));
    let wanted = format!(
        "<EchoResponse><Account>acme</Account><Key>testid</Key><Params><Param><Name>a</Name><Value>&lt;</Value></Param></Params>\
         <RequestId>{id}</RequestId></EchoResponse>"
    );
    assert!(answer.text.starts_with("<?xml") && answer.text.ends_with(&wanted), "{}", answer.text);
    let refused = bench.get(ECS, &[("Action", "Fail")]);
    assert_eq!(refused.status, 404);
    assert!(refused.text.contains("<Error><Code>InvalidDiskId.NotFound</Code><HostId>ecs.example:8080</HostId>"));
    let kms = bench.get(KMS, &[("Format", "xml"), ("Action", "Fail")]);
    assert!(kms.text.contains("<KMS><Code>InvalidDiskId.NotFound</Code><HttpStatus>404</HttpStatus>"), "{}", kms.text);
}

#[test]
fn kms_answers_json_and_needs_no_nonce() {
    let bench = Bench::new(0);
    let again = signed("GET", KMS, &[("SignatureNonce", "")]);
    for _ in 0..2 {
        assert_eq!(bench.send("GET", &canonical::query(&again), &[], "").json()["Account"], "acme");
    }
    let refused = bench.get(KMS, &[("Action", "Fail")]);
    let id = &refused.request_id;
    let message = "The specified disk does not exist.";
    assert_eq!(
        refused.json(),
        json!({ "Code": "InvalidDiskId.NotFound", "HttpStatus": 404, "Message": message, "RequestId": id })
    );
}

#[test]
fn signatures_in_headers_are_answered_in_json() {
    let bench = Bench::new(0);
    for (version, query, body) in [(ECS, "a=1&b=x%20y", ""), (KMS, "", "c=1+2")] {
        let mut headers = signed_headers(version, HOST, query, body);
        headers.push(("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
        let answer = bench.send("POST", query, &headers, body);
        assert_eq!(answer.json()["Account"], "acme", "{}", answer.text);
        let again = bench.send("POST", query, &headers, body);
        assert_eq!(again.code(), ("SignatureNonceUsed".to_owned(), 400));
        assert_eq!(again.json()["HostId"].as_str(), (version == ECS).then_some(HOST));
    }
    let mut headers = signed_headers(ECS, HOST, "", "");
    headers.retain(|(name, _)| name != "x-acs-version");
    assert_eq!(bench.send("POST", "", &headers, "").code(), ("MissingParameter".to_owned(), 400));
}

#[test]
fn a_form_is_as_good_as_the_query() {
    let bench = Bench::new(0);
    let body = canonical::query(&signed("POST", ECS, &[JSON, ("a", "1")]));
    let form = ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned());
    assert_eq!(bench.send("POST", "", &[form], &body).json()["Params"]["Param"][0]["Value"], "1");
}

#[test]
fn who_has_not_signed_is_refused_by_the_code_of_the_product() {
    let bench = Bench::new(0);
    for (version, given, wanted) in [
        (ECS, ("AccessKeyId", "nobody"), ("InvalidAccessKeyId.NotFound", 400)),
        (KMS, ("AccessKeyId", "nobody"), ("InvalidAccessKeyId.NotFound", 404)),
        (ECS, ("AccessKeyId", "off"), ("Forbidden.AccessKeyDisabled", 403)),
        (KMS, ("AccessKeyId", "off"), ("Forbidden.AccessKey", 403)),
        (ECS, ("AccessKeyId", "broken"), ("ServiceUnavailable", 503)),
        (ECS, ("Timestamp", "2018-06-07T06:08:54Z"), ("IllegalTimestamp", 400)),
        (ECS, ("Timestamp", "2118-06-07T06:08:54Z"), ("IllegalTimestamp", 400)),
        (ECS, ("Timestamp", "now"), ("IllegalTimestamp", 400)),
        (ECS, ("SignatureMethod", "HMAC-MD5"), ("InvalidParamater", 400)),
        (ECS, ("SignatureVersion", "2.0"), ("InvalidParamater", 400)),
        (ECS, ("SignatureNonce", ""), ("MissingParameter", 400)),
        (ECS, ("Action", "Unknown"), ("InvalidAction.NotFound", 404)),
        (ECS, ("Version", "2014-05-27"), ("InvalidParameter", 400)),
    ] {
        let answer = bench.get(version, &[JSON, given]);
        let (code, status) = wanted;
        assert_eq!(answer.code(), (code.to_owned(), status), "{given:?}");
    }
    assert_eq!(bench.service.calls.load(Ordering::SeqCst), 0);
}

#[test]
fn a_wrong_signature_is_told_what_was_signed_and_uses_up_no_nonce() {
    let bench = Bench::new(0);
    let good = signed("GET", ECS, &[JSON, ("a", "1")]);
    let mut bad = good.clone();
    bad.iter_mut().filter(|(name, _)| name == "a").for_each(|(_, value)| *value = "2".to_owned());
    let refused = bench.send("GET", &canonical::query(&bad), &[], "");
    assert_eq!(refused.code(), ("SignatureDoesNotMatch".to_owned(), 400));
    let json = refused.json();
    let message: Vec<_> = json["Message"].as_str().expect("a message").split(':').collect();
    assert!(message.len() == 2 && message[1].starts_with("GET&%2F&AccessKeyId%3Dtestid"), "{message:?}");
    // A disabled key is told so only to those who have its secret.
    bad.iter_mut().filter(|(name, _)| name == "AccessKeyId").for_each(|(_, value)| *value = "off".to_owned());
    assert_eq!(bench.send("GET", &canonical::query(&bad), &[], "").code().0, "SignatureDoesNotMatch");
    let good = canonical::query(&good);
    assert_eq!(bench.send("GET", &good, &[], "").status, 200);
    assert_eq!(bench.send("GET", &good, &[], "").code(), ("SignatureNonceUsed".to_owned(), 400));
    // A new front in the same place knows it, too.
    let front = Front::open(bench.service.clone(), bench.service.state(), 0).expect("a front");
    let bench = Bench { front, ..bench };
    assert_eq!(bench.send("GET", &good, &[], "").code().0, "SignatureNonceUsed");
}

#[test]
fn what_cannot_be_read_is_answered_in_json() {
    let bench = Bench::new(0);
    let answer = bench.send("GET", "a=%zz", &[], "");
    assert_eq!(answer.code(), ("InvalidParameter".to_owned(), 400));
    assert_eq!(answer.json()["HostId"], HOST);
    assert_eq!(bench.send("PUT", "Format=json", &[], "").code(), ("UnsupportedHTTPMethod".to_owned(), 403));
    assert_eq!(bench.send("HEAD", "Format=json", &[], "").code().0, "UnsupportedHTTPMethod");
}

#[test]
fn an_account_that_asks_too_much_is_refused_after_it_has_proved_itself() {
    let bench = Bench::new(1);
    let codes: Vec<_> = (0..3).map(|_| bench.get(ECS, &[JSON]).json()["Code"].clone()).collect();
    assert_eq!(codes[0], Value::Null);
    assert!(codes.contains(&"Throttling".into()), "{codes:?}");
    assert_eq!(bench.get(ECS, &[JSON, ("AccessKeyId", "nobody")]).code().0, "InvalidAccessKeyId.NotFound");
}

#[test]
fn the_log_says_who_asked_for_what_and_nothing_of_what_was_said() {
    let bench = Bench::new(0);
    let log = Log::default();
    let writer = log.clone();
    // With one subscriber in the process, `tracing` asks the subscriber of whatever thread comes to a message first, or has all messages looked at
    // anew as a change of the log's level does, and a thread that has none silences all. With two it asks both.
    let _other = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let answer = tracing::subscriber::with_default(subscriber, || {
        bench.get(ECS, &[JSON, ("Action", "Fail"), ("Plaintext", "plain-s3cret")]);
        let mut bad = signed("GET", ECS, &[JSON, ("Plaintext", "plain-s3cret")]);
        bad.pop();
        bad.push(("Signature".to_owned(), "signature-s3cret".to_owned()));
        assert_eq!(bench.send("GET", &canonical::query(&bad), &[], "").code().0, "SignatureDoesNotMatch");
        bench.get(ECS, &[JSON, ("Plaintext", "plain-s3cret")])
    });
    let said = String::from_utf8(log.0.lock().expect("a lock").clone()).expect("text");
    assert_eq!(said.lines().count(), 3, "{said}");
    for wanted in ["Fail", "Echo", "acme", "InvalidDiskId.NotFound", "SignatureDoesNotMatch", "OK", &answer.request_id]
    {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert!(!said.contains("s3cret") && !said.contains("testsecret"), "{said}");
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a lock").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn of_requests_sent_at_once_with_one_nonce_one_is_carried_out() {
    let bench = Bench::new(0);
    let query = canonical::query(&signed("GET", ECS, &[JSON]));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| bench.send("GET", &query, &[], ""));
        }
    });
    assert_eq!(bench.service.calls.load(Ordering::SeqCst), 1);
}
