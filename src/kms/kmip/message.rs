//! Requests and answers (KMIP 1.4 section 7; operations in section 4).
//!
//! A request is a batch of calls. Each has an identity that the server repeats: the number of the request, which is random, and the call's place in it. An
//! answer is taken only if it is to these calls, each once.

use zeroize::Zeroizing;

use super::ttlv::{HEADER_BYTES, Structure, TtlvError, Writer};
use super::words::{
    AES, CONTINUE, ENCRYPT_AND_DECRYPT, GCM, QUERY_SERVER_INFORMATION, SUCCESS, SYMMETRIC_KEY, UNINTERPRETED_TEXT,
    attribute, operation, tag,
};

/// The version that knows authenticated encryption.
pub const VERSION: (i32, i32) = (1, 4);
/// An answer that is longer is not read.
pub const MOST_ANSWER: usize = 64 << 10;
/// Of a nonce for AES-GCM that is used as it is (NIST SP 800-38D section 8.2.2).
pub const NONCE_BYTES: usize = 12;
/// Of a tag.
pub const TAG_BYTES: usize = 16;
/// What a server says about a failure is shown up to here.
const MOST_TEXT: usize = 200;

/// Something to ask the server for.
pub enum Call<'a> {
    /// Whether it speaks our version.
    DiscoverVersions,
    /// Who it is.
    Query,
    /// A new AES-256 key of this name.
    Create {
        /// The name.
        name: &'a str,
    },
    /// To make a key usable.
    Activate {
        /// The key.
        id: &'a str,
    },
    /// The keys of a name.
    Locate {
        /// The name.
        name: &'a str,
    },
    /// All symmetric keys, a page of them.
    LocateAll {
        /// How many come before.
        offset: usize,
        /// How many are wanted.
        most: usize,
    },
    /// The names, the state and the date of a key.
    GetAttributes {
        /// The key.
        id: &'a str,
    },
    /// To encrypt.
    Encrypt {
        /// By which key.
        id: &'a str,
        /// What.
        data: &'a [u8],
        /// The nonce.
        nonce: &'a [u8; NONCE_BYTES],
        /// What is authenticated with it.
        context: &'a [u8],
    },
    /// To decrypt.
    Decrypt {
        /// By which key.
        id: &'a str,
        /// What.
        data: &'a [u8],
        /// The nonce.
        nonce: &'a [u8; NONCE_BYTES],
        /// What is authenticated with it.
        context: &'a [u8],
        /// The tag.
        tag: &'a [u8; TAG_BYTES],
    },
}

impl Call<'_> {
    fn operation(&self) -> u32 {
        match self {
            Self::DiscoverVersions => operation::DISCOVER_VERSIONS,
            Self::Query => operation::QUERY,
            Self::Create { .. } => operation::CREATE,
            Self::Activate { .. } => operation::ACTIVATE,
            Self::Locate { .. } | Self::LocateAll { .. } => operation::LOCATE,
            Self::GetAttributes { .. } => operation::GET_ATTRIBUTES,
            Self::Encrypt { .. } => operation::ENCRYPT,
            Self::Decrypt { .. } => operation::DECRYPT,
        }
    }

    /// In the order of the tables of section 4: servers insist on it.
    fn write(&self, w: &mut Writer) {
        match *self {
            Self::DiscoverVersions => version(w),
            Self::Query => w.enumeration(tag::QUERY_FUNCTION, QUERY_SERVER_INFORMATION),
            Self::Create { name } => {
                w.enumeration(tag::OBJECT_TYPE, SYMMETRIC_KEY);
                w.structure(tag::TEMPLATE_ATTRIBUTE, |w| {
                    let value = tag::ATTRIBUTE_VALUE;
                    attribute(w, attribute::CRYPTOGRAPHIC_ALGORITHM, |w| w.enumeration(value, AES));
                    attribute(w, attribute::CRYPTOGRAPHIC_LENGTH, |w| w.integer(value, 256));
                    attribute(w, attribute::CRYPTOGRAPHIC_USAGE_MASK, |w| w.integer(value, ENCRYPT_AND_DECRYPT));
                    named(w, name);
                });
            }
            Self::Activate { id } => w.text(tag::UNIQUE_IDENTIFIER, id),
            Self::Locate { name } => {
                attribute(w, attribute::OBJECT_TYPE, |w| w.enumeration(tag::ATTRIBUTE_VALUE, SYMMETRIC_KEY));
                named(w, name);
            }
            Self::LocateAll { offset, most } => {
                w.integer(tag::MAXIMUM_ITEMS, most as i32);
                w.integer(tag::OFFSET_ITEMS, offset as i32);
                attribute(w, attribute::OBJECT_TYPE, |w| w.enumeration(tag::ATTRIBUTE_VALUE, SYMMETRIC_KEY));
            }
            Self::GetAttributes { id } => {
                w.text(tag::UNIQUE_IDENTIFIER, id);
                for name in [attribute::NAME, attribute::STATE, attribute::INITIAL_DATE] {
                    w.text(tag::ATTRIBUTE_NAME, name);
                }
            }
            Self::Encrypt { id, data, nonce, context } => {
                cipher(w, id, data, nonce);
                w.bytes(tag::ADDITIONAL_DATA, context);
            }
            Self::Decrypt { id, data, nonce, context, tag } => {
                cipher(w, id, data, nonce);
                w.bytes(tag::ADDITIONAL_DATA, context);
                w.bytes(tag::AUTHENTICATION_TAG, tag);
            }
        }
    }
}

