//! A record: one event with its number and time, chained to the record before it. One line of JSON:
//!
//! ```json
//! {"seq":7,"time":"2026-11-25T22:07:01.123Z","actor":{"user":{"uid":0,"pid":812}},"operation":"attach","account":"acme","disk":"vol0","lineage":"…","key":"…","key_version":2,"outcome":"done","request_id":"…","prev":"…","hash":"…"}
//! ```
//!
//! What is not known is left out. `hash` comes last and covers all bytes of the line before it, from `{` to the quote that closes `prev`, so
//! the hash is of the very bytes that are stored: there is no second form of a record that would have to be agreed upon. A line break
//! within a text is escaped by JSON, so a line is a record.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use super::event::{Actor, Event, Operation, Outcome};
use super::head::{Hash, Head};
use crate::time::Time;

/// The longest line, with its end.
pub(super) const LONGEST_LINE: usize = 64 << 10;
/// The longest reason of a failure, in bytes; the rest of it is left out.
const LONGEST_REASON: usize = 4 << 10;

const BEFORE_HASH: &[u8] = b",\"hash\":\"";
const AFTER_HASH: &[u8] = b"\"}";

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its number: from 1 on, without gaps.
    pub seq: u64,
    /// When it was written.
    pub time: Time,
    /// Who asked for it.
    pub actor: Actor,
    /// What it was.
    pub operation: Operation,
    /// Whose key or disk it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// The lineage whose key it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Uuid>,
    /// The CMK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The CMK's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_version: Option<u32>,
    /// What came of it.
    pub outcome: Outcome,
    /// The number under which the KMS keeps the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The hash of the record before.
    pub prev: Hash,
    /// The hash of this one.
    pub hash: Hash,
}

/// Why a line is no record.
#[derive(Debug, Error)]
pub(super) enum RecordError {
    #[error("it cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it does not end with a hash")]
    NoHash,
    #[error("its content does not have its hash")]
    Hash,
}

/// A record would be longer than a line may be.
#[derive(Debug, Error)]
#[error("the record would have {0} bytes, and {LONGEST_LINE} are the most")]
pub struct TooLong(pub usize);

impl Record {
    /// The record that follows.
    pub(super) fn following(head: Head, time: Time, event: &Event) -> Self {
        let Event { actor, operation, account, disk, lineage, key, key_version, outcome, request_id } = event.clone();
        let mut record = Self {
            seq: head.seq + 1,
            time,
            actor,
            operation,
            account,
            disk,
            lineage,
            key,
            key_version,
            outcome: shortened(outcome),
            request_id,
            prev: head.hash,
            hash: Hash::START,
        };
        let line = record.json();
        record.hash = Hash::of_record(head.hash, &line[..text_len(&line)]);
        record
    }

    /// The line, with its end.
    pub(super) fn line(&self) -> Result<Vec<u8>, TooLong> {
        let mut line = self.json();
        line.push(b'\n');
        if line.len() > LONGEST_LINE { Err(TooLong(line.len())) } else { Ok(line) }
    }

    /// Reads a line, without its end; what comes back has the hash that stands in it.
    pub(super) fn parse(line: &[u8]) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_slice(line)?;
        let rest = line.split_at_checked(text_len(line)).map(|(_, rest)| rest);
        let framed = rest.is_some_and(|rest| rest.starts_with(BEFORE_HASH) && rest.ends_with(AFTER_HASH));
        if !framed {
            return Err(RecordError::NoHash);
        }
        if Hash::of_record(record.prev, &line[..text_len(line)]) != record.hash {
            return Err(RecordError::Hash);
        }
        Ok(record)
    }

    /// The record, and all before it.
    pub fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }

    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts can be written")
    }
}

/// Bytes that the hash covers.
fn text_len(line: &[u8]) -> usize {
    line.len().saturating_sub(BEFORE_HASH.len() + Hash::DIGITS + AFTER_HASH.len())
}

