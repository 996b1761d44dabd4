//! A slot: one long-lived task that carries out one request of a guest after the other.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use zerocopy::FromBytes;

use crate::device::{ByteRange, Zeroes};
use crate::disk::reservation::Access;
use crate::disk::{Cost, Zeroing};
use crate::memory::Cut;
use crate::reactor::profile::{Stage, during};
use crate::reactor::{Flight, yield_now};

use super::queue::Queue;
use super::request::{HEADER_BYTES, RANGE_BYTES, RANGES, RangeOfSectors, Request, Status, identity};
use super::ring::Chain;

/// The most of a request that is held in buffers at once.
const PIECE: u64 = 128 << 10;
/// So many requests in a row that a slot carries out before the others have their turn.
const ROUND: u32 = 32;
/// The byte with the status.
const STATUS_BYTES: u32 = 1;

/// The task of a slot.
pub(super) async fn serve(queue: Rc<Queue>) {
    let mut chain = Chain::new();
    let mut in_row = 0;
    while queue.take(&mut chain).await {
        match run(&queue, &mut chain).await {
            Some((status, bytes)) => {
                chain.set_status(status as u8);
                queue.complete(chain.head(), bytes + STATUS_BYTES, status == Status::Ok);
            }
            None => queue.abandon(),
        }
        in_row += 1;
        if in_row % ROUND == 0 {
            yield_now().await;
        }
    }
}

/// Carries out a request: how it ended, and how many bytes of data the guest got. `None` if it is not to be answered.
#[inline]
async fn run(queue: &Queue, chain: &mut Chain) -> Option<(Status, u32)> {
    let mut header = [0; HEADER_BYTES];
    if !chain.read_header(&mut header) {
        return Some((Status::Error, 0));
    }
    let done = match Request::decode(header) {
        Ok(request) => carry_out(queue, chain, request).await,
        Err(status) => Err(Refused::With(status)),
    };
    match done {
        Ok(bytes) => Some((Status::Ok, bytes)),
        Err(Refused::With(status)) => Some((status, 0)),
        Err(Refused::Withdrawn) => None,
    }
}

/// Why a request is not carried out.
enum Refused {
    With(Status),
    /// The disk was taken from the front end meanwhile.
    Withdrawn,
}

impl<E: Into<Status>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::With(error.into())
    }
}

#[inline]
async fn carry_out(queue: &Queue, chain: &mut Chain, request: Request) -> Result<u32, Refused> {
    if request.writes() && queue.exported.of.read_only {
        return Err(Status::Error.into());
    }
    match request {
        Request::Read(start) => read(queue, chain, start).await,
        Request::Write(start) => write(queue, chain, start).await,
        Request::Flush => {
            let _working = may_write(queue)?;
            queue.disk.flush().await?;
            Ok(0)
        }
        Request::GetId => {
            let id = identity(queue.exported.disk().name());
            Ok(chain.write_data(&id) as u32)
        }
        Request::Discard => discard(queue, chain).await,
        Request::WriteZeroes => write_zeroes(queue, chain).await,
    }
}

/// The right to read, for as long as the request works on the disk.
#[inline]
fn may_read(queue: &Queue) -> Result<Option<Flight>, Refused> {
    work(queue, Access::may_read)
}

/// The same for what changes the disk, flush among it.
#[inline]
fn may_write(queue: &Queue) -> Result<Option<Flight>, Refused> {
    work(queue, Access::may_write)
}

/// Asked for after a request has waited, and before it begins to work on the disk.
#[inline]
fn work(queue: &Queue, is_allowed: impl Fn(Access) -> bool) -> Result<Option<Flight>, Refused> {
    let working = queue.begin_work();
    if queue.exported.is_withdrawn() {
        return Err(Refused::Withdrawn);
    }
    if is_allowed(queue.exported.access()) { Ok(working) } else { Err(Status::Error.into()) }
}

/// The bytes that a request moves, if they are sectors of the disk.
fn range(queue: &Queue, start: u64, len: usize) -> Result<ByteRange, Refused> {
    let range = ByteRange::new(start, len as u64).ok_or(Status::Error)?;
    queue.disk.check(range)?;
    Ok(range)
}

async fn read(queue: &Queue, chain: &mut Chain, start: u64) -> Result<u32, Refused> {
    let range = range(queue, start, chain.writable_len())?;
    queue.within_limits(Cost::of(range.len())).await;
    let mut data = Cut::new(chain.writable());
    for piece in range.pieces(PIECE) {
        let _working = may_read(queue)?;
        during(Stage::Disk, queue.disk.read_to(piece, data.take(piece.len() as usize))).await?;
    }
    Ok(range.len() as u32)
}

async fn write(queue: &Queue, chain: &mut Chain, start: u64) -> Result<u32, Refused> {
    let range = range(queue, start, chain.readable_len())?;
    queue.within_limits(Cost::of(range.len())).await;
    let mut data = Cut::new(chain.readable());
    for piece in range.pieces(PIECE) {
        let _working = may_write(queue)?;
        during(Stage::Disk, queue.disk.write(piece, data.take(piece.len() as usize))).await?;
    }
    force(queue).await
}

/// Makes durable what was written, if the guest has set its disk so.
async fn force(queue: &Queue) -> Result<u32, Refused> {
    if queue.write_through.load(Ordering::Relaxed) {
        queue.disk.flush().await?;
    }
    Ok(0)
}

/// The ranges of a request, copied once.
struct Ranges {
    bytes: [u8; RANGES * RANGE_BYTES],
    len: usize,
}

impl Ranges {
    fn of(chain: &Chain) -> Result<Self, Refused> {
        let len = chain.readable_len();
        let mut bytes = [0; RANGES * RANGE_BYTES];
        if len == 0 || len > bytes.len() || !len.is_multiple_of(RANGE_BYTES) {
            return Err(Status::Error.into());
        }
        chain.read_data(&mut bytes[..len]);
        Ok(Self { bytes, len })
    }

    fn all(&self) -> &[RangeOfSectors] {
        <[RangeOfSectors]>::ref_from_bytes(&self.bytes[..self.len]).expect("whole ranges of bytes")
    }
}

async fn discard(queue: &Queue, chain: &Chain) -> Result<u32, Refused> {
    let ranges = Ranges::of(chain)?;
    for range in ranges.all() {
        queue.disk.check(range.to_discard()?)?;
    }
    for range in ranges.all() {
        let _working = may_write(queue)?;
        queue.disk.discard(range.to_discard()?).await?;
    }
    force(queue).await
}

async fn write_zeroes(queue: &Queue, chain: &Chain) -> Result<u32, Refused> {
    let ranges = Ranges::of(chain)?;
    for range in ranges.all() {
        queue.disk.check(range.to_zero()?.0)?;
    }
    for range in ranges.all() {
        let (range, may_free) = range.to_zero()?;
        queue.within_limits(Cost::of(range.len())).await;
        let _working = may_write(queue)?;
        let space = if may_free { Zeroes::MayFree } else { Zeroes::KeepAllocated };
        queue.disk.write_zeroes(range, space, Zeroing::AnyWay).await?;
    }
    force(queue).await
}
