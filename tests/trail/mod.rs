//! What the tests of the audit log share: events that tell their number.

use strongroom::kms::audit::{Actor, AuditOptions, Event, Operation, Outcome};
use uuid::Uuid;

/// An event that tells its number.
pub fn event(n: u64) -> Event {
    Event {
        account: Some("acme".to_owned()),
        disk: Some(format!("vol{n}")),
        lineage: Some(Uuid::from_u128(u128::from(n))),
        key: Some("key-1".to_owned()),
        key_version: Some(1),
        ..Event::new(Actor::User { uid: 1000, pid: n as i32 }, Operation::Attach, Outcome::Done)
    }
}

/// Files of that size.
pub fn options(segment_bytes: u64) -> AuditOptions {
    AuditOptions { segment_bytes, ..AuditOptions::default() }
}