/// A server may answer pages, of which the beginning says enough.
fn shortened(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Failed(why) if why.len() > LONGEST_REASON => {
            Outcome::Failed(format!("{} …", &why[..why.floor_char_boundary(LONGEST_REASON)]))
        }
        as_it_is => as_it_is,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kms::audit::AccessKeyId;

    pub(crate) fn event() -> Event {
        Event {
            account: Some("acme".to_owned()),
            disk: Some("vol0".to_owned()),
            lineage: Some(Uuid::from_u128(5)),
            key: Some("key-1".to_owned()),
            key_version: Some(2),
            request_id: Some("r-1".to_owned()),
            ..Event::new(Actor::User { uid: 0, pid: 812 }, Operation::Attach, Outcome::Done)
        }
    }

    fn line(event: &Event) -> Vec<u8> {
        let mut line = Record::following(Head::START, Time::from_ms(1), event).line().expect("fits");
        assert_eq!(line.pop(), Some(b'\n'));
        line
    }

    #[test]
    fn it_is_what_others_compute() {
        let text = String::from_utf8(line(&event())).expect("text");
        // python3: hashlib.sha256(b"strongroom audit record 1\0" + bytes(32) + line.rpartition(',"hash":')[0].encode()).hexdigest()
        let expected = concat!(
            r#"{"seq":1,"time":"1970-01-01T00:00:00.001Z","actor":{"user":{"uid":0,"pid":812}},"operation":"attach","#,
            r#""account":"acme","disk":"vol0","lineage":"00000000-0000-0000-0000-000000000005","key":"key-1","#,
            r#""key_version":2,"outcome":"done","request_id":"r-1","#,
            r#""prev":"0000000000000000000000000000000000000000000000000000000000000000","#,
            r#""hash":"67126a47515ace88e52c5cd326d8a1de996c42b90bb37544a173bb4ac6ce67eb"}"#,
        );
        assert_eq!(text, expected);
        // Logs that were written before there was an API are of such records.
        assert_eq!(Record::parse(expected.as_bytes()).expect("a record").actor, event().actor);
    }

    #[test]
    fn who_signed_a_request_is_written_as_text() {
        let actor = Actor::AccessKey("LTAI5t-example".parse::<AccessKeyId>().expect("an id"));
        let event = Event::new(actor, Operation::GenerateDataKey, Outcome::Done);
        let line = String::from_utf8(line(&event)).expect("text");
        assert!(line.contains(r#""actor":{"access_key":"LTAI5t-example"},"operation":"generate_data_key""#), "{line}");
        assert_eq!(Record::parse(line.as_bytes()).expect("a record").actor, actor);
        let wild = line.replace("LTAI5t-example", "LTAI5t example");
        assert!(Record::parse(wild.as_bytes()).is_err());
    }

    #[test]
    fn a_long_reason_is_cut_and_long_names_are_refused() {
        let failed = |why: String| Event { outcome: Outcome::Failed(why), ..event() };
        // Two bytes each, so that the cut would fall into one.
        let long = line(&failed("x".to_owned() + &"é".repeat(LONGEST_LINE)));
        let record = Record::parse(&long).expect("a record");
        assert!(matches!(&record.outcome, Outcome::Failed(why) if why.ends_with("é …") && why.len() < 4200));
        let named = Event { disk: Some("x".repeat(LONGEST_LINE)), ..event() };
        assert!(Record::following(Head::START, Time::from_ms(1), &named).line().is_err());
    }

    #[test]
    fn what_stands_behind_the_hash_or_is_left_out_is_refused() {
        let line = line(&event());
        let with = |end: &str| [&line[..line.len() - 2], end.as_bytes()].concat();
        assert!(Record::parse(&with("\"}")).is_ok());
        for end in ["\" }", "\"} ", "\",\"more\":1}", "\"", ""] {
            assert!(Record::parse(&with(end)).is_err(), "{end}");
        }
        let moved = r#"{"hash":"00","seq":1}"#;
        assert!(Record::parse(moved.as_bytes()).is_err());
    }

    fn texts() -> impl Strategy<Value = Option<String>> {
        proptest::option::of(any::<String>())
    }

    prop_compose! {
        fn events()(
            actor in prop_oneof![
                Just(Actor::System),
                any::<(u32, i32)>().prop_map(|(uid, pid)| Actor::User { uid, pid }),
                "[A-Za-z0-9._-]{1,32}".prop_map(|id| Actor::AccessKey(id.parse().expect("an id")))
            ],
            operation in proptest::sample::select(Operation::ALL.map(|(operation, _)| operation).to_vec()),
            (account, disk, key, request_id) in (texts(), texts(), texts(), texts()),
            lineage in proptest::option::of(any::<u128>().prop_map(Uuid::from_u128)),
            key_version in any::<Option<u32>>(),
            outcome in texts().prop_map(|why| why.map_or(Outcome::Done, Outcome::Failed)),
        ) -> Event {
            Event { actor, operation, account, disk, lineage, key, key_version, outcome, request_id }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(event in events(), seq in 0..u64::MAX, ms: u64) {
            let head = Head { seq, hash: Hash::of_record(Hash::START, &ms.to_le_bytes()) };
            let record = Record::following(head, Time::from_ms(ms), &event);
            let line = record.line().expect("fits");
            prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            prop_assert_eq!(Record::parse(&line[..line.len() - 1]).expect("a record"), record);
        }

        #[test]
        fn what_was_changed_is_refused(event in events(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let line = line(&event);
            let mut changed = line.clone();
            *at.get_mut(&mut changed[..]) = byte;
            prop_assert_eq!(Record::parse(&changed).is_ok(), changed == line);
            prop_assert!(Record::parse(&line[..cut.index(line.len())]).is_err());
        }

        #[test]
        fn bytes_are_no_record(bytes: Vec<u8>) {
            prop_assert!(Record::parse(&bytes).is_err());
        }

        #[test]
        fn objects_are_no_record(seq: u64, more in "[ -~]{0,200}") {
            let line = format!(r#"{{"seq":{seq},{more}}}"#);
            prop_assert!(Record::parse(line.as_bytes()).is_err());
        }
    }
}
