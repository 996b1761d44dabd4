//! Reading the trees of a pool: pages by their pointers, each once, many at a time.
//!
//! A page that cannot be read, or is not what its pointer says, becomes a node of which every word is lost: reads of what it stood for fail. The same lost
//! node stands for all of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;

use crate::device::{DeviceHandle, IoError, read_whole};
use crate::reactor::Reactor;

use super::super::format::{PagePointer, Superblock, leaf as leaf_page, node as node_page};
use super::super::map::{Branch, Edge, Leaf, Loaded, Node as _, Word};
use super::super::units::{LEAVES_PER_BRANCH, PAGE, PageNumber};

/// Pages that are read in one go, with those between them that nobody asked for.
const PAGES_PER_READ: u64 = 64;
/// Pages that nobody asked for and that are read nevertheless.
const LARGEST_GAP: u64 = 4;
/// Reads in flight.
const READS: usize = 16;
/// How often a page that cannot be read is tried.
const TRIES: usize = 3;

/// A page as it was read: its bytes, or what is wrong.
pub(super) type Page<'a> = Result<&'a [u8], String>;

/// Reads pages.
pub(super) struct Reader<'a> {
    pub(super) reactor: &'a Reactor,
    pub(super) device: &'a DeviceHandle,
    pub(super) superblock: &'a Superblock,
}

