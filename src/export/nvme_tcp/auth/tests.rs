//! A host written from the specification, with hashes and powers by OpenSSL, against the authenticator.

use std::sync::Arc;

use openssl::bn::{BigNum, BigNumContext};
use openssl::hash::{MessageDigest, hash};
use openssl::pkey::PKey;
use openssl::sign::Signer;

use super::*;

const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555";
const SUBSYSTEM: &str = "nqn.2024-01.com.example:account-7";
/// The bytes 0, 1, 2, …, transformed by SHA-256, and the text that `nvme gen-dhchap-key` would print for them.
const HOST_SECRET: (u8, usize, &str) = (1, 32, "DHHC-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:");
/// The bytes 0, 1, 2, …, 47, not transformed.
const CONTROLLER_SECRET: (u8, usize, &str) =
    (0, 48, "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vcSEgBQ==:");

const NEGOTIATE_HEAD: usize = 8;
const HEAD: usize = 16;
/// Offsets in the heads of the messages (section 8.13.5).
const AUTH_TYPE: usize = 0;
const AUTH_ID: usize = 1;
const T_ID: usize = 4;
const SC_C: usize = 6;
const NAPD: usize = 7;
const HL: usize = 6;
const CVALID: usize = 8;
const DHVLEN: usize = 10;
const SEQNUM: usize = 12;

const FAILURE1: [u8; 2] = [0x00, 0xF1];

/// A host with its own idea of the protocol.
struct Host {
    transaction: u16,
    hash_ids: Vec<u8>,
    group_ids: Vec<u8>,
    /// Whether the controller has to authenticate too.
    asks: bool,
    /// R2 that the controller has to give.
    expected: Option<Vec<u8>>,
}

fn digest_of(hash_id: u8) -> MessageDigest {
    [MessageDigest::sha256(), MessageDigest::sha384(), MessageDigest::sha512()][usize::from(hash_id) - 1]
}

fn hmac(hash_id: u8, key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).expect("a key");
    let mut signer = Signer::new(digest_of(hash_id), &key).expect("a signer");
    signer.sign_oneshot_to_vec(message).expect("signed")
}

fn key_of((hash_id, len, _): (u8, usize, &str), nqn: &str) -> Vec<u8> {
    let secret: Vec<u8> = (0..len as u8).collect();
    if hash_id == 0 { secret } else { hmac(hash_id, &secret, format!("{nqn}NVMe-over-Fabrics").as_bytes()) }
}

/// 2^x and y^x for a fixed x.
fn exchange(group_id: u8, peer: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let primes = [primes::FFDHE2048, primes::FFDHE3072, primes::FFDHE4096, primes::FFDHE6144, primes::FFDHE8192];
    let prime = BigNum::from_hex_str(primes[usize::from(group_id) - 1]).expect("hex");
    let exponent = BigNum::from_slice(&[0x5A; 32]).expect("a number");
    let raise = |base: &BigNum| {
        let mut power = BigNum::new().expect("a number");
        let mut context = BigNumContext::new().expect("a context");
        power.mod_exp(base, &exponent, &prime, &mut context).expect("a power");
        power.to_vec_padded(prime.num_bytes()).expect("it fits")
    };
    (raise(&BigNum::from_u32(2).expect("two")), raise(&BigNum::from_slice(peer).expect("a number")))
}

impl Host {
    fn new(hash_ids: &[u8], group_ids: &[u8], asks: bool) -> Self {
        Self { transaction: 0x0A0B, hash_ids: hash_ids.to_vec(), group_ids: group_ids.to_vec(), asks, expected: None }
    }

    fn negotiate(&self) -> Vec<u8> {
        let mut message = vec![0x00, 0x00, 0, 0, self.transaction as u8, (self.transaction >> 8) as u8, 0, 1];
        let mut descriptor = [0; 64];
        descriptor[0] = 1;
        descriptor[2] = self.hash_ids.len() as u8;
        descriptor[3] = self.group_ids.len() as u8;
        descriptor[4..4 + self.hash_ids.len()].copy_from_slice(&self.hash_ids);
        descriptor[34..34 + self.group_ids.len()].copy_from_slice(&self.group_ids);
        message.extend_from_slice(&descriptor);
        message
    }

