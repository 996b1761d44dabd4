//! The form of a request that is signed: percent-encoded names and values in the order of their bytes.

use std::fmt::Write;

/// A name and its value, decoded.
pub(in crate::cloud::http) type Pair = (String, String);

/// Percent-encodes all but the unreserved characters (RFC 3986 section 2.3).
pub(in crate::cloud::http) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() + text.len() / 4);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes everything");
        }
    }
    encoded
}

/// The pairs in the order of their names, encoded and joined. Names are in the order that they have before they are encoded.
pub(in crate::cloud::http) fn query<'a>(pairs: impl IntoIterator<Item = &'a Pair>) -> String {
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_unreserved_is_encoded() {
        assert_eq!(encode("azAZ09-_.~"), "azAZ09-_.~");
        assert_eq!(encode("a b*c+d/e%数\0"), "a%20b%2Ac%2Bd%2Fe%25%E6%95%B0%00");
    }

    #[test]
    fn names_are_in_the_order_of_their_bytes() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let pairs = [pair("b", "2"), pair("a.1", ""), pair("B", "1"), pair("a", "x y"), pair("a-", "")];
        assert_eq!(query(&pairs), "B=1&a=x%20y&a-=&a.1=&b=2");
        assert_eq!(query(&[]), "");
    }
}
