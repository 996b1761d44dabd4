//! What the wire allows, beside the targets: both ends of our own, with no target behind them.

use std::time::Duration;

use crate::echo::Sizes;
use crate::echo::exchange::{self, Run};
use crate::echo::null_target::NullTarget;
use crate::failure::{Failure, Result};
use crate::lab::Lab;
use crate::sample::Sample;
use crate::workload::Workload;

use super::Contender;
use super::nvme::Place;

/// The exchange of messages without content.
pub struct Echo;

impl Echo {
    /// Its name in rows.
    pub const NAME: &str = "echo";
}

impl Contender for Echo {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn prepare(&mut self, _: &Lab) -> Result<()> {
        Ok(())
    }

    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample> {
        let workload = workload.ok_or_else(|| Failure::Request("the echo needs a workload".into()))?;
        let run = Run {
            server_core: lab.server_core,
            client_core: lab.client_core,
            depth: workload.depth as usize,
            ramp: Duration::from_secs(lab.ramp_s.into()),
            time: Duration::from_secs(lab.seconds.into()),
            data: workload.block_kib as usize * 1024,
        };
        exchange::measure(run, Sizes::of(workload))
    }
}

/// `strongroom bench` against a target without data: the most that it can measure.
pub struct ClientAlone;

impl ClientAlone {
    /// Its name in rows.
    pub const NAME: &str = "no target behind bench";
}

impl Contender for ClientAlone {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn prepare(&mut self, _: &Lab) -> Result<()> {
        Ok(())
    }

    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample> {
        let workload = workload.ok_or_else(|| Failure::Request("bench needs a workload".into()))?;
        let target = NullTarget::start(lab.server_core)?;
        let place = Place { address: target.address, subsystem: "nqn.2026-11.io.strongroom:null".into(), host: None };
        Ok(Sample { cpu: None, ..place.load(lab, workload)? })
    }
}