    fn reply(&mut self, challenge: &[u8]) -> Vec<u8> {
        assert_eq!(challenge[..2], [0x01, 0x01]);
        assert_eq!(challenge[T_ID..T_ID + 2], self.transaction.to_le_bytes());
        let (hash_len, hash_id, group_id) = (usize::from(challenge[HL]), challenge[8], challenge[9]);
        assert!(self.hash_ids.contains(&hash_id) && self.group_ids.contains(&group_id));
        assert_eq!(hash_len, digest_of(hash_id).size());
        let public_len = usize::from(u16::from_le_bytes([challenge[DHVLEN], challenge[DHVLEN + 1]]));
        assert_eq!(challenge.len(), HEAD + hash_len + public_len);
        let s1 = &challenge[SEQNUM..SEQNUM + 4];
        assert_ne!(s1, [0; 4]);
        let (c1, peer) = challenge[HEAD..].split_at(hash_len);

        let (public, session_key) = if group_id == 0 {
            (vec![], None)
        } else {
            let (public, shared) = exchange(group_id, peer);
            (public, Some(hash(digest_of(hash_id), &shared).expect("hashed").to_vec()))
        };
        let augmented = |challenge: &[u8]| match &session_key {
            None => challenge.to_vec(),
            Some(key) => hmac(hash_id, key, challenge),
        };
        let tid = self.transaction.to_le_bytes();
        let r1 = hmac(
            hash_id,
            &key_of(HOST_SECRET, HOST),
            &[&augmented(c1), s1, &tid, &[0], b"HostHost", HOST.as_bytes(), &[0], SUBSYSTEM.as_bytes()].concat(),
        );
        let (c2, s2) = (vec![0xC2; hash_len], 77_u32.to_le_bytes());
        self.expected = self.asks.then(|| {
            hmac(
                hash_id,
                &key_of(CONTROLLER_SECRET, SUBSYSTEM),
                &[&augmented(&c2), &s2[..], &tid, &[0], b"Controller", SUBSYSTEM.as_bytes(), &[0], HOST.as_bytes()]
                    .concat(),
            )
        });

        let mut message = vec![0; HEAD];
        message[..2].copy_from_slice(&[0x01, 0x02]);
        message[T_ID..T_ID + 2].copy_from_slice(&tid);
        message[HL] = hash_len as u8;
        message[CVALID] = self.asks.into();
        message[DHVLEN..DHVLEN + 2].copy_from_slice(&(public.len() as u16).to_le_bytes());
        message[SEQNUM..].copy_from_slice(&s2);
        let c2 = if self.asks { c2 } else { vec![0; hash_len] };
        [message, r1, c2, public].concat()
    }

    fn check_success1(&self, message: &[u8]) {
        assert_eq!(message[..2], [0x01, 0x03]);
        assert_eq!(message[T_ID..T_ID + 2], self.transaction.to_le_bytes());
        assert_eq!(message[8], u8::from(self.asks));
        assert_eq!(message.len(), HEAD + usize::from(message[HL]));
        if let Some(expected) = &self.expected {
            assert_eq!(&message[HEAD..], expected);
        }
    }

    fn success2(&self) -> Vec<u8> {
        let mut message = vec![0; HEAD];
        message[..2].copy_from_slice(&[0x01, 0x04]);
        message[T_ID..T_ID + 2].copy_from_slice(&self.transaction.to_le_bytes());
        message
    }

    fn failure2(&self, explanation: u8) -> Vec<u8> {
        let [low, high] = self.transaction.to_le_bytes();
        vec![0x00, 0xF0, 0, 0, low, high, 1, explanation]
    }
}

fn policy(hashes: &[Hash], groups: &[Group], controller: bool) -> Arc<HostPolicy> {
    let secret = |(_, _, text): (u8, usize, &str)| secret::ChapSecret::parse(text.as_bytes()).expect("a secret");
    Arc::new(HostPolicy::for_tests(
        HOST,
        secret(HOST_SECRET),
        controller.then(|| secret(CONTROLLER_SECRET)),
        hashes.to_vec(),
        groups.to_vec(),
    ))
}

fn authenticator() -> Authenticator {
    Authenticator::new(policy(&Hash::ALL, &[Group::Null, Group::Ffdhe2048], true), SUBSYSTEM.into())
}

/// Sends a message and runs what it asks to be run.
fn send(authenticator: &mut Authenticator, message: &[u8]) -> Sent {
    match authenticator.send(message) {
        Sent::Compute(exponentiation) => {
            authenticator.resume(exponentiation.run());
            Sent::Answer
        }
        other => other,
    }
}

