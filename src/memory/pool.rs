//! The buffer pool: cuts a reactor's arena into buffers of 4 KiB to 1 MiB, and makes commands wait when none is free.
//!
//! Sizes are powers of two. Each size has a stack of free buffers, so the buffer used last, whose lines are still in the
//! cache, is used next. A larger buffer is halved when a size runs out; halves are joined again only when a request finds
//! nothing large enough (joining on every release would split and join on every command). Waiters are served in the order
//! in which they came, so a large request is not starved by small ones.
//!
//! Buffers hold plain text of disks. When one of these is closed, [`BufferPool::soil`] says that every page may still hold some of it: pages that are
//! free are wiped in pieces ([`BufferPool::wipe_some`]), and those that a buffer holds as soon as it is dropped. While no page is soiled,
//! which is nearly always, a dropped buffer costs one look at a counter more.
//!
//! Invariants: a page's bit in `used` is set exactly while a buffer holds it; every unused page lies in exactly one free
//! buffer; `soiled_pages` counts the bits in `soiled`; nothing is allocated from the heap after the pool is made, unless more commands wait
//! than ever before.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::{Arena, Buffer};

/// The smallest buffer and the alignment of all: 4 KiB.
pub const PAGE: usize = 4096;
/// The largest buffer: 1 MiB.
pub const LARGEST_BUFFER: usize = 1 << 20;
/// Sizes: 4 KiB << 0 up to 4 KiB << 8.
const ORDERS: usize = 9;
const WAITERS_AT_START: usize = 256;
/// Pages that are wiped in one go: 64 KiB, which holds up the reactor no longer than a command does.
const WIPED_AT_ONCE: usize = 16;

/// The buffers of one reactor.
#[derive(Debug)]
pub struct BufferPool {
    arena: Arena,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    /// Free buffers of each order, by their first page.
    free: [Vec<u32>; ORDERS],
    /// One bit a page.
    used: Vec<u64>,
    free_pages: usize,
    /// One bit a page: it may hold what has to be wiped.
    soiled: Vec<u64>,
    soiled_pages: usize,
    /// Buffers came back since halves were joined last.
    joinable: bool,
    waiters: VecDeque<(u64, Waker)>,
    next_ticket: u64,
}

impl BufferPool {
    /// Cuts up an arena.
    pub fn new(arena: Arena) -> Rc<Self> {
        let pages = arena.len() / PAGE;
        let mut state = State {
            free: std::array::from_fn(|order| Vec::with_capacity(pages >> order)),
            used: vec![0; pages.div_ceil(64)],
            free_pages: pages,
            soiled: vec![0; pages.div_ceil(64)],
            soiled_pages: 0,
            joinable: false,
            waiters: VecDeque::with_capacity(WAITERS_AT_START),
            next_ticket: 0,
        };
        state.join(pages);
        Rc::new(Self { arena, state: RefCell::new(state) })
    }

    /// The memory that the buffers lie in, for registration with io_uring.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Bytes that no buffer holds.
    pub fn free_bytes(&self) -> usize {
        self.state.borrow().free_pages * PAGE
    }

    /// A buffer of at least `len` bytes, unless none is free or others wait for one.
    ///
    /// # Panics
    /// If `len` is more than [`LARGEST_BUFFER`].
    pub fn try_take(self: &Rc<Self>, len: usize) -> Option<Buffer> {
        let mut state = self.state.borrow_mut();
        if !state.waiters.is_empty() {
            return None;
        }
        let page = state.take(order_of(len), self.arena.len() / PAGE)?;
        drop(state);
        Some(self.buffer(page, order_of(len)))
    }

    /// A buffer of at least `len` bytes; waits until one is free.
    ///
    /// # Panics
    /// If `len` is more than [`LARGEST_BUFFER`].
    pub fn take(self: &Rc<Self>, len: usize) -> Take {
        Take { pool: self.clone(), order: order_of(len), ticket: None }
    }

