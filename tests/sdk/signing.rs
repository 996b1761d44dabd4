//! Requests that a test signs itself (HMAC-SHA1, version 1.0), so that it can send the same bytes twice, late or changed.

use std::io::{Read, Write};
use std::net::TcpStream;

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use strongroom::time::Time;

/// Who signs, and when.
pub struct Signing<'a> {
    pub key: &'a str,
    pub secret: &'a str,
    pub time: Time,
}

impl<'a> Signing<'a> {
    pub fn now(key: &'a str, secret: &'a str) -> Self {
        Self { key, secret, time: Time::now() }
    }

    /// The query of a request; what is given counts more than the usual parameters.
    pub fn query(&self, given: &[(&str, &str)]) -> String {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).expect("noise");
        let (nonce, time) = (format!("{:x}", u128::from_le_bytes(nonce)), self.time.to_second());
        let usual = [
            ("AccessKeyId", self.key),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", &nonce),
            ("SignatureVersion", "1.0"),
            ("Timestamp", &time),
            ("Version", "2014-05-26"),
        ];
        let usual = usual.iter().filter(|(name, _)| given.iter().all(|(other, _)| other != name));
        let mut pairs: Vec<_> =
            usual.chain(given).map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        pairs.sort();
        let query = pairs.join("&");
        let key = PKey::hmac(format!("{}&", self.secret).as_bytes()).expect("a key");
        let mut signer = Signer::new(MessageDigest::sha1(), &key).expect("a signer");
        signer.update(format!("GET&%2F&{}", encode(&query)).as_bytes()).expect("signed");
        let signature = openssl::base64::encode_block(&signer.sign_to_vec().expect("signed"));
        format!("{query}&Signature={}", encode(&signature))
    }
}

/// RFC 3986: all but the unreserved characters.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encoded = text.bytes().map(|byte| if plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") });
    encoded.collect()
}

/// Sends exactly this query; returns status and body.
pub fn get(address: &str, query: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(crate::operator::PATIENCE)).expect("set");
    let request = format!("GET /?{query} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, body.to_owned())
}
