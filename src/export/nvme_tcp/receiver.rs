//! What arrives on one connection, cut into PDUs.
//!
//! A connection that waits holds no memory: the kernel picks one of the reactor's shared receive buffers when data comes. A PDU that lies whole
//! in it is used where it is, and the buffer is held until the last user lets go. A capsule that is cut between two receives is put
//! together in a buffer of its own, so that a host which stops in the middle of one holds only that. The data of H2CData PDUs is not put
//! together at all: it is passed on piece by piece.

use std::ops::Range;
use std::rc::Rc;

use crate::export::stream::Phase;
use crate::memory::{Buffer, Segment};
use crate::reactor::{Reactor, ReceiveBuffers, Received, yield_now};

use super::Link;
use super::end::EndReason;

/// Turns that slots get to take what they were given and to answer before the next receive: what is answered goes out, and what comes in
/// is taken, with one system call.
const SETTLING_TURNS: usize = 3;

pub(super) struct Receiver {
    link: Rc<Link>,
    buffers: Rc<ReceiveBuffers>,
    current: Option<Received>,
    head: usize,
}

/// Bytes that arrived and are in one piece.
pub(super) enum Body {
    /// In the receive buffer.
    Shared(Received, Range<usize>),
    /// Put together from two receives; the bytes are the first so many.
    Own(Buffer, Range<usize>),
    /// No bytes.
    Empty,
}

impl Body {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(received, range) => &received.bytes()[range.clone()],
            Self::Own(buffer, range) => &buffer[range.clone()],
            Self::Empty => &[],
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Shared(_, range) | Self::Own(_, range) => range.len(),
            Self::Empty => 0,
        }
    }

    pub(super) fn segment(&self) -> Segment {
        match self {
            Self::Shared(received, range) => received.segment(range.clone()),
            Self::Own(buffer, range) => buffer.segment(range.clone()),
            Self::Empty => Buffer::default().segment(0..0),
        }
    }

    /// The same bytes, out of the shared buffer, which others need meanwhile.
    pub(super) async fn apart(self, reactor: &Reactor) -> Self {
        let Self::Shared(received, range) = &self else { return self };
        let mut own = reactor.buffers().take(range.len()).await;
        own[..range.len()].copy_from_slice(&received.bytes()[range.clone()]);
        Self::Own(own, 0..range.len())
    }

    /// Only the part `from..to` of it.
    pub(super) fn part(self, part: Range<usize>) -> Self {
        if part.is_empty() {
            return Self::Empty;
        }
        let within = |range: Range<usize>| {
            assert!(part.end <= range.len(), "beyond the body");
            range.start + part.start..range.start + part.end
        };
        match self {
            Self::Shared(received, range) => Self::Shared(received, within(range)),
            Self::Own(buffer, range) => Self::Own(buffer, within(range)),
            Self::Empty => unreachable!("an empty body has only empty parts"),
        }
    }
}

impl Receiver {
    pub(super) fn new(link: &Rc<Link>, buffers: &Rc<ReceiveBuffers>) -> Self {
        Self { link: link.clone(), buffers: buffers.clone(), current: None, head: 0 }
    }

    fn available(&self) -> usize {
        self.current.as_ref().map_or(0, |received| received.len() - self.head)
    }

    /// Takes the next `N` bytes, which begin a PDU; they are copied.
    pub(super) async fn begin<const N: usize>(&mut self) -> Result<[u8; N], EndReason> {
        self.copy(true).await
    }

    /// Takes the next `N` bytes of a PDU that has begun; they are copied.
    pub(super) async fn more<const N: usize>(&mut self) -> Result<[u8; N], EndReason> {
        self.copy(false).await
    }

    async fn copy<const N: usize>(&mut self, begins: bool) -> Result<[u8; N], EndReason> {
        let mut bytes = [0; N];
        let mut filled = 0;
        while filled < N {
            if self.available() == 0 {
                self.receive(begins && filled == 0).await?;
            }
            let now = self.available().min(N - filled);
            bytes[filled..filled + now].copy_from_slice(self.next(now));
            filled += now;
        }
        Ok(bytes)
    }

    /// Takes the next `len` bytes of a PDU in one piece.
    pub(super) async fn body(&mut self, len: usize) -> Result<Body, EndReason> {
        if len == 0 {
            return Ok(Body::Empty);
        }
        if let Some(received) = &self.current
            && received.len() - self.head >= len
        {
            let body = Body::Shared(received.clone(), self.head..self.head + len);
            self.next(len);
            return Ok(body);
        }
        let mut own = self.link.reactor.buffers().take(len).await;
        let mut filled = 0;
        while filled < len {
            if self.available() == 0 {
                self.receive(false).await?;
            }
            let now = self.available().min(len - filled);
            own[filled..filled + now].copy_from_slice(self.next(now));
            filled += now;
        }
        Ok(Body::Own(own, 0..len))
    }

    /// Takes what there is of the next `most` bytes, at least one.
    pub(super) async fn some(&mut self, most: usize) -> Result<Body, EndReason> {
        if self.available() == 0 {
            self.receive(false).await?;
        }
        let now = self.available().min(most);
        self.body(now).await
    }

    /// The same bytes, out of the shared buffer.
    pub(super) async fn apart(&self, body: Body) -> Body {
        body.apart(&self.link.reactor).await
    }

    /// Drops the next `len` bytes, as they come.
    pub(super) async fn skip(&mut self, mut len: usize) -> Result<(), EndReason> {
        while len > 0 {
            len -= self.some(len).await?.len();
        }
        Ok(())
    }

    fn next(&mut self, len: usize) -> &[u8] {
        self.head += len;
        let Some(received) = &self.current else { return &[] };
        &received.bytes()[self.head - len..self.head]
    }

    /// Receives; `between` says that no PDU has begun.
    async fn receive(&mut self, between: bool) -> Result<(), EndReason> {
        self.current = None;
        self.head = 0;
        for _ in 0..SETTLING_TURNS {
            yield_now().await;
        }
        if self.link.is_stopping() {
            return Err(EndReason::ServerStops);
        }
        if self.link.phase.get() != Phase::Handshake {
            self.link.phase.set(if between { Phase::BetweenRequests } else { Phase::InRequest });
        }
        let received = self.buffers.receive(&self.link.socket).await;
        if self.link.phase.get() != Phase::Handshake {
            self.link.phase.set(Phase::Serving);
        }
        match received.map_err(EndReason::Receive)? {
            Some(received) => self.current = Some(received),
            None if self.link.is_stopping() => return Err(EndReason::ServerStops),
            None if between => return Err(EndReason::Closed),
            None => return Err(EndReason::ClosedMidway),
        }
        self.link.count_received();
        Ok(())
    }
}
