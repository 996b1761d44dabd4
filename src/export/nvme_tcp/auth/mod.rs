//! In-band authentication by DH-HMAC-CHAP, the controller's side (NVM Express Base 2.0 section 8.13; TP 8006).
//!
//! An [`Authenticator`] belongs to one queue and does no I/O. The queue hands it the data of each Authentication Send and asks it
//! for the data of each Authentication Receive; the order is
//!
//! ```text
//!  host                              controller
//!  AUTH_Negotiate          ──send──►             hash and group are chosen; g^x is computed
//!                          ◄receive─ Challenge   C1, S1, g^x
//!  Reply                   ──send──►             R1 is compared; C2, S2 if the host wants to know us too
//!                          ◄receive─ Success1    R2; without C2 the host is in
//!  Success2                ──send──►             only after C2; the host is in
//! ```
//!
//! What always holds: a host is authenticated only after it gave the right R1 in the transaction under way; the first thing
//! that goes wrong ends the queue, and the host may fetch the reason as AUTH_Failure1; nothing on a reactor computes a power:
//! the queue gets it as an [`Exponentiation`] and runs it through [`offload`](crate::reactor::offload). Reauthentication is a
//! new transaction on a queue that stays authenticated until it fails. A secure channel (TLS) is not offered, so a host that
//! wants one concatenated is refused. How long a transaction may take is for the queue to say.

mod ffdhe;
mod hash;
mod message;
mod policy;
mod primes;
mod response;
mod secret;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use thiserror::Error;

pub use ffdhe::{Exponentiation, Group, Power};
pub use hash::Hash;
pub use message::{MOST_MESSAGE_BYTES, Reason, SECURITY_PROTOCOL, SECURITY_SPECIFIC_0, SECURITY_SPECIFIC_1};
pub use policy::{AuthConfig, HostPolicy, PolicyError};

use ffdhe::Exponent;
use hash::{MOST_HASH_BYTES, SecretBytes};
use message::{Descriptor, Incoming, NO_SECURE_CHANNEL, Negotiate, ReplyFields};
use response::Binding;

/// Authentication of one queue.
pub struct Authenticator {
    policy: Arc<HostPolicy>,
    subsystem_nqn: Arc<str>,
    authenticated: bool,
    state: State,
}

/// What a transaction agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    transaction: u16,
    /// The hash function.
    pub hash: Hash,
    /// The Diffie-Hellman group.
    pub group: Group,
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and group {}", self.hash, self.group)
    }
}

/// What to do after an Authentication Send.
#[must_use]
pub enum Sent {
    /// Complete the command; the host fetches what follows.
    Answer,
    /// Run this off the reactor and give the result to [`Authenticator::resume`]; then complete the command.
    Compute(Exponentiation),
    /// Complete the command; the queue is authenticated, both ways.
    Authenticated(Terms),
    /// Complete the command and end the queue: the host does not accept us. The number is the explanation in its AUTH_Failure2.
    Rejected(u8),
}

/// What an Authentication Receive gets.
#[must_use]
pub struct Received {
    /// The data. It may be shorter than what the host made room for.
    pub data: Vec<u8>,
    /// What it means for the queue.
    pub outcome: Outcome,
}

/// What a message from us means for the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The transaction goes on.
    Continues,
    /// The queue is authenticated.
    Authenticated(Terms),
    /// The queue has to end once the data is sent.
    Failed(Reason),
}

/// The host made too little room for what it has to fetch, and may try again. The command fails with Invalid Field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the answer takes {needed} bytes and the host made room for {allocated}")]
pub struct TooLittleRoom {
    /// How much the message takes.
    pub needed: usize,
    /// How much there is.
    pub allocated: usize,
}

/// A challenge under way.
struct Challenge {
    terms: Terms,
    /// S1.
    sequence: u32,
    /// C1.
    value: [u8; MOST_HASH_BYTES],
    /// x, unless the group is null.
    exponent: Option<Exponent>,
}

