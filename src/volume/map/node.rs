//! The nodes of a map: leaves of words, branches of leaves, and the root of a volume.
//!
//! An [`Edge`] points to a node and says whether the node is *owned*: pointed to by this edge alone. **Only owned nodes below owned nodes are ever
//! changed**; everything else is frozen, because a snapshot or another volume sees it too. A node counts the edges to it (`holders`).
//!
//! Memory of a node is freed only after a grace period that began when the last edge to it was gone, and no reference to a node outlives the
//! command that looked it up. That is why an edge may be followed without counting anything.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use crate::volume::sync::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use crate::volume::units::{BRANCHES_PER_ROOT, LEAVES_PER_BRANCH, PageNumber, ROOTS_PER_VOLUME, WORDS_PER_LEAF};

use super::word::Word;

/// The bit of a pointer that says that the node is owned. Nodes are aligned to more than that.
const OWNED: usize = 1;
/// 64-bit words of a bitmap of a leaf's words.
pub const DIRTY_WORDS: usize = WORDS_PER_LEAF.div_ceil(64);
/// 64-bit words of a bitmap of a branch's leaves.
pub const DIRTY_LEAVES: usize = LEAVES_PER_BRANCH.div_ceil(64);

/// Where a node was stored last. Written by the pool's home reactor only, and read by whoever lets go of the node.
#[derive(Default)]
pub struct Stored {
    page: AtomicU64,
    checksum: AtomicU32,
    /// The checkpoint that stored it.
    checkpoint: AtomicU64,
}

impl Stored {
    /// The page and its checksum; page 0 if the node was never stored.
    pub fn get(&self) -> (PageNumber, u32) {
        // Relaxed: one thread writes and reads; who lets go of a node has the grace period in between.
        (PageNumber(self.page.load(Ordering::Relaxed)), self.checksum.load(Ordering::Relaxed))
    }

    /// Whether it was ever stored.
    pub fn is_there(&self) -> bool {
        self.get().0.0 != 0
    }

    /// Remembers a new page; gives the old one back, if there was one.
    pub fn replace(&self, page: PageNumber, checksum: u32, checkpoint: u64) -> Option<PageNumber> {
        let old = self.is_there().then(|| self.get().0);
        self.page.store(page.0, Ordering::Relaxed);
        self.checksum.store(checksum, Ordering::Relaxed);
        self.checkpoint.store(checkpoint, Ordering::Relaxed);
        old
    }

    /// The checkpoint that stored it.
    pub fn checkpoint(&self) -> u64 {
        self.checkpoint.load(Ordering::Relaxed)
    }

    /// The page, which from now on is nobody's.
    pub fn take(&self) -> Option<PageNumber> {
        self.replace(PageNumber(0), 0, 0)
    }
}

/// What every node has.
pub trait Node: Sized {
    /// How many edges lead to it.
    fn holders(&self) -> &AtomicU32;
}

/// 512 words: 32 MiB of a volume.
#[repr(C, align(64))]
pub struct Leaf {
    words: [AtomicU64; WORDS_PER_LEAF],
    /// The words that were changed since a commit took them.
    pub(super) dirty: [AtomicU64; DIRTY_WORDS],
    holders: AtomicU32,
    /// Differs from what is stored.
    pub changed: AtomicBool,
    /// Where it was stored last.
    pub stored: Stored,
}

/// 256 leaves: 8 GiB of a volume.
#[repr(C, align(64))]
pub struct Branch {
    /// The leaves.
    pub leaves: [Edge<Leaf>; LEAVES_PER_BRANCH],
    holders: AtomicU32,
    /// It, or something below it, differs from what is stored.
    pub changed: AtomicBool,
    /// Where it was stored last.
    pub stored: Stored,
}

/// A branch of a volume, and which of its leaves have dirty words.
#[derive(Default)]
pub struct Slot {
    /// The branch.
    pub branch: Edge<Branch>,
    /// Leaves with dirty words.
    pub(super) dirty: [AtomicU64; DIRTY_LEAVES],
}

/// The branches of one volume.
pub struct Root {
    /// The branches.
    pub slots: Box<[Slot]>,
    /// Where each run of 256 of them was stored last.
    pub stored: [Stored; ROOTS_PER_VOLUME],
}

impl Node for Leaf {
    fn holders(&self) -> &AtomicU32 {
        &self.holders
    }
}

impl Node for Branch {
    fn holders(&self) -> &AtomicU32 {
        &self.holders
    }
}

