//! The messages of in-band authentication as they lie in the data of Authentication Send and Authentication Receive commands.
//!
//! Common messages: NVM Express Base 2.0 section 8.13.4. Those of DH-HMAC-CHAP: section 8.13.5 (TP 8006). [`Incoming::parse`]
//! checks everything that can be checked without knowing the transaction: kind, fixed values, and that the lengths inside a
//! message add up to exactly the length of the message. Reserved fields are not looked at.

use std::fmt;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// SECP of Authentication Receive and Send: NVMe (NVM Express Base 2.0 sections 6.1 and 6.2).
pub const SECURITY_PROTOCOL: u8 = 0xE9;
/// SPSP0 of both commands (sections 6.1 and 6.2).
pub const SECURITY_SPECIFIC_0: u8 = 0x01;
/// SPSP1 of both commands (sections 6.1 and 6.2).
pub const SECURITY_SPECIFIC_1: u8 = 0x01;

/// AUTH_TYPE of the common messages (section 8.13.4).
const COMMON: u8 = 0x00;
/// AUTH_TYPE of DH-HMAC-CHAP, and AuthID of its descriptor (sections 8.13.5 and 8.13.5.2).
const DH_HMAC_CHAP: u8 = 0x01;
/// AUTH_ID of AUTH_Negotiate (section 8.13.4).
const NEGOTIATE: u8 = 0x00;
/// AUTH_ID of AUTH_Failure2 (section 8.13.4).
const FAILURE2: u8 = 0xF0;
/// AUTH_ID of AUTH_Failure1 (section 8.13.4).
const FAILURE1: u8 = 0xF1;
/// AUTH_ID of DH-HMAC-CHAP_Challenge (section 8.13.5.3).
const CHALLENGE: u8 = 0x01;
/// AUTH_ID of DH-HMAC-CHAP_Reply (section 8.13.5.4).
const REPLY: u8 = 0x02;
/// AUTH_ID of DH-HMAC-CHAP_Success1 (section 8.13.5.5).
const SUCCESS1: u8 = 0x03;
/// AUTH_ID of DH-HMAC-CHAP_Success2 (section 8.13.5.6).
const SUCCESS2: u8 = 0x04;
/// The only reason code of the failure messages: authentication failure (section 8.13.4).
const AUTHENTICATION_FAILURE: u8 = 0x01;
/// SC_C: no secure channel concatenation (section 8.13.5.2).
pub const NO_SECURE_CHANNEL: u8 = 0;
/// The most identifiers in one list of a descriptor (section 8.13.5.2).
const MOST_IDS: usize = 30;

/// The most that a host has to send or to fetch at once: hosts use buffers of this size, and the longest message, a reply
/// with an ffdhe8192 value, is 1168 bytes long.
pub const MOST_MESSAGE_BYTES: usize = 4096;

/// Why authentication failed: the explanation in AUTH_Failure1 and AUTH_Failure2 (section 8.13.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The peer does not know the secret.
    Failed = 0x01,
    /// No authentication protocol in common.
    ProtocolUnusable = 0x02,
    /// The sides disagree on secure channel concatenation.
    SecureChannelMismatch = 0x03,
    /// No hash function in common.
    HashUnusable = 0x04,
    /// No Diffie-Hellman group in common.
    GroupUnusable = 0x05,
    /// A field of a message is wrong.
    IncorrectPayload = 0x06,
    /// The message is unknown or out of turn.
    IncorrectMessage = 0x07,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "authentication failed",
            Self::ProtocolUnusable => "authentication protocol not usable",
            Self::SecureChannelMismatch => "secure channel concatenation mismatch",
            Self::HashUnusable => "hash function not usable",
            Self::GroupUnusable => "Diffie-Hellman group not usable",
            Self::IncorrectPayload => "incorrect payload",
            Self::IncorrectMessage => "incorrect protocol message",
        })
    }
}

/// How all messages start.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    auth_type: u8,
    auth_id: u8,
    reserved: [u8; 2],
    /// T_ID: which transaction of the queue it belongs to.
    pub transaction: U16,
}
const _: () = assert!(size_of::<Header>() == 6);

impl Header {
    fn new(auth_type: u8, auth_id: u8, transaction: u16) -> Self {
        Self { auth_type, auth_id, reserved: [0; 2], transaction: transaction.into() }
    }
}

