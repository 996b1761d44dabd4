//! When automatic snapshots are made, and how long they are kept.

use serde::{Deserialize, Serialize};

use super::Seconds;

/// A policy of automatic snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Its identifier.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// What its user calls it; may be empty.
    pub name: String,
    /// Hours of the day, 0 to 23, in UTC+8.
    pub hours: Vec<u8>,
    /// Days of the week, 1 (Monday) to 7.
    pub weekdays: Vec<u8>,
    /// How long snapshots are kept; for ever, if there is none.
    pub retention_days: Option<u32>,
    /// The last hour, counted from 1970, that it has made snapshots in.
    pub last_hour: Option<u64>,
    /// When it was made.
    pub created_at: Seconds,
}
