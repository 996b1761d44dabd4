//! Mapped files whose owner may cut them off under us: whoever touches what is gone finds zeros, and the mapping counts as broken.
//!
//! The kernel answers a touch behind the end of a mapped file with SIGBUS, which would end the process and with it the disks of all others. The handler
//! here puts anonymous memory in the place of the whole mapping (of all, as pages of a hugetlb file cannot be replaced one by one) and lets the
//! access happen again. What is not one of these mappings goes the way that it went before.
//!
//! The table has a fixed size and is read without locks, as it is read in a signal handler. A place is published by its end, and taken back
//! before the memory is unmapped.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Mappings that can be watched at once, over all sessions.
const MOST_MAPPINGS: usize = 8192;

struct Place {
    taken: AtomicBool,
    start: AtomicUsize,
    /// 0 while nothing is watched here.
    end: AtomicUsize,
    broken: AtomicBool,
}

static PLACES: [Place; MOST_MAPPINGS] = [const {
    Place {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        broken: AtomicBool::new(false),
    }
}; MOST_MAPPINGS];

/// Behind the last place that was ever taken.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Whether any mapping was ever broken: nearly never, so that one look is enough.
static ANY_BROKEN: AtomicBool = AtomicBool::new(false);

/// What was done about SIGBUS before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// A mapping that is watched until this is dropped.
pub(super) struct Watch(&'static Place);

impl Watch {
    /// Watches a mapping until its end is told, which has to be before the memory is unmapped.
    pub(super) fn new(start: NonNull<u8>, len: usize) -> io::Result<Self> {
        install()?;
        let free = |place: &&Place| !place.taken.swap(true, Ordering::AcqRel);
        let Some((number, place)) = PLACES.iter().enumerate().find(|(_, place)| free(place)) else {
            return Err(io::Error::other(format!("there are {MOST_MAPPINGS} regions of guests' memory already")));
        };
        USED.fetch_max(number + 1, Ordering::Release);
        place.broken.store(false, Ordering::Relaxed);
        // Release: who sees this start sees that the one before had ended.
        place.start.store(start.as_ptr() as usize, Ordering::Release);
        // Release: who sees the end sees the start.
        place.end.store(start.as_ptr() as usize + len, Ordering::Release);
        Ok(Self(place))
    }

    /// Whether something of the mapping was touched that its file does not have any more.
    #[inline]
    pub(super) fn is_broken(&self) -> bool {
        ANY_BROKEN.load(Ordering::Relaxed) && self.0.broken.load(Ordering::Relaxed)
    }
}

impl Watch {
    /// The memory is about to be unmapped.
    pub(super) fn end(&self) {
        self.0.end.store(0, Ordering::Release);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
        self.0.taken.store(false, Ordering::Release);
    }
}

fn install() -> io::Result<()> {
    if BEFORE.get().is_some() {
        return Ok(());
    }
    // Two at once: both ask for the same handler, and what was before is kept once.
    let mut action: libc::sigaction = unsafe_zeroed();
    action.sa_sigaction = handle as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    let mut before = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: both are whole structures, and the handler does only what a signal handler may.
    if unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), before.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has filled it.
    let before = unsafe { before.assume_init() };
    if before.sa_sigaction != action.sa_sigaction {
        BEFORE.get_or_init(|| before);
    }
    // SAFETY: as above.
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn unsafe_zeroed() -> libc::sigaction {
    // SAFETY: a structure of numbers and of a signal set, for which zeros are valid: no handler, no flags, no signals.
    unsafe { std::mem::zeroed() }
}

/// Runs on the thread that touched the memory, which is stopped meanwhile. Calls nothing but `mmap` and `sigaction`.
extern "C" fn handle(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel hands a whole structure to a handler that asked for it.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // Codes above 0 are the kernel's own: what a process sends has no address.
    let used = if code > 0 { USED.load(Ordering::Acquire) } else { 0 };
    for place in &PLACES[..used] {
        let end = place.end.load(Ordering::Acquire);
        // Acquire, and the end once more: a start of one mapping and an end of another, while the place changes hands, are no range.
        let start = place.start.load(Ordering::Acquire);
        if (start..end).contains(&address) && place.end.load(Ordering::Relaxed) == end {
            place.broken.store(true, Ordering::Relaxed);
            ANY_BROKEN.store(true, Ordering::Relaxed);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: the range is one of our mappings, which stays mapped while its place is watched; nobody has references into it,
            // only segments.
            let new = unsafe { libc::mmap(start as *mut libc::c_void, end - start, access, flags, -1, 0) };
            if new != libc::MAP_FAILED {
                return;
            }
        }
    }
    // Not ours: what was to happen before happens when the access is tried again.
    let default = unsafe_zeroed();
    let before = BEFORE.get().unwrap_or(&default);
    // SAFETY: a whole structure; the call is allowed in handlers.
    unsafe { libc::sigaction(libc::SIGBUS, before, std::ptr::null_mut()) };
}