    fn buffer(self: &Rc<Self>, page: u32, order: usize) -> Buffer {
        let offset = page as usize * PAGE;
        debug_assert!(offset + (PAGE << order) <= self.arena.len());
        // SAFETY: the offset lies in the arena, so the address is not null; `State::take` marked the pages as used, and
        // gives them to nobody else until `put_back`.
        unsafe { Buffer::new(NonNull::new_unchecked(self.arena.base().add(offset)), PAGE << order, self.clone()) }
    }

    /// Takes a dropped buffer's memory.
    pub(super) fn put_back(&self, ptr: NonNull<u8>, len: usize) {
        let page = (ptr.as_ptr() as usize - self.arena.base() as usize) / PAGE;
        let order = order_of(len);
        let mut state = self.state.borrow_mut();
        state.mark(page, order, false);
        if state.soiled_pages > 0 {
            self.wipe_soiled(&mut state, page..page + (1 << order));
        }
        state.free[order].push(page as u32);
        state.joinable = true;
        if let Some((_, waker)) = state.waiters.front() {
            waker.wake_by_ref();
        }
    }

    /// Says that every page may hold what has to be wiped.
    pub fn soil(&self) {
        let pages = self.arena.len() / PAGE;
        let mut state = self.state.borrow_mut();
        for (word, first) in state.soiled.iter_mut().zip((0..pages).step_by(64)) {
            *word = mask(0, pages - first);
        }
        state.soiled_pages = pages;
    }

    /// Wipes a piece of what is soiled and free; false if there is nothing of the kind from page `from` on. `from` is moved behind the piece.
    pub fn wipe_some(&self, from: &mut usize) -> bool {
        let pages = self.arena.len() / PAGE;
        let mut state = self.state.borrow_mut();
        while *from < pages && state.soiled_pages > 0 {
            let word = *from / 64;
            if state.soiled[word] & !state.used[word] == 0 {
                *from = (word + 1) * 64;
                continue;
            }
            let piece = *from..pages.min(*from + WIPED_AT_ONCE);
            *from = piece.end;
            let before = state.soiled_pages;
            self.wipe_soiled(&mut state, piece);
            if state.soiled_pages < before {
                return true;
            }
        }
        false
    }

    /// Wipes those of the pages that are soiled and that no buffer holds.
    #[cold]
    fn wipe_soiled(&self, state: &mut State, pages: Range<usize>) {
        for page in pages {
            let (word, bit) = (page / 64, mask(page % 64, 1));
            if state.soiled[word] & !state.used[word] & bit == 0 {
                continue;
            }
            // SAFETY: the page lies in the arena, and nobody holds it.
            unsafe { self.arena.base().add(page * PAGE).write_bytes(0, PAGE) };
            state.soiled[word] ^= bit;
            state.soiled_pages -= 1;
        }
    }
}

/// `count` bits from `first` on, as far as they lie in a word.
fn mask(first: usize, count: usize) -> u64 {
    if count >= 64 { u64::MAX << first } else { ((1u64 << count) - 1) << first }
}

fn order_of(len: usize) -> usize {
    assert!(len <= LARGEST_BUFFER, "a buffer of {len} bytes was asked for; the largest has {LARGEST_BUFFER}");
    len.div_ceil(PAGE).next_power_of_two().trailing_zeros() as usize
}

impl State {
    fn take(&mut self, order: usize, pages: usize) -> Option<u32> {
        if self.free_pages < 1 << order {
            return None;
        }
        let page = self.pop_or_split(order).or_else(|| {
            if !self.joinable {
                return None;
            }
            self.join(pages);
            self.pop_or_split(order)
        })?;
        self.mark(page as usize, order, true);
        Some(page)
    }

    fn pop_or_split(&mut self, order: usize) -> Option<u32> {
        let from = (order..ORDERS).find(|&o| !self.free[o].is_empty())?;
        let page = self.free[from].pop()?;
        for half in (order..from).rev() {
            self.free[half].push(page + (1 << half));
        }
        Some(page)
    }

    fn mark(&mut self, page: usize, order: usize, used: bool) {
        let count = 1usize << order;
        // Buffers are aligned to their size, so one lies within a word or covers whole words.
        for word in page / 64..(page + count).div_ceil(64) {
            let mask = mask(page % 64, count);
            debug_assert_eq!(self.used[word] & mask, if used { 0 } else { mask }, "page {page} marked twice");
            self.used[word] ^= mask;
        }
        self.free_pages = if used { self.free_pages - count } else { self.free_pages + count };
    }