fn version(w: &mut Writer) {
    w.structure(tag::PROTOCOL_VERSION, |w| {
        w.integer(tag::PROTOCOL_VERSION_MAJOR, VERSION.0);
        w.integer(tag::PROTOCOL_VERSION_MINOR, VERSION.1);
    });
}

fn attribute(w: &mut Writer, name: &str, value: impl FnOnce(&mut Writer)) {
    w.structure(tag::ATTRIBUTE, |w| {
        w.text(tag::ATTRIBUTE_NAME, name);
        value(w);
    });
}

fn named(w: &mut Writer, name: &str) {
    attribute(w, attribute::NAME, |w| {
        w.structure(tag::ATTRIBUTE_VALUE, |w| {
            w.text(tag::NAME_VALUE, name);
            w.enumeration(tag::NAME_TYPE, UNINTERPRETED_TEXT);
        });
    });
}

/// The beginning of Encrypt and Decrypt (sections 4.29 and 4.30).
fn cipher(w: &mut Writer, id: &str, data: &[u8], nonce: &[u8]) {
    w.text(tag::UNIQUE_IDENTIFIER, id);
    w.structure(tag::CRYPTOGRAPHIC_PARAMETERS, |w| {
        w.enumeration(tag::BLOCK_CIPHER_MODE, GCM);
        w.enumeration(tag::CRYPTOGRAPHIC_ALGORITHM, AES);
        w.integer(tag::TAG_LENGTH, TAG_BYTES as i32);
    });
    w.bytes(tag::DATA, data);
    w.bytes(tag::IV_COUNTER_NONCE, nonce);
}

/// A batch of calls, ready to be sent.
pub struct Request {
    number: [u8; 8],
    operations: Vec<u32>,
    bytes: Zeroizing<Vec<u8>>,
}

