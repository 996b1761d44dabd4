//! The fault layer: chosen commands fail, come back short, or are torn.
//!
//! A rule chooses commands by kind, by range, and by count or chance. Counting is common to all reactors, and chance is drawn from the
//! rule's seed and the count alone, so a run with the same commands in the same order has the same faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

use crate::device::{ByteRange, IoError};

use super::{Command, CommandKind, Verdict};

/// What happens to a chosen command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It does nothing and fails.
    Error,
    /// Only its first half is done, and it says so. A command of one block passes.
    Short,
    /// A write does its first half and fails; other commands fail.
    Torn,
}

/// The error that a chosen command fails with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultError {
    /// The device failed.
    #[default]
    Media,
    /// No space left.
    NoSpace,
}

/// Which commands are chosen, and what happens to them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What happens.
    pub effect: Effect,
    /// The error, for `error` and `torn`.
    #[serde(default)]
    pub error: FaultError,
    /// Only commands of this kind; all kinds if absent.
    pub on: Option<CommandKind>,
    /// Only commands that touch bytes from `from` …
    #[serde(default)]
    pub from: u64,
    /// … up to, not including, `to`.
    pub to: Option<u64>,
    /// The first so many of these pass.
    #[serde(default)]
    pub skip: u64,
    /// Of the rest, each `every`-th is chosen; 1 = all.
    #[serde(default = "one")]
    pub every: u64,
    /// Of those, one in so many, by chance.
    #[serde(default = "one")]
    pub one_in: u64,
    /// Seed of the chance.
    #[serde(default)]
    pub seed: u64,
    /// After so many faults the rule is spent.
    pub times: Option<u64>,
}

fn one() -> u64 {
    1
}

/// The rules; the first that chooses a command decides.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultConfig {
    /// The rules.
    pub rules: Vec<Rule>,
}

/// Makes commands fail. Clones count together.
#[derive(Clone, Debug)]
pub struct Fault {
    rules: Arc<[CountedRule]>,
}

#[derive(Debug)]
struct CountedRule {
    rule: Rule,
    /// Commands that matched by kind and range, on all reactors. Relaxed: only the numbers matter, not their order to other memory.
    matched: AtomicU64,
    /// Faults made.
    made: AtomicU64,
}

impl Fault {
    /// A layer with these rules.
    pub fn new(config: &FaultConfig) -> Self {
        let count =
            |rule: &Rule| CountedRule { rule: rule.clone(), matched: AtomicU64::new(0), made: AtomicU64::new(0) };
        Self { rules: config.rules.iter().map(count).collect() }
    }

    /// How many faults were made so far.
    pub fn made(&self) -> u64 {
        self.rules.iter().map(|rule| rule.made.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn judge(&self, command: Command, block_size: u32) -> Verdict {
        let Some(rule) = self.rules.iter().find(|rule| rule.chooses(command)) else { return Verdict::Pass };
        let error = match rule.rule.error {
            FaultError::Media => IoError::Media,
            FaultError::NoSpace => IoError::NoSpace,
        };
        let blocks = command.range.len() / u64::from(block_size);
        let half = blocks / 2 * u64::from(block_size);
        match rule.rule.effect {
            Effect::Error => Verdict::Fail(error),
            Effect::Short if half == 0 => Verdict::Pass,
            Effect::Short => Verdict::Short(half),
            Effect::Torn => Verdict::Torn(half, error),
        }
    }
}

impl CountedRule {
    fn chooses(&self, command: Command) -> bool {
        let rule = &self.rule;
        if rule.on.is_some_and(|kind| kind != command.kind) || !self.touches(command.range) {
            return false;
        }
        let count = self.matched.fetch_add(1, Ordering::Relaxed);
        let Some(after_skip) = count.checked_sub(rule.skip) else { return false };
        if !(after_skip + 1).is_multiple_of(rule.every.max(1))
            || !mix(rule.seed, count).is_multiple_of(rule.one_in.max(1))
        {
            return false;
        }
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        if rule.times.is_some_and(|times| made >= times) {
            self.made.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    fn touches(&self, range: ByteRange) -> bool {
        let whole = self.rule.from == 0 && self.rule.to.is_none();
        whole || (range.end() > self.rule.from && self.rule.to.is_none_or(|to| range.start() < to))
    }
}

/// A number drawn from seed and count: the output function of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014, figure 17).
fn mix(seed: u64, count: u64) -> u64 {
    let mut z = seed.wrapping_add(count.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(rule: &str, commands: impl IntoIterator<Item = (CommandKind, u64, u64)>) -> Vec<Verdict> {
        let fault = Fault::new(&FaultConfig { rules: vec![toml::from_str(rule).expect("a rule")] });
        let judge = |(kind, at, len)| fault.judge(Command { kind, range: ByteRange::new(at, len).expect("fits") }, 512);
        commands.into_iter().map(judge).collect()
    }

    #[test]
    fn counts_only_what_it_is_about() {
        use CommandKind::{Read, Write};
        let seen = verdicts(
            "effect = 'error'\non = 'write'\nskip = 1\ntimes = 1",
            [(Write, 0, 512), (Read, 0, 512), (Write, 0, 512), (Write, 0, 512)],
        );
        assert_eq!(seen, [Verdict::Pass, Verdict::Pass, Verdict::Fail(IoError::Media), Verdict::Pass]);
    }

    #[test]
    fn a_range_is_half_open() {
        let touch = |at| (CommandKind::Read, at, 512);
        let seen = verdicts("effect = 'error'\nfrom = 512\nto = 1024", [touch(0), touch(512), touch(1024)]);
        assert_eq!(seen, [Verdict::Pass, Verdict::Fail(IoError::Media), Verdict::Pass]);
    }

    #[test]
    fn short_and_torn_do_half_in_whole_blocks() {
        let write = |len| (CommandKind::Write, 0, len);
        assert_eq!(verdicts("effect = 'short'", [write(512), write(1536)]), [Verdict::Pass, Verdict::Short(512)]);
        let torn = verdicts("effect = 'torn'\nerror = 'no-space'", [write(4096)]);
        assert_eq!(torn, [Verdict::Torn(2048, IoError::NoSpace)]);
    }

    #[test]
    fn chance_follows_the_seed() {
        let draw = |seed: u64| {
            let reads = (0..1000).map(|n| (CommandKind::Read, n * 512, 512));
            verdicts(&format!("effect = 'error'\none_in = 10\nseed = {seed}"), reads)
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let faults = draw(1).iter().filter(|v| **v != Verdict::Pass).count();
        assert!((50..200).contains(&faults), "{faults} of 1000 at one in 10");
    }
}
