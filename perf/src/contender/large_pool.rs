//! A pool of 1 TiB on a simulated device: this program again, with the pool inside, for all rows that are about it.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::failure::{Context, Failure, Result};
use crate::lab::Lab;
use crate::pool::large::{READY, Request};
use crate::sample::{Metric, Sample};
use crate::workload::Workload;

use super::{Contender, pool};

/// The process that has the pool.
pub struct LargePool(RefCell<Talk>);

struct Talk {
    child: Child,
    /// Taken when it is time to end.
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl LargePool {
    /// Starts it and waits until it is full.
    pub fn start(lab: &Lab) -> Result<Self> {
        let program = pool::this_program()?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(program.get_program()).args(["drive-pool", "large"]);
        command.args(["--gib", &lab.large_gib.to_string(), "--seconds", &lab.seconds.to_string()]);
        command.args(["--core", &lab.server_core.to_string()]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.context(|| "cannot start the pool's process".into())?;
        let (to, from) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
        let mut talk = Talk { child, to, from: BufReader::new(from) };
        match talk.line()?.trim() {
            READY => Ok(Self(RefCell::new(talk))),
            other => Err(Failure::Answer { program: "the pool's process".into(), why: other.into() }),
        }
    }

    fn ask(&self, request: Request) -> Result<Sample> {
        let mut talk = self.0.borrow_mut();
        let to = talk.to.as_mut().expect("it is taken when this is dropped");
        writeln!(to, "{}", request.name()).context(|| "cannot ask the pool's process".into())?;
        pool::parse(&talk.line()?)
    }
}

impl Talk {
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.from.read_line(&mut line).context(|| "cannot read what the pool's process answers".into())?;
        if !line.is_empty() {
            return Ok(line);
        }
        let status = self.child.wait().context(|| "cannot wait for the pool's process".into())?;
        let said = "see above for what it said".to_owned();
        Err(Failure::Program { program: "the pool's process".into(), status: status.to_string(), said })
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It ends when there is nothing more to be asked; if it is in the midst of something, nobody waits for that.
        drop(self.to.take());
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// A request to the large pool.
pub struct Asked {
    name: &'static str,
    request: Request,
    /// What the row is about, if its answer has more.
    metric: Option<Metric>,
}

impl Asked {
    /// A request under a name that tells which.
    pub fn new(name: &'static str, request: Request) -> Self {
        Self { name, request, metric: None }
    }

    /// The same, of whose answer only this is kept.
    pub fn only(name: &'static str, request: Request, metric: Metric) -> Self {
        Self { name, request, metric: Some(metric) }
    }
}

impl Contender for Asked {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&mut self, lab: &Lab) -> Result<()> {
        lab.large_pool().map(|_| ())
    }

    fn measure(&mut self, lab: &Lab, _: Option<Workload>) -> Result<Sample> {
        let mut sample = lab.large_pool()?.ask(self.request)?;
        match self.metric {
            Some(Metric::Memory) => sample.seconds = None,
            Some(Metric::Time) => sample.memory_mib = None,
            _ => {}
        }
        if lab.large_gib != TEBIBYTE_GIB {
            let note = sample.note.take().unwrap_or_default();
            sample.note = Some(format!("{} GIB ONLY; {note}", lab.large_gib));
        }
        Ok(sample)
    }
}

/// GiB for which the targets are set.
const TEBIBYTE_GIB: u64 = 1024;