/// A reply whose shared secret is being computed.
struct Reply {
    /// R1.
    response: [u8; MOST_HASH_BYTES],
    /// S2 and C2.
    challenge: Option<(u32, [u8; MOST_HASH_BYTES])>,
}

enum State {
    /// No transaction is under way.
    Idle,
    /// g^x is being computed.
    Generating(Terms),
    /// The host may fetch the challenge, with g^x in it.
    ChallengeReady(Box<Challenge>, Vec<u8>),
    /// The host has the challenge.
    AwaitingReply(Box<Challenge>),
    /// y^x is being computed.
    Deriving(Box<Challenge>, Box<Reply>),
    /// The host may fetch the success, with R2 in it.
    Success1Ready(Terms, Option<SecretBytes>),
    /// The host has R2.
    AwaitingSuccess2(Terms),
    /// The host may fetch the failure.
    Failed(u16, Reason),
    /// The host rejected us.
    Rejected,
}

impl State {
    /// T_ID of the transaction under way.
    fn transaction(&self) -> Option<u16> {
        match self {
            Self::Idle | Self::Rejected => None,
            Self::Generating(terms) | Self::Success1Ready(terms, _) | Self::AwaitingSuccess2(terms) => {
                Some(terms.transaction)
            }
            Self::ChallengeReady(challenge, _) | Self::AwaitingReply(challenge) | Self::Deriving(challenge, _) => {
                Some(challenge.terms.transaction)
            }
            Self::Failed(transaction, _) => Some(*transaction),
        }
    }
}

impl Authenticator {
    /// For a queue that this host connected to this subsystem.
    pub fn new(policy: Arc<HostPolicy>, subsystem_nqn: Arc<str>) -> Self {
        Self { policy, subsystem_nqn, authenticated: false, state: State::Idle }
    }

    /// Whether the host may use the queue. A transaction that fails takes it back.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    #[cfg(test)]
    fn is_under_way(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// Takes the data of an Authentication Send.
    pub fn send(&mut self, data: &[u8]) -> Sent {
        if let State::Failed(..) = self.state {
            // The first failure is the one to tell.
            return Sent::Answer;
        }
        let claimed = message::transaction_of(data);
        let known = self.state.transaction();
        let next = match Incoming::parse(data) {
            Ok(Incoming::Failure2(explanation)) if known.is_none() || known == claimed => {
                self.authenticated = false;
                self.state = State::Rejected;
                return Sent::Rejected(explanation);
            }
            Ok(incoming) => self.advance(incoming, claimed),
            Err(reason) => Err(reason),
        };
        next.unwrap_or_else(|reason| {
            self.fail(known.or(claimed), reason);
            Sent::Answer
        })
    }

    /// Takes the result of an [`Exponentiation`]. If the queue failed meanwhile, nothing changes.
    pub fn resume(&mut self, power: Power) {
        let resumed = match std::mem::replace(&mut self.state, State::Idle) {
            State::Generating(terms) => {
                // The generator is a public value, so there is a power.
                let public = power.value.as_deref().map_or(&[][..], Vec::as_slice);
                self.prepare_challenge(terms, Some(power.exponent), public.to_vec())
                    .map_err(|reason| (terms.transaction, reason))
            }
            State::Deriving(challenge, reply) => {
                let transaction = challenge.terms.transaction;
                let checked = match power.value {
                    None => Err(Reason::IncorrectPayload),
                    Some(shared) => {
                        let session_key = challenge.terms.hash.digest(&shared);
                        self.check_reply(&challenge, &reply, Some(&session_key))
                    }
                };
                checked.map_err(|reason| (transaction, reason))
            }
            other => {
                self.state = other;
                return;
            }
        };
        if let Err((transaction, reason)) = resumed {
            self.fail(Some(transaction), reason);
        }
    }

    /// Gives the data for an Authentication Receive that has room for `allocated` bytes.
    pub fn receive(&mut self, allocated: usize) -> Result<Received, TooLittleRoom> {
        let data = self.waiting_message().unwrap_or_else(|| {
            let (transaction, reason) = (self.state.transaction(), Reason::IncorrectMessage);
            self.fail(transaction, reason);
            message::failure1(transaction.unwrap_or(0), reason)
        });
        if data.len() > allocated {
            return Err(TooLittleRoom { needed: data.len(), allocated });
        }
        Ok(Received { data, outcome: self.fetched() })
    }

    /// What the host may fetch now.
    fn waiting_message(&self) -> Option<Vec<u8>> {
        match &self.state {
            State::ChallengeReady(challenge, public) => Some(challenge.message(public)),
            State::Success1Ready(terms, response) => {
                let response = response.as_ref().map(SecretBytes::as_bytes);
                Some(message::success1(terms.transaction, terms.hash.bytes(), response))
            }
            State::Failed(transaction, reason) => Some(message::failure1(*transaction, *reason)),
            _ => None,
        }
    }

    /// The host has what waited for it.
    fn fetched(&mut self) -> Outcome {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::ChallengeReady(challenge, _) => {
                self.state = State::AwaitingReply(challenge);
                Outcome::Continues
            }
            State::Success1Ready(terms, Some(_)) => {
                self.state = State::AwaitingSuccess2(terms);
                Outcome::Continues
            }
            State::Success1Ready(terms, None) => {
                self.authenticated = true;
                Outcome::Authenticated(terms)
            }
            State::Failed(transaction, reason) => {
                self.state = State::Failed(transaction, reason);
                Outcome::Failed(reason)
            }
            _ => unreachable!("only what waits is fetched"),
        }
    }