fn fetch(authenticator: &mut Authenticator) -> Received {
    authenticator.receive(MOST_MESSAGE_BYTES).expect("there is room")
}

/// A transaction that has to succeed.
fn authenticate(authenticator: &mut Authenticator, host: &mut Host) -> Terms {
    assert!(matches!(send(authenticator, &host.negotiate()), Sent::Answer));
    let challenge = fetch(authenticator);
    assert_eq!(challenge.outcome, Outcome::Continues);
    let reply = host.reply(&challenge.data);
    assert!(matches!(send(authenticator, &reply), Sent::Answer));
    let success = fetch(authenticator);
    host.check_success1(&success.data);
    match (host.asks, success.outcome) {
        (false, Outcome::Authenticated(terms)) => terms,
        (true, Outcome::Continues) => match send(authenticator, &host.success2()) {
            Sent::Authenticated(terms) => terms,
            _ => panic!("the host is satisfied and not in"),
        },
        (_, outcome) => panic!("{outcome:?}"),
    }
}

/// Brings a fresh authenticator to where it waits for a reply, which it returns.
fn up_to_reply(host: &mut Host) -> (Authenticator, Vec<u8>) {
    let mut authenticator = authenticator();
    assert!(matches!(send(&mut authenticator, &host.negotiate()), Sent::Answer));
    let challenge = fetch(&mut authenticator);
    let reply = host.reply(&challenge.data);
    (authenticator, reply)
}

/// The message has to fail with this reason, and the queue with it.
fn fails(authenticator: &mut Authenticator, message: &[u8], reason: Reason) {
    assert!(matches!(send(authenticator, message), Sent::Answer));
    assert!(!authenticator.is_authenticated());
    failed(authenticator, reason);
}

fn failed(authenticator: &mut Authenticator, reason: Reason) {
    for _ in 0..2 {
        let failure = fetch(authenticator);
        assert!(!authenticator.is_authenticated());
        assert_eq!(failure.outcome, Outcome::Failed(reason));
        assert_eq!(failure.data.len(), 8);
        assert_eq!((&failure.data[..2], &failure.data[6..]), (&FAILURE1[..], &[0x01, reason as u8][..]));
        // It stays failed, whatever comes.
        assert!(matches!(send(authenticator, &Host::new(&[1], &[0], false).negotiate()), Sent::Answer));
        assert!(!authenticator.is_authenticated());
    }
}

#[test]
fn every_hash_works_with_every_group_in_both_directions() {
    for hash in Hash::ALL {
        for group in Group::ALL {
            // The large groups do the same and take their time: once each.
            let large = matches!(group, Group::Ffdhe6144 | Group::Ffdhe8192);
            if large && hash != Hash::Sha384 {
                continue;
            }
            for asks in [false, true] {
                let mut authenticator = Authenticator::new(policy(&[hash], &[group], true), SUBSYSTEM.into());
                let mut host = Host::new(&[1, 2, 3], &[0, 1, 2, 3, 4, 5], asks);
                let terms = authenticate(&mut authenticator, &mut host);
                assert_eq!((terms.hash, terms.group), (hash, group));
                assert!(authenticator.is_authenticated() && !authenticator.is_under_way());
            }
        }
    }
}

#[test]
fn a_host_is_in_only_at_the_end() {
    for asks in [false, true] {
        let mut host = Host::new(&[1], &[0], asks);
        let (mut authenticator, reply) = up_to_reply(&mut host);
        assert!(!authenticator.is_authenticated());
        assert!(matches!(send(&mut authenticator, &reply), Sent::Answer));
        assert!(!authenticator.is_authenticated() && authenticator.is_under_way());
        let _ = fetch(&mut authenticator);
        assert_eq!(authenticator.is_authenticated(), !asks);
    }
}

#[test]
fn a_queue_stays_in_while_it_authenticates_again_and_leaves_if_that_fails() {
    let mut authenticator = authenticator();
    for (transaction, asks) in [(1, false), (2, true), (2, false)] {
        let mut host = Host::new(&[2], &[0, 1], asks);
        host.transaction = transaction;
        authenticate(&mut authenticator, &mut host);
    }
    let mut host = Host::new(&[3], &[1], false);
    assert!(matches!(send(&mut authenticator, &host.negotiate()), Sent::Answer));
    let challenge = fetch(&mut authenticator);
    assert!(authenticator.is_authenticated() && authenticator.is_under_way());
    let mut reply = host.reply(&challenge.data);
    reply[HEAD] ^= 1;
    fails(&mut authenticator, &reply, Reason::Failed);
}