    /// Rebuilds the free stacks with the largest aligned buffers that the unused pages make.
    fn join(&mut self, pages: usize) {
        self.free.iter_mut().for_each(Vec::clear);
        let mut page = 0;
        while page < pages {
            let order = (0..ORDERS).rev().find(|&o| self.is_free(page, o, pages));
            if let Some(order) = order {
                self.free[order].push(page as u32);
            }
            page += order.map_or(1, |o| 1 << o);
        }
        // Low addresses on top: a fresh pool hands out its memory from the front.
        self.free.iter_mut().for_each(|stack| stack.reverse());
        self.joinable = false;
    }

    fn is_free(&self, page: usize, order: usize, pages: usize) -> bool {
        let count = 1usize << order;
        if !page.is_multiple_of(count) || page + count > pages {
            return false;
        }
        let mask = mask(page % 64, count);
        self.used[page / 64..(page + count).div_ceil(64)].iter().all(|word| word & mask == 0)
    }
}

/// Waits for a buffer; made by [`BufferPool::take`].
#[derive(Debug)]
pub struct Take {
    pool: Rc<BufferPool>,
    order: usize,
    ticket: Option<u64>,
}

impl Future for Take {
    type Output = Buffer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Buffer> {
        let pool = self.pool.clone();
        let mut state = pool.state.borrow_mut();
        let my_turn = match (state.waiters.front(), self.ticket) {
            (None, _) => true,
            (Some((first, _)), mine) => Some(*first) == mine,
        };
        if my_turn && let Some(page) = state.take(self.order, pool.arena.len() / PAGE) {
            drop(state);
            self.leave_queue();
            return Poll::Ready(pool.buffer(page, self.order));
        }
        match self.ticket {
            None => {
                let ticket = state.next_ticket;
                state.next_ticket += 1;
                state.waiters.push_back((ticket, cx.waker().clone()));
                drop(state);
                self.ticket = Some(ticket);
            }
            Some(ticket) => {
                if let Some(entry) = state.waiters.iter_mut().find(|(t, _)| *t == ticket) {
                    entry.1.clone_from(cx.waker());
                }
            }
        }
        Poll::Pending
    }
}

impl Take {
    /// Steps out of the queue and wakes whoever is first now.
    fn leave_queue(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut state = self.pool.state.borrow_mut();
        state.waiters.retain(|(t, _)| *t != ticket);
        if let Some((_, waker)) = state.waiters.front() {
            waker.wake_by_ref();
        }
    }
}

impl Drop for Take {
    fn drop(&mut self) {
        self.leave_queue();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::HugePages;

    fn pool() -> Rc<BufferPool> {
        BufferPool::new(Arena::new(2 << 20, HugePages::Never).expect("memory"))
    }

    #[test]
    fn buffers_are_aligned_distinct_and_sized() {
        let pool = pool();
        let buffers: Vec<_> = [1, 4096, 5000, 65536, LARGEST_BUFFER].map(|n| pool.try_take(n).expect("free")).into();
        let sizes: Vec<_> = buffers.iter().map(|b| b.len()).collect();
        assert_eq!(sizes, [4096, 4096, 8192, 65536, LARGEST_BUFFER]);
        let mut spans: Vec<_> = buffers.iter().map(|b| (b.as_ptr() as usize, b.len())).collect();
        spans.sort_unstable();
        assert!(spans.iter().all(|(at, len)| at % 4096 == 0 && (at % 4096) % len == 0));
        assert!(spans.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0));
    }

    #[test]
    fn the_buffer_used_last_is_used_next() {
        let pool = pool();
        let first = pool.try_take(4096).expect("free");
        let at = first.as_ptr();
        drop(first);
        assert_eq!(pool.try_take(4096).expect("free").as_ptr(), at);
    }