impl Leaf {
    /// A leaf of these words, to which one edge will lead.
    pub fn new(mut word: impl FnMut(usize) -> Word) -> Box<Self> {
        Box::new(Self {
            words: std::array::from_fn(|index| AtomicU64::new(word(index).0)),
            dirty: Default::default(),
            holders: AtomicU32::new(1),
            changed: AtomicBool::new(true),
            stored: Stored::default(),
        })
    }

    /// A word.
    #[inline]
    pub fn load(&self, index: usize) -> Word {
        // Acquire: who sees a presence bit also sees the data that a memory device was given before.
        Word(self.words[index].load(Ordering::Acquire))
    }

    /// Changes a word that is still `from`; otherwise says what it is.
    #[inline]
    pub(super) fn exchange(&self, index: usize, from: Word, to: Word) -> Result<(), Word> {
        // Release: see `load`. Acquire: what follows happens after what the last change followed.
        let done = self.words[index].compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire);
        done.map(drop).map_err(Word)
    }

    /// Sets a word that nobody else changes: while a volume is loaded, replayed or paused.
    pub fn set(&self, index: usize, word: Word) {
        self.words[index].store(word.0, Ordering::Release);
    }

    /// Says that another leaf may hold the cluster of a word: while a pool is loaded.
    pub fn set_shared(&self, index: usize, word: Word) {
        self.set(index, word.shared());
    }

    /// All words.
    pub fn words(&self) -> impl Iterator<Item = Word> {
        (0..WORDS_PER_LEAF).map(|index| self.load(index))
    }
}

impl Branch {
    /// A branch without leaves, to which one edge will lead.
    pub fn new() -> Box<Self> {
        Box::new(Self {
            leaves: std::array::from_fn(|_| Edge::default()),
            holders: AtomicU32::new(1),
            changed: AtomicBool::new(true),
            stored: Stored::default(),
        })
    }
}

impl Root {
    /// A root for so many branches.
    pub fn new(branches: usize) -> Box<Self> {
        debug_assert!(branches <= BRANCHES_PER_ROOT * ROOTS_PER_VOLUME);
        Box::new(Self { slots: (0..branches).map(|_| Slot::default()).collect(), stored: Default::default() })
    }

    /// A larger root that leads to what this one led to. This one may still be followed for a while, and is not taken apart.
    pub fn moved_to(&self, branches: usize) -> Box<Self> {
        let mut root = Self::new(branches.max(self.slots.len()));
        for (to, from) in root.slots.iter_mut().zip(&self.slots) {
            to.branch = from.branch.move_to();
            for (to, from) in to.dirty.iter().zip(&from.dirty) {
                to.store(from.load(Ordering::SeqCst), Ordering::SeqCst);
            }
        }
        root
    }
}

/// A pointer to a node, or to none.
pub struct Edge<T> {
    pointer: AtomicPtr<T>,
    _owns: PhantomData<T>,
}

/// What an edge was when it was read.
pub struct Seen<'a, T> {
    /// The node.
    pub node: Option<&'a T>,
    /// Whether it is pointed to by this edge alone.
    pub is_owned: bool,
}

impl<T> Default for Edge<T> {
    fn default() -> Self {
        Self { pointer: AtomicPtr::new(std::ptr::null_mut()), _owns: PhantomData }
    }
}