/// AUTH_Negotiate without its descriptors (section 8.13.4).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Negotiate {
    /// With T_ID, which the host chooses.
    pub header: Header,
    /// SC_C: whether a secure channel follows.
    pub secure_channel: u8,
    /// NAPD: how many descriptors follow.
    descriptors: u8,
}
const _: () = assert!(size_of::<Negotiate>() == 8);

/// The descriptor of DH-HMAC-CHAP (section 8.13.5.2).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Descriptor {
    auth_id: u8,
    reserved: u8,
    /// HALEN.
    hash_count: u8,
    /// DHLEN.
    group_count: u8,
    hash_ids: [u8; MOST_IDS],
    group_ids: [u8; MOST_IDS],
}
const _: () = assert!(size_of::<Descriptor>() == 64);

impl Descriptor {
    /// The hash identifiers that the host offers.
    pub fn hash_ids(&self) -> Result<&[u8], Reason> {
        self.hash_ids.get(..self.hash_count.into()).ok_or(Reason::IncorrectPayload)
    }

    /// The group identifiers that the host offers.
    pub fn group_ids(&self) -> Result<&[u8], Reason> {
        self.group_ids.get(..self.group_count.into()).ok_or(Reason::IncorrectPayload)
    }
}

/// DH-HMAC-CHAP_Challenge (section 8.13.5.3); the challenge C1 and the controller's Diffie-Hellman value follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Challenge {
    header: Header,
    hash_len: u8,
    reserved_7: u8,
    hash_id: u8,
    group_id: u8,
    public_len: U16,
    sequence: U32,
}
const _: () = assert!(size_of::<Challenge>() == 16);

/// DH-HMAC-CHAP_Reply (section 8.13.5.4); the response R1, the challenge C2 and the host's Diffie-Hellman value follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Reply {
    header: Header,
    hash_len: u8,
    reserved_7: u8,
    challenge_valid: u8,
    reserved_9: u8,
    public_len: U16,
    sequence: U32,
}
const _: () = assert!(size_of::<Reply>() == 16);

/// DH-HMAC-CHAP_Success1 (section 8.13.5.5); the response R2 follows.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Success1 {
    header: Header,
    hash_len: u8,
    reserved_7: u8,
    response_valid: u8,
    reserved_9: [u8; 7],
}
const _: () = assert!(size_of::<Success1>() == 16);

/// DH-HMAC-CHAP_Success2 (section 8.13.5.6).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Success2 {
    header: Header,
    reserved: [u8; 10],
}
const _: () = assert!(size_of::<Success2>() == 16);

/// AUTH_Failure1 and AUTH_Failure2 (section 8.13.4).
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Failure {
    header: Header,
    reason: u8,
    explanation: u8,
}
const _: () = assert!(size_of::<Failure>() == 8);

/// What a reply holds.
pub struct ReplyFields<'a> {
    /// R1: the host's response to C1.
    pub response: &'a [u8],
    /// S2 and C2, if the host wants the controller to authenticate too.
    pub challenge: Option<(u32, &'a [u8])>,
    /// The host's Diffie-Hellman value.
    pub public: &'a [u8],
}

/// A message from a host.
pub enum Incoming<'a> {
    /// AUTH_Negotiate, with the descriptor of DH-HMAC-CHAP.
    Negotiate(&'a Negotiate, &'a Descriptor),
    /// DH-HMAC-CHAP_Reply.
    Reply(ReplyFields<'a>),
    /// DH-HMAC-CHAP_Success2.
    Success2,
    /// AUTH_Failure2, with its explanation.
    Failure2(u8),
}

/// The transaction that a message claims to belong to.
pub fn transaction_of(message: &[u8]) -> Option<u16> {
    Header::ref_from_prefix(message).ok().map(|(header, _)| header.transaction.get())
}