impl Request {
    /// Of these calls; the number is new for each request.
    pub fn new(number: [u8; 8], calls: &[Call<'_>]) -> Self {
        let mut w = Writer::new();
        w.structure(tag::REQUEST_MESSAGE, |w| {
            w.structure(tag::REQUEST_HEADER, |w| {
                version(w);
                w.integer(tag::MAXIMUM_RESPONSE_SIZE, MOST_ANSWER as i32);
                w.enumeration(tag::BATCH_ERROR_CONTINUATION_OPTION, CONTINUE);
                w.integer(tag::BATCH_COUNT, calls.len() as i32);
            });
            for (place, call) in calls.iter().enumerate() {
                w.structure(tag::BATCH_ITEM, |w| {
                    w.enumeration(tag::OPERATION, call.operation());
                    w.bytes(tag::UNIQUE_BATCH_ITEM_ID, &identity(&number, place));
                    w.structure(tag::REQUEST_PAYLOAD, |w| call.write(w));
                });
            }
        });
        Self { number, operations: calls.iter().map(Call::operation).collect(), bytes: w.finish() }
    }

    /// As it is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the server's log knows it by.
    pub fn id(&self) -> String {
        self.number.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether it may reach the server twice without harm.
    pub fn is_repeatable(&self) -> bool {
        !self.operations.contains(&operation::CREATE)
    }

    /// Reads the answer: for each call, in order, what it has brought.
    pub fn read<'a>(&self, answer: &'a [u8]) -> Result<Vec<Result<Structure<'a>, Refusal>>, TtlvError> {
        let message = Structure::check(answer)?.need(tag::RESPONSE_MESSAGE)?.structure()?;
        message.need(tag::RESPONSE_HEADER)?.structure()?;
        let mut outcomes: Vec<_> = self.operations.iter().map(|_| None).collect();
        for item in message.items().filter(|item| item.tag == tag::BATCH_ITEM) {
            let item = item.structure()?;
            let Some(id) = item.find(tag::UNIQUE_BATCH_ITEM_ID) else {
                return self.without_identity(item);
            };
            let id = id.bytes()?;
            let place = (0..outcomes.len()).find(|place| identity(&self.number, *place) == id);
            let outcome = place.and_then(|place| outcomes.get_mut(place)).filter(|outcome| outcome.is_none());
            *outcome.ok_or(TtlvError("it answers what was not asked"))? = Some(outcome_of(item)?);
        }
        let all: Option<Vec<_>> = outcomes.into_iter().collect();
        all.ok_or(TtlvError("it leaves a call without an answer"))
    }

    /// A server that understands nothing of a request refuses all of it, and cannot repeat the identities. With one call it need not.
    fn without_identity<'a>(&self, item: Structure<'a>) -> Result<Vec<Result<Structure<'a>, Refusal>>, TtlvError> {
        match outcome_of(item)? {
            Err(refusal) => Ok(self.operations.iter().map(|_| Err(refusal.clone())).collect()),
            Ok(payload) if self.operations.len() == 1 => Ok(vec![Ok(payload)]),
            Ok(_) => Err(TtlvError("it does not say which call it answers")),
        }
    }
}

fn identity(number: &[u8; 8], place: usize) -> [u8; 10] {
    let [high, low] = (place as u16).to_be_bytes();
    let mut identity = [0; 10];
    identity[..8].copy_from_slice(number);
    identity[8..].copy_from_slice(&[high, low]);
    identity
}