#[test]
fn challenges_differ_and_are_numbered() {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut authenticator = authenticator();
        assert!(matches!(send(&mut authenticator, &Host::new(&[3], &[0], false).negotiate()), Sent::Answer));
        let challenge = fetch(&mut authenticator).data;
        let parts = (challenge[SEQNUM..HEAD].to_vec(), challenge[HEAD..].to_vec());
        assert!(seen.iter().all(|(s, c)| *s != parts.0 && *c != parts.1));
        seen.push(parts);
    }
}

#[test]
fn a_wrong_response_fails_whatever_bit_is_wrong() {
    for group in [0, 1] {
        for (byte, bit) in [(0, 0x01), (13, 0x80), (31, 0x10)] {
            let mut host = Host::new(&[1], &[group], false);
            let (mut authenticator, mut reply) = up_to_reply(&mut host);
            reply[HEAD + byte] ^= bit;
            fails(&mut authenticator, &reply, Reason::Failed);
        }
    }
}

#[test]
fn a_response_is_good_for_its_own_host_subsystem_and_transaction_only() {
    let mut host = Host::new(&[1], &[0], false);
    let (_, reply) = up_to_reply(&mut host);
    let (mut authenticator, _) = up_to_reply(&mut host);
    fails(&mut authenticator, &reply, Reason::Failed);

    let policy = policy(&Hash::ALL, &[Group::Null], false);
    let mut authenticator = Authenticator::new(policy, "nqn.2024-01.com.example:account-8".into());
    assert!(matches!(send(&mut authenticator, &host.negotiate()), Sent::Answer));
    let challenge = fetch(&mut authenticator);
    fails(&mut authenticator, &host.reply(&challenge.data), Reason::Failed);
}

#[test]
fn a_host_that_asks_for_what_we_cannot_prove_is_refused() {
    let policy = policy(&Hash::ALL, &[Group::Null], false);
    let mut authenticator = Authenticator::new(policy, SUBSYSTEM.into());
    let mut host = Host::new(&[1], &[0], true);
    assert!(matches!(send(&mut authenticator, &host.negotiate()), Sent::Answer));
    let challenge = fetch(&mut authenticator);
    fails(&mut authenticator, &host.reply(&challenge.data), Reason::Failed);
}

#[test]
fn a_host_may_reject_us_at_any_time() {
    let mut host = Host::new(&[1], &[0], true);
    let (mut authenticator, reply) = up_to_reply(&mut host);
    assert!(matches!(send(&mut authenticator, &host.failure2(5)), Sent::Rejected(5)));
    failed(&mut authenticator, Reason::IncorrectMessage);

    let (mut authenticator, _) = up_to_reply(&mut host);
    let mut other = host.failure2(1);
    other[T_ID] ^= 1;
    fails(&mut authenticator, &other, Reason::IncorrectMessage);

    let (mut authenticator, reply2) = up_to_reply(&mut host);
    assert_ne!(reply, reply2);
    assert!(matches!(send(&mut authenticator, &reply2), Sent::Answer));
    let _ = fetch(&mut authenticator);
    assert!(matches!(send(&mut authenticator, &host.failure2(1)), Sent::Rejected(1)));
    assert!(!authenticator.is_authenticated());
}

#[test]
fn what_cannot_be_agreed_on_is_refused_with_its_reason() {
    let good = Host::new(&[1, 2, 3], &[0, 1], false);
    for (host, reason) in [
        (Host::new(&[], &[0], false), Reason::HashUnusable),
        (Host::new(&[0, 4, 255], &[0], false), Reason::HashUnusable),
        (Host::new(&[1], &[], false), Reason::GroupUnusable),
        (Host::new(&[1], &[2, 6, 255], false), Reason::GroupUnusable),
    ] {
        fails(&mut authenticator(), &host.negotiate(), reason);
    }
    for secure_channel in [1, 2, 3, 255] {
        let mut message = good.negotiate();
        message[SC_C] = secure_channel;
        fails(&mut authenticator(), &message, Reason::SecureChannelMismatch);
    }
    let mut message = good.negotiate();
    message[NEGOTIATE_HEAD] = 2;
    fails(&mut authenticator(), &message, Reason::ProtocolUnusable);
}