impl Reader<'_> {
    /// Reads each of the pages once and shows it to `each`, in no order.
    pub(super) async fn read(
        &self,
        pointers: impl IntoIterator<Item = PagePointer>,
        each: impl FnMut(PagePointer, Page<'_>),
    ) {
        let each = RefCell::new(each);
        let mut wanted: BTreeMap<u64, Vec<PagePointer>> = BTreeMap::new();
        for pointer in pointers {
            if !self.superblock.is_metadata(pointer.page) {
                let what = format!("a pointer leads to page {}, where no metadata is", pointer.page.0);
                (each.borrow_mut())(pointer, Err(what));
                continue;
            }
            let same = wanted.entry(pointer.page.0).or_default();
            if !same.contains(&pointer) {
                same.push(pointer);
            }
        }
        let runs = RefCell::new(runs_of(wanted.keys().copied()).into_iter());
        let wanted = &wanted;
        let worker = || async {
            loop {
                let Some((first, behind)) = runs.borrow_mut().next() else { break };
                self.read_run(first, behind, |page, bytes| {
                    for pointer in wanted.get(&page).into_iter().flatten() {
                        let bytes = bytes.clone().and_then(|bytes| match pointer.matches(bytes) {
                            true => Ok(bytes),
                            false => Err(format!("page {page} is damaged: its checksum is wrong")),
                        });
                        (each.borrow_mut())(*pointer, bytes);
                    }
                })
                .await;
            }
        };
        side_by_side((0..READS).map(|_| worker())).await;
    }

    async fn read_run(&self, first: u64, behind: u64, mut each: impl FnMut(u64, Page<'_>)) {
        let len = (behind - first) as usize * PAGE;
        let mut buffer = self.reactor.buffers().take(len).await;
        if self.try_to_read(first, &mut buffer, len).await.is_ok() {
            for (page, bytes) in (first..).zip(buffer[..len].chunks(PAGE)) {
                each(page, Ok(bytes));
            }
            return;
        }
        for page in first..behind {
            match self.try_to_read(page, &mut buffer, PAGE).await {
                Ok(()) => each(page, Ok(&buffer[..PAGE])),
                Err(error) => each(page, Err(format!("page {page} cannot be read: {error}"))),
            }
        }
    }

    /// Reads from a page on, trying a few times.
    pub(super) async fn try_to_read(
        &self,
        page: u64,
        buffer: &mut crate::memory::Buffer,
        len: usize,
    ) -> Result<(), IoError> {
        let mut outcome = Ok(());
        for _ in 0..TRIES {
            outcome = read_whole(self.device, PageNumber(page).byte(), buffer, 0..len).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

/// Runs of pages that are read together: first, and behind the last.
fn runs_of(pages: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for page in pages {
        match runs.last_mut() {
            Some((first, behind)) if page - *behind <= LARGEST_GAP && page - *first < PAGES_PER_READ => {
                *behind = page + 1
            }
            _ => runs.push((page, page + 1)),
        }
    }
    runs
}

/// Polls all futures until all are done.
async fn side_by_side<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut futures: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    std::future::poll_fn(move |cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Branches and leaves by the pointers to them.
pub(super) struct Nodes {
    pub(super) branches: HashMap<PagePointer, Node<Branch>>,
    pub(super) leaves: HashMap<PagePointer, Node<Leaf>>,
    /// What stands for a leaf that cannot be read.
    pub(super) lost_leaf: Loaded<Leaf>,
    /// What stands for a branch that cannot be read.
    pub(super) lost_branch: Loaded<Branch>,
}

/// A node, or what is wrong with it or below it.
pub(super) struct Node<T> {
    pub(super) node: Option<Loaded<T>>,
    pub(super) damage: Option<String>,
}

impl Nodes {
    /// Reads all branches and what they lead to.
    pub(super) async fn read(reader: &Reader<'_>, wanted: impl IntoIterator<Item = PagePointer>) -> Self {
        let lost_leaf = Loaded::new(Leaf::new(|_| Word::UNREADABLE));
        let lost_branch = Branch::new();
        lost_branch.leaves.iter().for_each(|edge| edge.join(&lost_leaf));
        let mut nodes =
            Self { branches: HashMap::new(), leaves: HashMap::new(), lost_leaf, lost_branch: Loaded::new(lost_branch) };
        let mut children: HashMap<PagePointer, Vec<PagePointer>> = HashMap::new();
        let mut broken = Vec::new();
        reader
            .read(wanted, |pointer, page| match page.and_then(pointers_in) {
                Ok(pointers) => drop(children.insert(pointer, pointers)),
                Err(damage) => broken.push((pointer, damage)),
            })
            .await;
        for (pointer, damage) in broken {
            nodes.branches.insert(pointer, Node { node: None, damage: Some(damage) });
        }
        let leaves: Vec<_> = children.values().flatten().copied().filter(|leaf| !leaf.is_none()).collect();
        let superblock = reader.superblock;
        let found = &mut nodes.leaves;
        reader
            .read(leaves, |pointer, page| {
                let node = match page {
                    Ok(bytes) => leaf_of(bytes, pointer, superblock),
                    Err(damage) => Node { node: None, damage: Some(damage) },
                };
                found.insert(pointer, node);
            })
            .await;
        for (pointer, leaves) in children {
            let branch = nodes.branch_of(pointer, &leaves);
            nodes.branches.insert(pointer, branch);
        }
        nodes
    }

    fn branch_of(&self, pointer: PagePointer, leaves: &[PagePointer]) -> Node<Branch> {
        let branch = Branch::new();
        let mut damage = None;
        for (edge, leaf) in branch.leaves.iter().zip(leaves).filter(|(_, leaf)| !leaf.is_none()) {
            let found = &self.leaves[leaf];
            edge.join(found.node.as_ref().unwrap_or(&self.lost_leaf));
            damage = damage.or_else(|| found.damage.clone());
        }
        branch.changed.store(damage.is_some(), Ordering::SeqCst);
        branch.stored.replace(pointer.page, pointer.checksum, 0);
        debug_assert_eq!(leaves.len(), LEAVES_PER_BRANCH);
        Node { node: Some(Loaded::new(branch)), damage }
    }

    /// All edges to nodes are there.
    pub(super) fn done(self) {
        let Self { branches, leaves, lost_leaf, lost_branch } = self;
        for branch in branches.into_values().filter_map(|branch| branch.node).chain([lost_branch]) {
            // From the top down: a branch to which nothing leads does not hold its leaves.
            if branch.holders().load(Ordering::Relaxed) == 0 {
                branch.leaves.iter().for_each(Edge::part);
            }
            branch.done();
        }
        leaves.into_values().filter_map(|leaf| leaf.node).chain([lost_leaf]).for_each(Loaded::done);
    }
}

/// The pointers of a root page, index page or branch.
pub(super) fn pointers_in(bytes: &[u8]) -> Result<Vec<PagePointer>, String> {
    node_page::decode(bytes).and_then(Iterator::collect).map_err(|error| error.to_string())
}

fn leaf_of(bytes: &[u8], pointer: PagePointer, superblock: &Superblock) -> Node<Leaf> {
    let mut damage = None;
    let mut words = match leaf_page::decode(bytes) {
        Ok(words) => words,
        Err(error) => return Node { node: None, damage: Some(error.to_string()) },
    };
    let leaf = Leaf::new(|_| {
        let word = words.next().expect("a leaf has 512 words").map(Word).map_err(|error| error.to_string());
        let word = word.and_then(|word| match word.cluster() {
            Some(cluster) if !superblock.is_data(cluster) => {
                Err(format!("page {}: a word names cluster {}, where no data is", pointer.page.0, cluster.0))
            }
            _ => Ok(word),
        });
        word.unwrap_or_else(|what| {
            damage.get_or_insert(what);
            Word::UNREADABLE
        })
    });
    leaf.changed.store(damage.is_some(), Ordering::SeqCst);
    leaf.stored.replace(pointer.page, pointer.checksum, 0);
    Node { node: Some(Loaded::new(leaf)), damage }
}
