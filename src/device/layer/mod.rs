//! Layers: what is put on a device to change how it behaves.
//!
//! A device has a list of layers. Each sees a command before the device does and passes it on, delays it, cuts it short or fails it; so
//! layers stack in any order and no command costs a heap allocation.

mod delay;
mod fault;

use std::ops::Range;

use serde::Deserialize;

use crate::memory::{Buffer, Segment};
use crate::reactor::Reactor;

use super::{ByteRange, Device, DeviceInfo, Extent, IoError, Zeroes};

pub use delay::{Delay, DelayConfig};
pub use fault::{Effect, Fault, FaultConfig, FaultError, Rule};

/// The kinds of commands that a layer tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandKind {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Flush.
    Flush,
    /// Discard.
    Discard,
    /// Write zeroes.
    WriteZeroes,
}

/// A command as layers see it.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// What it does.
    pub kind: CommandKind,
    /// Where; empty for a flush.
    pub range: ByteRange,
}

/// What a layer wants done with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Carry it out.
    Pass,
    /// Do nothing and answer with this error.
    Fail(IoError),
    /// Carry out the first bytes only, and say so.
    Short(u64),
    /// Carry out the first bytes only, and answer with this error.
    Torn(u64, IoError),
}

/// A layer in the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum LayerConfig {
    /// Makes commands slow.
    Delay(DelayConfig),
    /// Makes commands fail.
    Fault(FaultConfig),
}

/// A layer; clones are the same layer on other reactors.
#[derive(Clone, Debug)]
pub enum Layer {
    /// Makes commands slow.
    Delay(Delay),
    /// Makes commands fail.
    Fault(Fault),
}

impl Layer {
    /// Makes what the configuration says.
    pub fn new(config: &LayerConfig) -> Self {
        match config {
            LayerConfig::Delay(config) => Self::Delay(Delay::new(config)),
            LayerConfig::Fault(config) => Self::Fault(Fault::new(config)),
        }
    }

    /// The name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delay(_) => "delay",
            Self::Fault(_) => "fault",
        }
    }
}

/// A device with layers on it.
pub struct Layered<D> {
    reactor: Reactor,
    device: D,
    layers: Vec<Layer>,
}

impl<D: Device> Layered<D> {
    /// Puts layers on a device, the lowest first.
    pub fn new(reactor: &Reactor, device: D, layers: Vec<Layer>) -> Self {
        Self { reactor: reactor.clone(), device, layers }
    }

    /// The device, if no layer has to see the commands.
    #[inline]
    pub fn bare(&self) -> Option<&D> {
        self.layers.is_empty().then_some(&self.device)
    }

    /// Asks the layers from the top down; the first that does not pass decides.
    async fn ask(&self, kind: CommandKind, at: u64, len: u64) -> Result<Verdict, IoError> {
        super::check_range(&self.device.info(), at, len)?;
        let command = Command { kind, range: ByteRange::new(at, len).ok_or(IoError::OutOfRange)? };
        for layer in self.layers.iter().rev() {
            let verdict = match layer {
                Layer::Delay(delay) => {
                    delay.wait(&self.reactor, command).await;
                    Verdict::Pass
                }
                Layer::Fault(fault) => fault.judge(command, self.device.info().block_size),
            };
            if verdict != Verdict::Pass {
                return Ok(verdict);
            }
        }
        Ok(Verdict::Pass)
    }

    /// For commands that have no part: a torn one does nothing.
    async fn ask_whole(&self, kind: CommandKind, at: u64, len: u64) -> Result<(), IoError> {
        match self.ask(kind, at, len).await? {
            Verdict::Pass | Verdict::Short(_) => Ok(()),
            Verdict::Fail(error) | Verdict::Torn(_, error) => Err(error),
        }
    }
}

impl<D: Device> Device for Layered<D> {
    fn info(&self) -> DeviceInfo {
        self.device.info()
    }

    async fn read(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> Result<usize, IoError> {
        // Without layers, which is the rule, nothing is asked: one state machine less on the way of each command.
        if self.layers.is_empty() {
            return self.device.read(at, buffer, window).await;
        }
        match self.ask(CommandKind::Read, at, window.len() as u64).await? {
            Verdict::Pass => self.device.read(at, buffer, window).await,
            Verdict::Short(len) => self.device.read(at, buffer, window.start..window.start + len as usize).await,
            Verdict::Fail(error) | Verdict::Torn(_, error) => Err(error),
        }
    }

    async fn write(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> Result<usize, IoError> {
        if self.layers.is_empty() {
            return self.device.write(at, buffer, window).await;
        }
        match self.ask(CommandKind::Write, at, window.len() as u64).await? {
            Verdict::Pass => self.device.write(at, buffer, window).await,
            Verdict::Short(len) => self.device.write(at, buffer, window.start..window.start + len as usize).await,
            Verdict::Fail(error) => Err(error),
            Verdict::Torn(len, error) => {
                super::write_whole(&self.device, at, buffer, window.start..window.start + len as usize).await?;
                Err(error)
            }
        }
    }

    async fn flush(&self) -> Result<(), IoError> {
        self.ask_whole(CommandKind::Flush, 0, 0).await?;
        self.device.flush().await
    }

    async fn discard(&self, range: ByteRange) -> Result<(), IoError> {
        self.ask_whole(CommandKind::Discard, range.start(), range.len()).await?;
        self.device.discard(range).await
    }

    async fn write_zeroes(&self, range: ByteRange, space: Zeroes) -> Result<(), IoError> {
        self.ask_whole(CommandKind::WriteZeroes, range.start(), range.len()).await?;
        self.device.write_zeroes(range, space).await
    }

    async fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, IoError> {
        self.device.extents(range).await
    }

    fn direct(&self, range: ByteRange) -> Option<Segment> {
        if self.layers.is_empty() { self.device.direct(range) } else { None }
    }
}