    /// Takes a message that is well-formed; it may still be out of turn.
    fn advance(&mut self, incoming: Incoming<'_>, claimed: Option<u16>) -> Result<Sent, Reason> {
        match (incoming, std::mem::replace(&mut self.state, State::Idle)) {
            (Incoming::Negotiate(negotiate, descriptor), State::Idle) => self.negotiate(negotiate, descriptor),
            (Incoming::Reply(reply), State::AwaitingReply(challenge)) => {
                check_transaction(challenge.terms, claimed)?;
                self.reply(challenge, reply)
            }
            (Incoming::Success2, State::AwaitingSuccess2(terms)) => {
                check_transaction(terms, claimed)?;
                self.authenticated = true;
                Ok(Sent::Authenticated(terms))
            }
            _ => Err(Reason::IncorrectMessage),
        }
    }

    fn negotiate(&mut self, negotiate: &Negotiate, descriptor: &Descriptor) -> Result<Sent, Reason> {
        if negotiate.secure_channel != NO_SECURE_CHANNEL {
            return Err(Reason::SecureChannelMismatch);
        }
        let (hashes, groups) = (descriptor.hash_ids()?, descriptor.group_ids()?);
        let terms = Terms {
            transaction: negotiate.header.transaction.get(),
            hash: self.policy.choose_hash(hashes).ok_or(Reason::HashUnusable)?,
            group: self.policy.choose_group(groups).ok_or(Reason::GroupUnusable)?,
        };
        let Some(field) = terms.group.field() else {
            self.prepare_challenge(terms, None, Vec::new())?;
            return Ok(Sent::Answer);
        };
        let exponent = Exponent::random(field).map_err(|_| Reason::Failed)?;
        self.state = State::Generating(terms);
        Ok(Sent::Compute(exponent.public_value()))
    }

    fn prepare_challenge(&mut self, terms: Terms, exponent: Option<Exponent>, public: Vec<u8>) -> Result<(), Reason> {
        let mut value = [0; MOST_HASH_BYTES];
        getrandom::fill(&mut value[..terms.hash.bytes()]).map_err(|_| Reason::Failed)?;
        let sequence = next_sequence().map_err(|_| Reason::Failed)?;
        self.state = State::ChallengeReady(Box::new(Challenge { terms, sequence, value, exponent }), public);
        Ok(())
    }

