//! How often each account has had its keys used, by month: what a cloud bills. Derived from the audit log alone, so that a bill can be proved.
//!
//! A call counts for what was asked, whether it was done or refused: the KMS was asked in either case. Reads and writes of disks ask nobody, and
//! never count.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::audit::{Month, Operation, Outcome, Record};

/// Calls of an account in a month that cost nothing, unless the configuration says otherwise.
pub const FREE_CALLS: u64 = 20_000;

/// What an account has used in a month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The account.
    pub account: String,
    /// The month in UTC, such as `2026-11`.
    pub month: String,
    /// Calls that count.
    pub calls: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// The calls by what was asked.
    pub by_operation: BTreeMap<Operation, u64>,
    /// Calls that cost nothing.
    pub free_quota: u64,
    /// Calls beyond them.
    pub beyond: u64,
}

/// Whether an operation is one that accounts are billed for.
fn counts(operation: Operation) -> bool {
    use Operation as O;
    match operation {
        O::CreateDisk | O::Attach | O::Detach | O::Snapshot | O::Rollback | O::Reinitialise | O::CloneDisk => true,
        O::Encrypt | O::Decrypt | O::GenerateDataKey => true,
        O::CreateServiceKey
        | O::DeleteDisk
        | O::DestroyKey
        | O::Rewrap
        | O::Rotate
        | O::Enable
        | O::Disable
        | O::ScheduleDeletion
        | O::CancelDeletion
        | O::Backup
        | O::Restore
        | O::Unlock
        | O::RecoverLog
        | O::CreateKey => false,
    }
}

#[derive(Default)]
struct Calls {
    failed: u64,
    by_operation: BTreeMap<Operation, u64>,
}

/// Counts records.
pub(super) struct UsageBook {
    free_calls: u64,
    /// Accounts within months: what is counted is nearly always of the last month.
    months: BTreeMap<Month, BTreeMap<String, Calls>>,
}

impl UsageBook {
    pub(super) fn new(free_calls: u64) -> Self {
        Self { free_calls, months: BTreeMap::new() }
    }

    pub(super) fn count(&mut self, record: &Record) {
        let Some(account) = record.account.as_ref().filter(|_| counts(record.operation)) else { return };
        let accounts = self.months.entry(record.time.month()).or_default();
        // Nearly all accounts are there already: their names are not copied again.
        let calls = match accounts.get_mut(account) {
            Some(calls) => calls,
            None => accounts.entry(account.clone()).or_default(),
        };
        calls.failed += u64::from(matches!(record.outcome, Outcome::Failed(_)));
        *calls.by_operation.entry(record.operation).or_default() += 1;
    }

    /// The oldest month first.
    pub(super) fn reports(&self) -> Vec<Usage> {
        let each = self.months.iter().flat_map(|(month, accounts)| accounts.iter().map(move |one| (month, one)));
        each.map(|(month, (account, calls))| self.report(*month, account, calls)).collect()
    }

    fn report(&self, month: Month, account: &str, calls: &Calls) -> Usage {
        let all = calls.by_operation.values().sum();
        Usage {
            account: account.to_owned(),
            month: month.to_string(),
            calls: all,
            failed: calls.failed,
            by_operation: calls.by_operation.clone(),
            free_quota: self.free_calls,
            beyond: all.saturating_sub(self.free_calls),
        }
    }
}