impl<'a> Incoming<'a> {
    /// Reads a message.
    pub fn parse(message: &'a [u8]) -> Result<Self, Reason> {
        if message.len() > MOST_MESSAGE_BYTES {
            return Err(Reason::IncorrectPayload);
        }
        let (header, _) = Header::ref_from_prefix(message).map_err(|_| Reason::IncorrectPayload)?;
        match (header.auth_type, header.auth_id) {
            (COMMON, NEGOTIATE) => parse_negotiate(message),
            (DH_HMAC_CHAP, REPLY) => parse_reply(message).map(Self::Reply),
            (DH_HMAC_CHAP, SUCCESS2) => whole::<Success2>(message).map(|_| Self::Success2),
            (COMMON, FAILURE2) => whole::<Failure>(message).map(|failure| Self::Failure2(failure.explanation)),
            _ => Err(Reason::IncorrectMessage),
        }
    }
}

fn whole<T: FromBytes + KnownLayout + Immutable + Unaligned>(message: &[u8]) -> Result<&T, Reason> {
    T::ref_from_bytes(message).map_err(|_| Reason::IncorrectPayload)
}

fn parse_negotiate(message: &[u8]) -> Result<Incoming<'_>, Reason> {
    let (negotiate, rest) = Negotiate::ref_from_prefix(message).map_err(|_| Reason::IncorrectPayload)?;
    let descriptors = <[Descriptor]>::ref_from_bytes(rest).map_err(|_| Reason::IncorrectPayload)?;
    if descriptors.is_empty() || descriptors.len() != usize::from(negotiate.descriptors) {
        return Err(Reason::IncorrectPayload);
    }
    let ours = descriptors.iter().find(|descriptor| descriptor.auth_id == DH_HMAC_CHAP);
    ours.map(|ours| Incoming::Negotiate(negotiate, ours)).ok_or(Reason::ProtocolUnusable)
}

fn parse_reply(message: &[u8]) -> Result<ReplyFields<'_>, Reason> {
    let (reply, rest) = Reply::ref_from_prefix(message).map_err(|_| Reason::IncorrectPayload)?;
    let (hash_len, public_len) = (usize::from(reply.hash_len), usize::from(reply.public_len.get()));
    // C2 has its place even if it is not valid.
    if rest.len() != 2 * hash_len + public_len {
        return Err(Reason::IncorrectPayload);
    }
    let (response, rest) = rest.split_at(hash_len);
    let (challenge, public) = rest.split_at(hash_len);
    let challenge = match (reply.challenge_valid, reply.sequence.get()) {
        // Hosts send a sequence number here too: Linux does.
        (0, _) => None,
        // C2 without S2 is for a secure channel, and those are refused before.
        (1, 0) => return Err(Reason::IncorrectPayload),
        (1, sequence) => Some((sequence, challenge)),
        _ => return Err(Reason::IncorrectPayload),
    };
    Ok(ReplyFields { response, challenge, public })
}

/// DH-HMAC-CHAP_Challenge.
pub fn challenge(
    transaction: u16,
    hash_id: u8,
    group_id: u8,
    sequence: u32,
    challenge: &[u8],
    public: &[u8],
) -> Vec<u8> {
    let head = Challenge {
        header: Header::new(DH_HMAC_CHAP, CHALLENGE, transaction),
        hash_len: challenge.len() as u8,
        reserved_7: 0,
        hash_id,
        group_id,
        public_len: (public.len() as u16).into(),
        sequence: sequence.into(),
    };
    [head.as_bytes(), challenge, public].concat()
}

/// DH-HMAC-CHAP_Success1, with the response R2 if the host asked for one.
pub fn success1(transaction: u16, hash_len: usize, response: Option<&[u8]>) -> Vec<u8> {
    let head = Success1 {
        header: Header::new(DH_HMAC_CHAP, SUCCESS1, transaction),
        // Linux checks it whether or not a response follows.
        hash_len: hash_len as u8,
        reserved_7: 0,
        response_valid: response.is_some().into(),
        reserved_9: [0; 7],
    };
    let mut message = head.as_bytes().to_vec();
    match response {
        Some(response) => message.extend_from_slice(response),
        None => message.resize(size_of::<Success1>() + hash_len, 0),
    }
    message
}

/// AUTH_Failure1.
pub fn failure1(transaction: u16, reason: Reason) -> Vec<u8> {
    let header = Header::new(COMMON, FAILURE1, transaction);
    Failure { header, reason: AUTHENTICATION_FAILURE, explanation: reason as u8 }.as_bytes().to_vec()
}