    #[test]
    fn halves_are_joined_when_a_large_one_is_asked_for() {
        let pool = pool();
        let all: Vec<_> = std::iter::from_fn(|| pool.try_take(4096)).collect();
        assert_eq!(all.len(), 512);
        assert_eq!(pool.free_bytes(), 0);
        drop(all);
        assert_eq!(pool.free_bytes(), 2 << 20);
        let large: Vec<_> = std::iter::from_fn(|| pool.try_take(LARGEST_BUFFER)).collect();
        assert_eq!(large.len(), 2);
    }

    #[test]
    fn waiters_are_served_in_their_order_and_a_dropped_one_is_skipped() {
        let pool = pool();
        let mut cx = Context::from_waker(Waker::noop());
        let held = [pool.try_take(LARGEST_BUFFER), pool.try_take(LARGEST_BUFFER)];
        let mut large = Box::pin(pool.take(LARGEST_BUFFER));
        let mut gone = Box::pin(pool.take(4096));
        let mut small = Box::pin(pool.take(4096));
        assert!(large.as_mut().poll(&mut cx).is_pending());
        assert!(gone.as_mut().poll(&mut cx).is_pending());
        assert!(small.as_mut().poll(&mut cx).is_pending());
        drop(held);
        assert!(small.as_mut().poll(&mut cx).is_pending(), "the large request came first");
        assert!(pool.try_take(4096).is_none(), "others wait");
        assert!(large.as_mut().poll(&mut cx).is_ready());
        drop(gone);
        assert!(small.as_mut().poll(&mut cx).is_ready());
    }

    /// Wipes what can be wiped now; in how many pieces.
    fn wipe(pool: &BufferPool) -> usize {
        let mut from = 0;
        std::iter::repeat_with(|| pool.wipe_some(&mut from)).take_while(|&wiped| wiped).count()
    }

    fn arena_has(pool: &BufferPool, byte: u8) -> bool {
        let arena = pool.arena();
        // SAFETY: the arena is mapped, and nothing writes to it meanwhile.
        unsafe { std::slice::from_raw_parts(arena.base(), arena.len()) }.contains(&byte)
    }

    #[test]
    fn free_pages_are_wiped_in_pieces_and_used_ones_when_they_come_back() {
        let pool = pool();
        let write = |len: usize, byte: u8| {
            let mut buffer = pool.try_take(len).expect("free");
            buffer.fill(byte);
            buffer
        };
        let (held, freed) = (write(LARGEST_BUFFER, 1), write(LARGEST_BUFFER, 2));
        drop(freed);
        assert!(arena_has(&pool, 2), "nothing is wiped unasked");
        pool.soil();
        assert_eq!(wipe(&pool), LARGEST_BUFFER / PAGE / WIPED_AT_ONCE);
        assert!(!arena_has(&pool, 2));
        assert!(held.iter().all(|&byte| byte == 1), "a buffer in use was wiped");
        assert_eq!(wipe(&pool), 0);
        drop(write(4096, 3));
        assert!(arena_has(&pool, 3), "what is clean is not wiped again");
        drop(held);
        assert!(!arena_has(&pool, 1));
        assert_eq!(pool.state.borrow().soiled_pages, 0);
    }

    #[test]
    fn what_is_taken_while_the_wiping_is_under_way_is_wiped_too() {
        let pool = pool();
        let all: Vec<_> = std::iter::from_fn(|| pool.try_take(4096)).collect();
        drop(all);
        pool.soil();
        let mut from = 0;
        assert!(pool.wipe_some(&mut from));
        let mut taken: Vec<_> = std::iter::from_fn(|| pool.try_take(4096)).collect();
        taken.iter_mut().for_each(|buffer| buffer.fill(4));
        while pool.wipe_some(&mut from) {}
        assert!(taken.iter().all(|buffer| buffer.iter().all(|&byte| byte == 4)));
        drop(taken);
        let left = (0..512 * PAGE).filter(|&at| {
            // SAFETY: the arena is mapped, and nothing writes to it meanwhile.
            unsafe { *pool.arena().base().add(at) == 4 }
        });
        assert_eq!(left.count(), WIPED_AT_ONCE * PAGE, "only what was wiped before it was taken may be left");
    }
}
