//! What a request asks for, and whether the export can do it ("Request types", "Command flags").
//!
//! Everything that a client can get wrong in a request is refused here, before it reaches the disk.

use crate::device::{ByteRange, Zeroes};
use crate::disk::Zeroing;

use super::end::Violation;
use super::exports::Export;
use super::refusal::Refusal;
use super::wire::{self, command, flag};

/// The announced maximum payload: what "Size constraints" asks of a server that wants to get on with every client.
pub(super) const MAX_PAYLOAD: u32 = 32 << 20;

/// What the handshake settled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Negotiated {
    /// Reads are answered with structured replies.
    pub(super) structured: bool,
    /// `base:allocation` was selected.
    pub(super) allocation: bool,
}

/// A request that can be carried out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    pub(super) cookie: u64,
    pub(super) range: ByteRange,
    pub(super) fua: bool,
    pub(super) action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Read,
    Write,
    Flush,
    Trim,
    WriteZeroes(Zeroes, Zeroing),
    /// At most so many descriptors.
    BlockStatus(usize),
    Cache,
}

/// What to do about a request.
pub(super) enum Decoded {
    Run(Command),
    Refuse(u64, Refusal),
    Disconnect,
}

/// Block status is cut after so many descriptors, a fraction of the 2^20 that the protocol allows.
const MOST_DESCRIPTORS: usize = 4096;

/// Reads a request. `unfragmented` is the most that is read into one chunk.
pub(super) fn decode(
    request: &wire::Request,
    export: &Export,
    negotiated: Negotiated,
    unfragmented: u64,
) -> Result<Decoded, Violation> {
    if request.magic.get() != wire::REQUEST_MAGIC {
        return Err(Violation::RequestMagic(request.magic.get()));
    }
    let (kind, length) = (request.kind.get(), request.length.get());
    if kind == command::DISC {
        return Ok(Decoded::Disconnect);
    }
    if kind == command::WRITE && length > MAX_PAYLOAD {
        return Err(Violation::WriteLength(length));
    }
    let cookie = request.cookie.get();
    Ok(match check(request, export, negotiated, unfragmented) {
        Ok((action, range)) => {
            Decoded::Run(Command { cookie, range, fua: request.flags.get() & flag::FUA != 0, action })
        }
        Err(refusal) => Decoded::Refuse(cookie, refusal),
    })
}

fn check(
    request: &wire::Request,
    export: &Export,
    negotiated: Negotiated,
    unfragmented: u64,
) -> Result<(Action, ByteRange), Refusal> {
    let flags = request.flags.get();
    let action = action(request.kind.get(), flags, negotiated)?;
    let writes = matches!(action, Action::Write | Action::Trim | Action::WriteZeroes(..));
    if writes && export.read_only {
        return Err(Refusal::READ_ONLY);
    }
    let (offset, length) = (request.offset.get(), u64::from(request.length.get()));
    if action == Action::Flush {
        let nothing = ByteRange::new(0, 0).filter(|_| offset == 0 && length == 0);
        return nothing.map(|range| (action, range)).ok_or(Refusal::FLUSH_RANGE);
    }
    let outside = match action {
        Action::Write | Action::WriteZeroes(..) => Refusal::NO_SPACE_OUTSIDE,
        _ => Refusal::OUTSIDE,
    };
    let range = ByteRange::new(offset, length).filter(|r| r.end() <= export.size()).ok_or(outside)?;
    if range.is_empty() {
        return Err(Refusal::EMPTY);
    }
    if !range.is_aligned(u64::from(export.sector_bytes())) {
        return Err(Refusal::MISALIGNED);
    }
    if action == Action::Read && length > u64::from(MAX_PAYLOAD) {
        return Err(if negotiated.structured { Refusal::TOO_LARGE } else { Refusal::TOO_LARGE_SIMPLE });
    }
    if flags & flag::DF != 0 && length > unfragmented {
        return Err(Refusal::TOO_LARGE_UNFRAGMENTED);
    }
    Ok((action, range))
}

/// The command, if all its flags belong to it. FUA belongs to every command.
fn action(kind: u16, flags: u16, negotiated: Negotiated) -> Result<Action, Refusal> {
    let (action, allowed) = match kind {
        command::READ => (Action::Read, if negotiated.structured { flag::DF } else { 0 }),
        command::WRITE => (Action::Write, 0),
        command::FLUSH => (Action::Flush, 0),
        command::TRIM => (Action::Trim, 0),
        command::CACHE => (Action::Cache, 0),
        command::WRITE_ZEROES => {
            let space = if flags & flag::NO_HOLE != 0 { Zeroes::KeepAllocated } else { Zeroes::MayFree };
            let how = if flags & flag::FAST_ZERO != 0 { Zeroing::OnlyFast } else { Zeroing::AnyWay };
            (Action::WriteZeroes(space, how), flag::NO_HOLE | flag::FAST_ZERO)
        }
        command::BLOCK_STATUS if !negotiated.allocation => return Err(Refusal::NOT_NEGOTIATED),
        command::BLOCK_STATUS => {
            let most = if flags & flag::REQ_ONE != 0 { 1 } else { MOST_DESCRIPTORS };
            (Action::BlockStatus(most), flag::REQ_ONE)
        }
        _ => return Err(Refusal::UNKNOWN_COMMAND),
    };
    if flags & !(allowed | flag::FUA) == 0 { Ok(action) } else { Err(Refusal::UNKNOWN_FLAG) }
}