#[test]
fn our_protocol_is_found_among_others() {
    let mut host = Host::new(&[1], &[0], false);
    let mut message = host.negotiate();
    message.splice(NEGOTIATE_HEAD..NEGOTIATE_HEAD, [0xEE; 64]);
    message[NAPD] = 2;
    let mut authenticator = authenticator();
    assert!(matches!(send(&mut authenticator, &message), Sent::Answer));
    let challenge = fetch(&mut authenticator);
    let reply = host.reply(&challenge.data);
    assert!(matches!(send(&mut authenticator, &reply), Sent::Answer));
    assert!(matches!(fetch(&mut authenticator).outcome, Outcome::Authenticated(_)));
}

#[test]
fn a_malformed_negotiation_is_refused() {
    let good = Host::new(&[1], &[0], false).negotiate();
    let changed = |at: usize, value: u8| {
        let mut message = good.clone();
        message[at] = value;
        message
    };
    let longer = |by: usize| [good.clone(), vec![0; by]].concat();
    for message in [
        changed(NAPD, 0),
        changed(NAPD, 2),
        changed(NEGOTIATE_HEAD + 2, 31),
        changed(NEGOTIATE_HEAD + 3, 255),
        longer(1),
        longer(64),
        longer(MOST_MESSAGE_BYTES),
        good[..NEGOTIATE_HEAD].to_vec(),
    ] {
        fails(&mut authenticator(), &message, Reason::IncorrectPayload);
    }
    for len in 0..good.len() {
        fails(&mut authenticator(), &good[..len], Reason::IncorrectPayload);
    }
}

#[test]
fn unknown_messages_and_those_of_a_controller_are_refused() {
    let good = Host::new(&[1], &[0], false).negotiate();
    for (kind, id) in [(0, 1), (0, 0xF1), (0, 0xFF), (1, 0), (1, 1), (1, 3), (1, 5), (2, 0), (2, 2), (255, 255)] {
        let mut message = good.clone();
        (message[AUTH_TYPE], message[AUTH_ID]) = (kind, id);
        fails(&mut authenticator(), &message, Reason::IncorrectMessage);
    }
}

#[test]
fn a_malformed_reply_is_refused() {
    for group in [0, 1] {
        let host = || Host::new(&[1], &[group], true);
        let check = |change: &dyn Fn(&mut Vec<u8>)| {
            let (mut authenticator, mut reply) = up_to_reply(&mut host());
            change(&mut reply);
            fails(&mut authenticator, &reply, Reason::IncorrectPayload);
        };
        for hash_len in [0, 31, 33, 48, 64, 255] {
            check(&|reply| reply[HL] = hash_len);
        }
        check(&|reply| reply[CVALID] = 2);
        check(&|reply| reply[SEQNUM..SEQNUM + 4].fill(0));
        check(&|reply| reply[T_ID] ^= 1);
        check(&|reply| reply[DHVLEN] ^= 1);
        check(&|reply| reply[DHVLEN + 1] = 0xFF);
        check(&|reply| reply.push(0));
        check(&|reply| reply.resize(MOST_MESSAGE_BYTES + 1, 0));
        for len in [0, 5, 6, HEAD - 1, HEAD, HEAD + 63] {
            check(&|reply| reply.truncate(len));
        }
        // Lengths that add up and do not fit what was agreed on.
        check(&|reply| {
            reply[HL] = 48;
            reply.splice(HEAD..HEAD, [0; 32]);
        });
    }
}

#[test]
fn a_diffie_hellman_value_has_to_be_there_if_agreed_on_and_be_fit() {
    let with_public = |group: u8, public: &[u8], reason: Reason| {
        let mut host = Host::new(&[1], &[group], false);
        let (mut authenticator, mut reply) = up_to_reply(&mut host);
        reply.truncate(HEAD + 64);
        reply.extend_from_slice(public);
        reply[DHVLEN..DHVLEN + 2].copy_from_slice(&(public.len() as u16).to_le_bytes());
        fails(&mut authenticator, &reply, reason);
    };
    with_public(0, &[2; 256], Reason::IncorrectPayload);
    let last = |byte: u8| [vec![0; 255], vec![byte]].concat();
    for unfit in [vec![], vec![2], last(0), last(1), vec![0xFF; 256], vec![2; 255], vec![2; 257], vec![2; 1024]] {
        with_public(1, &unfit, Reason::IncorrectPayload);
    }
    // Fit, and yet not the one that the response was made with.
    with_public(1, &last(2), Reason::Failed);
}

