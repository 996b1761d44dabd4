//! Commands in flight: so many slots, each of which begins its next command when its last one has completed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use strongroom::device::{Device, DeviceHandle, IoError, write_whole};
use strongroom::memory::Buffer;
use strongroom::reactor::{Reactor, WaitList};
use strongroom::volume::{VolumeQueue, Written};

use crate::failure::Failure;

use super::meter::Meter;
use super::places::Places;
use super::{BLOCK, Outcome};

/// Commands in flight when a volume is filled.
pub const FILL_DEPTH: u32 = 16;

/// What is driven.
#[derive(Clone)]
pub enum Under {
    /// A volume of a pool.
    Volume(Rc<VolumeQueue>),
    /// A device without a pool.
    Device(Rc<DeviceHandle>),
}

/// What is done at each place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes are written.
    Write(usize),
    /// A block is written, and a flush makes it durable.
    WriteAndFlush,
}

/// Places to be filled: `count` from the beginning on, `bytes` apart, `len` bytes at each.
#[derive(Clone, Copy, Debug)]
pub struct Stride {
    /// From one place to the next.
    pub bytes: u64,
    /// How many.
    pub count: u64,
    /// Bytes that are written at each.
    pub len: usize,
}

/// How a load is made: [`Load::new`] or [`Load::of_zeros`].
pub type New = fn(&Reactor, Under, Places, Step) -> Rc<Load>;

/// A load.
pub struct Load {
    reactor: Reactor,
    under: Under,
    places: RefCell<Places>,
    step: Step,
    /// What is measured; on when somebody switches it on.
    pub meter: Rc<Meter>,
    stopped: Cell<bool>,
    content: u8,
    failed: Cell<Option<IoError>>,
    slots: Cell<u32>,
    ended: WaitList,
}

impl Under {
    #[inline]
    async fn write(&self, at: u64, buffer: &mut Buffer, len: usize) -> Result<(), IoError> {
        match self {
            Self::Volume(queue) => match queue.write(at, buffer, 0..len).await? {
                Written::Done => Ok(()),
                Written::PartlyAbsent => Err(IoError::Misaligned),
            },
            Self::Device(device) => write_whole(&**device, at, buffer, 0..len).await,
        }
    }

    async fn flush(&self) -> Result<(), IoError> {
        match self {
            Self::Volume(queue) => queue.flush().await,
            Self::Device(device) => device.flush().await,
        }
    }
}

impl Load {
    /// A load whose meter is off.
    pub fn new(reactor: &Reactor, under: Under, places: Places, step: Step) -> Rc<Self> {
        Self::measured_by(reactor, under, places, step, Rc::new(Meter::new(*reactor.clock())))
    }

    /// A load that is measured together with others.
    pub fn measured_by(reactor: &Reactor, under: Under, places: Places, step: Step, meter: Rc<Meter>) -> Rc<Self> {
        Self::of(reactor, under, places, step, meter, 0x5a)
    }

    /// A load that writes zeros, which a simulated device keeps without memory.
    pub fn of_zeros(reactor: &Reactor, under: Under, places: Places, step: Step) -> Rc<Self> {
        Self::of(reactor, under, places, step, Rc::new(Meter::new(*reactor.clock())), 0)
    }

    fn of(reactor: &Reactor, under: Under, places: Places, step: Step, meter: Rc<Meter>, content: u8) -> Rc<Self> {
        Rc::new(Self {
            reactor: reactor.clone(),
            under,
            places: RefCell::new(places),
            step,
            meter,
            stopped: Cell::new(false),
            content,
            failed: Cell::new(None),
            slots: Cell::new(0),
            ended: WaitList::default(),
        })
    }

    /// Begins, with so many commands in flight.
    pub fn start(self: &Rc<Self>, depth: u32) {
        self.slots.set(depth);
        for _ in 0..depth {
            let load = self.clone();
            self.reactor.spawn(async move {
                if let Err(error) = load.slot().await {
                    load.stopped.set(true);
                    load.failed.set(Some(error));
                }
                load.slots.set(load.slots.get() - 1);
                load.ended.wake_all();
            });
        }
    }

    async fn slot(&self) -> Result<(), IoError> {
        let clock = self.reactor.clock();
        let len = match self.step {
            Step::Write(len) => len,
            Step::WriteAndFlush => BLOCK as usize,
        };
        let mut buffer = self.reactor.buffers().take(len).await;
        buffer[..len].fill(self.content);
        let mut started = clock.now();
        while !self.stopped.get() {
            let Some(place) = self.places.borrow_mut().next() else { break };
            self.under.write(place, &mut buffer, len).await?;
            if self.step == Step::WriteAndFlush {
                self.under.flush().await?;
            }
            let now = clock.now();
            self.meter.note(started, now);
            started = now;
        }
        Ok(())
    }

    /// Whether all slots have ended.
    pub fn is_over(&self) -> bool {
        self.slots.get() == 0
    }

    /// Begins nothing new, and waits for what is in flight.
    pub async fn stop(&self) -> Outcome<()> {
        self.stopped.set(true);
        self.end().await
    }

    /// Waits until all places were taken.
    pub async fn end(&self) -> Outcome<()> {
        self.ended.until(|| self.is_over().then_some(())).await;
        match self.failed.get() {
            None => Ok(()),
            Some(error) => Err(Failure::Request(format!("a command failed: {error}")).into()),
        }
    }

    /// All places, with so many commands in flight.
    pub async fn run(self: &Rc<Self>, depth: u32) -> Outcome<()> {
        self.start(depth);
        self.end().await
    }
}