impl<T: Node> Edge<T> {
    /// Follows the edge.
    #[inline]
    pub fn see(&self) -> Seen<'_, T> {
        // Acquire: the node is seen as it was when it was put there.
        let pointer = self.pointer.load(Ordering::Acquire);
        let is_owned = pointer.addr() & OWNED != 0;
        // SAFETY: an edge points to nothing or to a node that was given to `put`, which is freed only after a grace period: see the top.
        let node = unsafe { untagged(pointer).as_ref() };
        Seen { node, is_owned }
    }

    /// The node, if it is owned: it may be changed, if the edge's own node may be.
    #[inline]
    pub fn owned(&self) -> Option<&T> {
        let seen = self.see();
        if seen.is_owned { seen.node } else { None }
    }

    /// Leads the edge to a new node, which it owns from now on. Gives the node to which it led before. One thread at a time does this to an edge
    /// ([`super::Map`] has a lock for it).
    pub fn put(&self, node: Box<T>) -> Option<Gone<T>> {
        let tagged = Box::into_raw(node).map_addr(|addr| addr | OWNED);
        self.led_to(self.pointer.swap(tagged, Ordering::AcqRel))
    }

    /// Takes the node away.
    pub fn clear(&self) -> Option<Gone<T>> {
        self.led_to(self.pointer.swap(std::ptr::null_mut(), Ordering::AcqRel))
    }

    fn led_to(&self, pointer: *mut T) -> Option<Gone<T>> {
        let pointer = untagged(pointer);
        (!pointer.is_null()).then_some(Gone { pointer })
    }

    /// The edge's own node is dead, or moved away: the edge counts no more, but may still be followed for a while.
    pub fn release(&self) -> Option<Gone<T>> {
        self.led_to(self.pointer.load(Ordering::Acquire))
    }

    /// Another edge to the same node; neither owns it any more. What is below stays as it is: it is frozen with the node.
    pub fn share(&self) -> Self {
        // Only a frozen edge is shared by two threads at once, and both store the same.
        let pointer = untagged(self.pointer.load(Ordering::Acquire));
        self.pointer.store(pointer, Ordering::Release);
        // SAFETY: as in `see`.
        if let Some(node) = unsafe { pointer.as_ref() } {
            // Relaxed: the edge that is shared keeps the node alive.
            node.holders().fetch_add(1, Ordering::Relaxed);
        }
        Self { pointer: AtomicPtr::new(pointer), _owns: PhantomData }
    }

    /// The edge in another place, where it counts from now on instead of here; this one may still be followed for a while.
    pub fn move_to(&self) -> Self {
        Self { pointer: AtomicPtr::new(self.pointer.load(Ordering::Acquire)), _owns: PhantomData }
    }

    /// Leads an empty edge to a node that other edges may lead to as well, and owns it not: while a volume is loaded.
    pub fn join(&self, node: &Loaded<T>) {
        // SAFETY: a loaded node is alive until it is told that all edges to it are there.
        unsafe { &*node.pointer }.holders().fetch_add(1, Ordering::Relaxed);
        self.pointer.store(node.pointer, Ordering::Release);
    }

    /// Undoes [`Edge::join`].
    pub fn part(&self) {
        let pointer = self.pointer.swap(std::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: as in `join`.
        if let Some(node) = unsafe { untagged(pointer).as_ref() } {
            node.holders().fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Marks the node as owned, if no other edge leads to it: while a volume is loaded.
    pub fn own_if_alone(&self) -> bool {
        let seen = self.see();
        let is_alone = seen.node.is_some_and(|node| node.holders().load(Ordering::Relaxed) == 1);
        if is_alone && !seen.is_owned {
            let pointer = self.pointer.load(Ordering::Relaxed);
            self.pointer.store(pointer.map_addr(|addr| addr | OWNED), Ordering::Release);
        }
        is_alone
    }
}

fn untagged<T>(pointer: *mut T) -> *mut T {
    pointer.map_addr(|addr| addr & !OWNED)
}

/// A node from which an edge was taken away.
#[must_use = "the node has to be let go"]
pub struct Gone<T> {
    pointer: *mut T,
}

impl<T: Node> Gone<T> {
    /// Counts the edge no more; gives the node if that was the last one.
    pub fn let_go(self) -> Option<Dead<T>> {
        // SAFETY: the edge that was taken away counted, so the node is alive until the count is lowered here.
        let holders = unsafe { &*self.pointer }.holders();
        // AcqRel: whoever is last sees what the others did to it.
        let is_last = holders.fetch_sub(1, Ordering::AcqRel) == 1;
        is_last.then(|| Dead { pointer: self.pointer })
    }
}

/// A node to which no edge leads: its memory is freed when this is dropped, which must not be before a grace period has passed.
pub struct Dead<T> {
    pointer: *mut T,
}

// SAFETY: nobody finds the node any more, and this is its only owner.
unsafe impl<T: Send> Send for Dead<T> {}

impl<T> std::ops::Deref for Dead<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the memory is freed by `drop` only.
        unsafe { &*self.pointer }
    }
}

impl<T> Drop for Dead<T> {
    fn drop(&mut self) {
        // SAFETY: it came from `Box::into_raw` in `put`, and `Gone::let_go` gives it out once.
        drop(unsafe { Box::from_raw(self.pointer) });
    }
}

/// A node that was read from the device and to which edges are being made.
pub struct Loaded<T> {
    pointer: *mut T,
}

impl<T: Node> Loaded<T> {
    /// A node to which no edge leads yet.
    pub fn new(node: Box<T>) -> Self {
        node.holders().store(0, Ordering::Relaxed);
        Self { pointer: Box::into_raw(node) }
    }

    /// All edges are there. A node without any is freed.
    pub fn done(self) {
        if self.holders().load(Ordering::Relaxed) == 0 {
            drop(Dead { pointer: self.pointer });
        }
    }
}

impl<T> std::ops::Deref for Loaded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the node is alive until `done`; volumes that are being loaded let go of nothing.
        unsafe { &*self.pointer }
    }
}
