//! NBD servers that have nothing to do: a client is connected, has read once, and stays silent. What is measured is the server's CPU time.

use std::thread::sleep;
use std::time::Duration;

use crate::failure::Result;
use crate::lab::Lab;
use crate::nbd_client::Connection;
use crate::sample::Sample;
use crate::workload::Workload;

use super::Contender;
use super::nbd::{EXPORT, Kind};

/// How long the server may settle after its last command.
const SETTLE: Duration = Duration::from_secs(1);
/// The shortest measurement: CPU time comes in ticks of 10 ms, which is 0.2 % of a core over five seconds.
const LEAST_S: u32 = 5;

/// A server with a silent connection.
pub struct IdleServer {
    name: &'static str,
    kind: Kind,
}

impl IdleServer {
    /// Of a kind, under a name that tells which.
    pub fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind }
    }
}

impl Contender for IdleServer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        self.kind.prepare(lab)
    }

    fn measure(&mut self, lab: &Lab, _: Option<Workload>) -> Result<Sample> {
        let (server, socket) = self.kind.start(lab)?;
        let mut connection = Connection::open(&socket, EXPORT)?;
        connection.read(0, 4096)?;
        sleep(SETTLE);
        let span = Duration::from_secs(lab.seconds.max(LEAST_S).into());
        let (cpu, ()) = server.cpu_while(|| {
            sleep(span);
            Ok(())
        })?;
        // The connection was there all the time, and still works.
        connection.read(0, 4096)?;
        Ok(Sample { cpu: Some(cpu), ..Sample::default() })
    }
}