    fn reply(&mut self, mut challenge: Box<Challenge>, fields: ReplyFields<'_>) -> Result<Sent, Reason> {
        let reply = Reply::from_fields(&fields, challenge.terms.hash).ok_or(Reason::IncorrectPayload)?;
        match challenge.exponent.take() {
            None if fields.public.is_empty() => {
                self.check_reply(&challenge, &reply, None)?;
                Ok(Sent::Answer)
            }
            None => Err(Reason::IncorrectPayload),
            Some(exponent) => {
                let power = exponent.shared_secret(fields.public);
                self.state = State::Deriving(challenge, Box::new(reply));
                Ok(Sent::Compute(power))
            }
        }
    }

    /// Compares R1 and computes R2.
    fn check_reply(
        &mut self,
        challenge: &Challenge,
        reply: &Reply,
        session_key: Option<&SecretBytes>,
    ) -> Result<(), Reason> {
        let terms = challenge.terms;
        let hash_len = terms.hash.bytes();
        let binding = Binding {
            hash: terms.hash,
            transaction: terms.transaction,
            host_nqn: &self.policy.host_nqn,
            subsystem_nqn: &self.subsystem_nqn,
            session_key,
        };
        let key = self.policy.secret.key_for(&self.policy.host_nqn);
        let wanted = binding.host_response(&key, challenge.sequence, &challenge.value[..hash_len]);
        if !wanted.matches(&reply.response[..hash_len]) {
            return Err(Reason::Failed);
        }
        let response = match (&reply.challenge, &self.policy.controller_secret) {
            (None, _) => None,
            // The host wants proof that we cannot give.
            (Some(_), None) => return Err(Reason::Failed),
            (Some((sequence, value)), Some(secret)) => {
                let key = secret.key_for(&self.subsystem_nqn);
                Some(binding.controller_response(&key, *sequence, &value[..hash_len]))
            }
        };
        self.state = State::Success1Ready(terms, response);
        Ok(())
    }

    fn fail(&mut self, transaction: Option<u16>, reason: Reason) {
        self.authenticated = false;
        self.state = State::Failed(transaction.unwrap_or(0), reason);
    }
}

impl Challenge {
    fn message(&self, public: &[u8]) -> Vec<u8> {
        let Terms { transaction, hash, group } = self.terms;
        message::challenge(transaction, hash.id(), group.id(), self.sequence, &self.value[..hash.bytes()], public)
    }
}

impl Reply {
    fn from_fields(fields: &ReplyFields<'_>, hash: Hash) -> Option<Self> {
        let fixed = |bytes: &[u8]| {
            let mut value = [0; MOST_HASH_BYTES];
            value.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(value)
        };
        if fields.response.len() != hash.bytes() {
            return None;
        }
        let challenge = match fields.challenge {
            None => None,
            Some((sequence, value)) => Some((sequence, fixed(value)?)),
        };
        Some(Self { response: fixed(fields.response)?, challenge })
    }
}

fn check_transaction(terms: Terms, claimed: Option<u16>) -> Result<(), Reason> {
    if claimed == Some(terms.transaction) { Ok(()) } else { Err(Reason::IncorrectPayload) }
}

/// S1: starts anywhere, counts up with each challenge of the process, and is never 0 (section 8.13.5.3).
fn next_sequence() -> Result<u32, getrandom::Error> {
    static LAST: AtomicU32 = AtomicU32::new(0);
    loop {
        let last = LAST.load(Ordering::Relaxed);
        let next = if last == 0 { getrandom::u32()? } else { last.wrapping_add(1) }.max(1);
        if LAST.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return Ok(next);
        }
    }
}