#[test]
fn messages_out_of_turn_are_refused() {
    let mut host = Host::new(&[1], &[0], true);
    let (mut waits_for_reply, reply) = up_to_reply(&mut host);
    fails(&mut authenticator(), &reply, Reason::IncorrectMessage);
    fails(&mut authenticator(), &host.success2(), Reason::IncorrectMessage);
    fails(&mut waits_for_reply, &host.success2(), Reason::IncorrectMessage);

    let (mut authenticator, _) = up_to_reply(&mut host);
    fails(&mut authenticator, &host.negotiate(), Reason::IncorrectMessage);

    // Before the challenge is fetched.
    let mut authenticator = self::authenticator();
    assert!(matches!(send(&mut authenticator, &host.negotiate()), Sent::Answer));
    fails(&mut authenticator, &reply, Reason::IncorrectMessage);

    // Before the success is fetched, and twice.
    let (mut authenticator, reply) = up_to_reply(&mut host);
    assert!(matches!(send(&mut authenticator, &reply), Sent::Answer));
    fails(&mut authenticator, &host.success2(), Reason::IncorrectMessage);
    let (mut authenticator, reply) = up_to_reply(&mut host);
    assert!(matches!(send(&mut authenticator, &reply), Sent::Answer));
    fails(&mut authenticator, &reply, Reason::IncorrectMessage);

    let mut authenticator = self::authenticator();
    authenticate(&mut authenticator, &mut host);
    fails(&mut authenticator, &host.success2(), Reason::IncorrectMessage);
}

#[test]
fn a_malformed_success_is_refused() {
    let mut host = Host::new(&[1], &[0], true);
    let mut awaiting = || {
        let (mut authenticator, reply) = up_to_reply(&mut host);
        assert!(matches!(send(&mut authenticator, &reply), Sent::Answer));
        let _ = fetch(&mut authenticator);
        authenticator
    };
    let good = Host::new(&[1], &[0], true).success2();
    let mut other = good.clone();
    other[T_ID] ^= 1;
    for message in [other, good[..HEAD - 1].to_vec(), [good.clone(), vec![0]].concat()] {
        fails(&mut awaiting(), &message, Reason::IncorrectPayload);
    }
}

#[test]
fn there_is_nothing_to_fetch_out_of_turn() {
    failed(&mut authenticator(), Reason::IncorrectMessage);
    let mut host = Host::new(&[1], &[0], true);
    let (mut waits_for_reply, _) = up_to_reply(&mut host);
    failed(&mut waits_for_reply, Reason::IncorrectMessage);
    let (mut waits_for_success2, reply) = up_to_reply(&mut host);
    assert!(matches!(send(&mut waits_for_success2, &reply), Sent::Answer));
    let _ = fetch(&mut waits_for_success2);
    failed(&mut waits_for_success2, Reason::IncorrectMessage);
    let mut done = authenticator();
    authenticate(&mut done, &mut host);
    failed(&mut done, Reason::IncorrectMessage);
}

#[test]
fn a_power_that_comes_too_late_changes_nothing() {
    let host = Host::new(&[1], &[1], false);
    let mut authenticator = authenticator();
    let Sent::Compute(exponentiation) = authenticator.send(&host.negotiate()) else {
        panic!("the group needs a power");
    };
    // The host does not wait for the completion of its command.
    fails(&mut authenticator, &host.negotiate(), Reason::IncorrectMessage);
    authenticator.resume(exponentiation.run());
    failed(&mut authenticator, Reason::IncorrectMessage);
}

#[test]
fn too_little_room_leaves_everything_as_it_was() {
    let mut host = Host::new(&[1], &[1], false);
    let mut authenticator = authenticator();
    assert!(matches!(send(&mut authenticator, &host.negotiate()), Sent::Answer));
    let needed = HEAD + 32 + 256;
    for allocated in [0, HEAD, needed - 1] {
        let error = authenticator.receive(allocated).map(|_| ()).expect_err("too little");
        assert_eq!(error, TooLittleRoom { needed, allocated });
    }
    let challenge = authenticator.receive(needed).expect("it fits");
    let reply = host.reply(&challenge.data);
    assert!(matches!(send(&mut authenticator, &reply), Sent::Answer));
    assert!(authenticator.receive(HEAD).is_err() && !authenticator.is_authenticated());
    assert!(matches!(fetch(&mut authenticator).outcome, Outcome::Authenticated(_)));
}