fn outcome_of(item: Structure<'_>) -> Result<Result<Structure<'_>, Refusal>, TtlvError> {
    if item.need(tag::RESULT_STATUS)?.enumeration()? == SUCCESS {
        let payload = item.find(tag::RESPONSE_PAYLOAD).map(|payload| payload.structure()).transpose()?;
        return Ok(Ok(payload.unwrap_or_default()));
    }
    let reason = item.find(tag::RESULT_REASON).map(|reason| reason.enumeration()).transpose()?;
    let text = item.find(tag::RESULT_MESSAGE).map(|text| text.text()).transpose()?;
    Ok(Err(Refusal { reason: reason.unwrap_or(0), text: printable(text.unwrap_or("no reason given")) }))
}

/// A peer's text, fit for a log.
pub fn printable(text: &str) -> String {
    text.chars().take(MOST_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Why a server has not done something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of [`super::words::reason`], or another.
    pub reason: u32,
    /// What it says.
    pub text: String,
}

/// The length of a whole answer, once its header is there.
pub fn answer_bytes(begun: &[u8]) -> Result<Option<usize>, TtlvError> {
    let Some(&[t0, t1, t2, 1, l0, l1, l2, l3]) = begun.first_chunk::<HEADER_BYTES>() else {
        return if begun.len() < HEADER_BYTES { Ok(None) } else { Err(TtlvError("it does not begin as an answer")) };
    };
    if u32::from_be_bytes([0, t0, t1, t2]) != tag::RESPONSE_MESSAGE.0 {
        return Err(TtlvError("it does not begin as an answer"));
    }
    match u32::from_be_bytes([l0, l1, l2, l3]) as usize {
        len if len > MOST_ANSWER - HEADER_BYTES => Err(TtlvError("an answer is longer than it may be")),
        len => Ok(Some(HEADER_BYTES + len)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    fn locate() -> Request {
        Request::new(NUMBER, &[Call::Locate { name: "a-v1" }, Call::Locate { name: "a-v2" }])
    }

    /// Its identity, and success with a key or a refusal.
    type Item<'a> = (Option<[u8; 10]>, Result<&'a str, u32>);

    /// An answer with these batch items.
    fn answer(items: &[Item<'_>]) -> Zeroizing<Vec<u8>> {
        let mut w = Writer::new();
        w.structure(tag::RESPONSE_MESSAGE, |w| {
            w.structure(tag::RESPONSE_HEADER, version);
            for (id, outcome) in items {
                w.structure(tag::BATCH_ITEM, |w| {
                    if let Some(id) = id {
                        w.bytes(tag::UNIQUE_BATCH_ITEM_ID, id);
                    }
                    match outcome {
                        Ok(key) => {
                            w.enumeration(tag::RESULT_STATUS, SUCCESS);
                            w.structure(tag::RESPONSE_PAYLOAD, |w| w.text(tag::UNIQUE_IDENTIFIER, key));
                        }
                        Err(reason) => {
                            w.enumeration(tag::RESULT_STATUS, 1);
                            w.enumeration(tag::RESULT_REASON, *reason);
                            w.text(tag::RESULT_MESSAGE, "no\nway");
                        }
                    }
                });
            }
        });
        w.finish()
    }

    #[test]
    fn answers_find_their_calls() {
        let request = locate();
        let bytes = answer(&[(Some(identity(&NUMBER, 1)), Err(12)), (Some(identity(&NUMBER, 0)), Ok("7"))]);
        assert_eq!(answer_bytes(&bytes), Ok(Some(bytes.len())));
        let outcomes = request.read(&bytes).expect("an answer");
        let key = outcomes[0].as_ref().map(|payload| payload.need(tag::UNIQUE_IDENTIFIER).and_then(|id| id.text()));
        assert_eq!(key, Ok(Ok("7")));
        assert_eq!(outcomes[1].as_ref().err(), Some(&Refusal { reason: 12, text: "no way".to_owned() }));
    }

    #[test]
    fn answers_to_something_else_are_refused() {
        let (first, second) = (Some(identity(&NUMBER, 0)), Some(identity(&NUMBER, 1)));
        let other = Some(identity(&[9; 8], 1));
        for items in [
            &[(first, Ok("7"))][..],
            &[(first, Ok("7")), (first, Ok("7"))],
            &[(first, Ok("7")), (other, Ok("7"))],
            &[(first, Ok("7")), (second, Ok("7")), (Some(identity(&NUMBER, 2)), Ok("7"))],
            &[(None, Ok("7"))],
        ] {
            assert!(locate().read(&answer(items)).is_err());
        }
        let whole = answer(&[(None, Err(4))]);
        assert!(locate().read(&whole).is_ok_and(|all| all.len() == 2 && all.iter().all(Result::is_err)));
    }

    #[test]
    fn lengths_of_answers_are_bounded() {
        let begun = |len: u32| [&[0x42, 0, 0x7B, 1][..], &len.to_be_bytes()].concat();
        assert_eq!(answer_bytes(&begun(16)), Ok(Some(24)));
        assert_eq!(answer_bytes(&begun(16)[..7]), Ok(None));
        assert!(answer_bytes(&begun(MOST_ANSWER as u32)).is_err());
        assert!(answer_bytes(b"HTTP/1.1 400").is_err());
    }

    #[test]
    fn a_request_with_a_key_can_be_sent_again_but_not_a_creation() {
        assert!(locate().is_repeatable());
        assert!(!Request::new(NUMBER, &[Call::Create { name: "a-v1" }]).is_repeatable());
        assert_eq!(locate().id(), "0102030405060708");
    }
}
