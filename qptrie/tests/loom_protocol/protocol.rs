//! The trie reduced to its validation protocol: a fixed pool of branches, writers that follow a
//! script, a reader, and a switch for every step.

use loom::cell::Cell;
use loom::sync::Mutex;
use loom::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicBool, AtomicU32, fence};
use std::cell::Cell as Untracked;
use std::sync::Arc;

use crate::events::{Event, Events};

/// A key: its subtree, then the nibbles that branches test.
pub(crate) type Key = [u8; 3];

/// The maximum number of twigs in a branch.
const CAPACITY: usize = 3;
/// No node: a twig of a branch that was emptied.
const EMPTY: u32 = u32::MAX;
/// The number of a reader's attempts without the lock.
const ATTEMPTS: usize = 3;
/// The longest path of any scenario; only a misled reader exceeds it.
const LONGEST_PATH: usize = 3;

/// The switches. [`Protocol::SOUND`] is the protocol; every other value is a mutation.
#[derive(Clone, Copy)]
pub(crate) struct Protocol {
    pub(crate) count: Count,
    /// Instead of a count: a branch is emptied when it is freed, filled in order when it is reused
    /// (the twigs, then the shape), and read in order. A reader that finds it empty, or reaches the
    /// leaf of another key (F1), starts again.
    pub(crate) emptied: bool,
    /// Free: a fence between the odd count and the free list.
    pub(crate) free_fence: bool,
    /// Free: the store that puts the branch on the free list.
    pub(crate) hand_over: Ordering,
    /// Initialise: the load that takes the branch from the free list. Pairs with the two above: a
    /// thread that takes the branch knows that its count is odd, and passes that on by the fence
    /// below.
    pub(crate) take_over: Ordering,
    /// Initialise: a fence before the first field.
    pub(crate) init_fence: bool,
    /// Initialise: the store of the even count. Pairs with `first_count`.
    pub(crate) init_count: Ordering,
    /// Publish: the store of a leaf. Pairs with `root` or `own_fence`: the leaf's memory is plain.
    pub(crate) publish_leaf: Ordering,
    /// Publish: the store of a branch. Pairs with `own_fence`: if another thread initialised the
    /// branch, nothing else makes its changed count visible to the reader.
    pub(crate) publish_branch: Ordering,
    /// Read: the first load of a root slot.
    pub(crate) root: Ordering,
    /// Read: the first load of the count. A thread that reads an even count sees the fields of that
    /// life, and that the slots of the last life name other nodes.
    pub(crate) first_count: Ordering,
    pub(crate) odd_test: bool,
    pub(crate) slot_check: SlotCheck,
    pub(crate) parent_check: ParentCheck,
    /// Read: a fence before the parent's count.
    pub(crate) parent_fence: bool,
    /// Read: a fence between the fields and the branch's own count.
    pub(crate) own_fence: bool,
    pub(crate) own_check: bool,
    /// Read: "absent" is validated before it is trusted.
    pub(crate) validate_absent: bool,
    /// Read: the branch that names a leaf is validated before the leaf is accessed.
    pub(crate) validate_leaf: bool,
}

/// The moment at which the count of a branch becomes odd.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Count {
    AtUnlink,
    AtReuse,
    Never,
}

/// The moment at which the reader loads the slot again.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum SlotCheck {
    AfterCount,
    BeforeCount,
    Never,
}

/// The moment at which the reader compares the parent's count again.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum ParentCheck {
    AfterSlot,
    BeforeSlot,
    Never,
}

impl Protocol {
    /// ORDERING: each field names what it pairs with; `mutations` shows what fails without it.
    pub(crate) const SOUND: Self = Self {
        count: Count::AtUnlink,
        emptied: false,
        free_fence: true,
        // The weakest sufficient free list: the fence before the store is its Release.
        hand_over: Relaxed,
        take_over: Acquire,
        init_fence: true,
        init_count: Release,
        publish_leaf: Release,
        publish_branch: Release,
        root: Acquire,
        first_count: Acquire,
        odd_test: true,
        slot_check: SlotCheck::AfterCount,
        parent_check: ParentCheck::AfterSlot,
        parent_fence: true,
        own_fence: true,
        own_check: true,
        validate_absent: true,
        validate_leaf: true,
    };
}

/// The content of a slot.
#[derive(Clone, Copy)]
pub(crate) enum Node {
    Branch(usize),
    Leaf(usize),
}

impl Node {
    fn handle(self) -> u32 {
        match self {
            Node::Branch(index) => index as u32 * 2,
            Node::Leaf(index) => index as u32 * 2 + 1,
        }
    }

    fn of(handle: u32) -> Self {
        let index = (handle / 2) as usize;
        if handle.is_multiple_of(2) { Node::Branch(index) } else { Node::Leaf(index) }
    }
}

/// A place that names a node.
#[derive(Clone, Copy)]
pub(crate) enum Slot {
    /// The root slot of a subtree.
    Root(usize),
    /// A branch and the position of a twig in it.
    Twig(usize, usize),
}

/// The content of a branch: the index of the nibble that it tests, and the node for each value of
/// it.
pub(crate) struct Contents {
    pub(crate) index: u32,
    pub(crate) twigs: &'static [(u32, Node)],
}

impl Contents {
    /// Returns the shape. Index and bitmap are one word, so that no reader sees one without the
    /// other.
    fn shape(&self) -> u32 {
        self.twigs.iter().fold(self.index << 17, |shape, (nibble, _)| shape | 1 << nibble)
    }

    fn handle(&self, position: usize) -> u32 {
        self.twigs.get(position).map_or(0, |(_, node)| node.handle())
    }
}

/// Returns the position of the twig for `key` in a branch of that shape.
fn position(shape: u32, key: Key) -> Option<usize> {
    let bit = 1 << key[(shape >> 17) as usize];
    (shape & bit != 0).then(|| (shape & (bit - 1)).count_ones() as usize)
}

struct Branch {
    count: AtomicU32,
    shape: AtomicU32,
    twigs: [AtomicU32; CAPACITY],
    /// True if the branch is on the free list.
    free: AtomicBool,
    /// The count as the branch's owner knows it. An owner that loaded `count` before storing it
    /// would hide the reader's earlier loads from loom.
    own_count: Untracked<u32>,
    /// True if the branch has been in use before, so that initialising it is a reuse.
    used: bool,
}

impl Branch {
    /// Creates a branch, once in each execution; without contents it is free.
    fn new(contents: Option<&Contents>, protocol: &Protocol) -> Self {
        let free = contents.is_none();
        let count = u32::from(free && protocol.count != Count::Never);
        let twig = |at| AtomicU32::new(contents.map_or(0, |contents| contents.handle(at)));
        Self {
            count: AtomicU32::new(count),
            shape: AtomicU32::new(contents.map_or(0, Contents::shape)),
            twigs: std::array::from_fn(twig),
            free: AtomicBool::new(free),
            own_count: Untracked::new(count),
            used: !free,
        }
    }

    /// Stores the next count.
    fn step_count(&self, order: Ordering) {
        let next = self.own_count.get() + 1;
        self.own_count.set(next);
        self.count.store(next, order);
    }
}

/// The initial trie. A branch without contents is free; a leaf without a key is created by a
/// writer.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    pub(crate) roots: [Node; 2],
    pub(crate) branches: &'static [Option<Contents>],
    pub(crate) leaves: &'static [Option<Key>],
}

/// The next action of a writer.
pub(crate) enum Step {
    WriteLeaf(usize, Key),
    Init(usize, Contents),
    Publish(Slot, Node),
    /// The branch must be unlinked already.
    Free(usize),
    /// Continues only if another writer has freed the branch by then.
    Take(usize),
    /// Continues only if another writer has stored the node into the slot by then.
    Expect(Slot, Node),
}

/// Steps under the lock of one subtree.
pub(crate) struct Update {
    pub(crate) subtree: usize,
    pub(crate) steps: &'static [Step],
}

pub(crate) struct Trie {
    protocol: Protocol,
    roots: [AtomicU32; 2],
    locks: [Mutex<()>; 2],
    branches: Vec<Branch>,
    /// Plain memory: loom reports an access that is not ordered after the write.
    leaves: Vec<Cell<Option<Key>>>,
    reuses: Untracked<usize>,
    events: Arc<Events>,
}

impl Trie {
    pub(crate) fn new(start: &Start, protocol: Protocol, events: Arc<Events>) -> Self {
        let branches = start.branches.iter();
        Self {
            roots: start.roots.map(|node| AtomicU32::new(node.handle())),
            locks: [Mutex::new(()), Mutex::new(())],
            branches: branches.map(|start| Branch::new(start.as_ref(), &protocol)).collect(),
            leaves: start.leaves.iter().map(|key| Cell::new(*key)).collect(),
            reuses: Untracked::new(0),
            protocol,
            events,
        }
    }

    fn slot(&self, slot: Slot) -> &AtomicU32 {
        match slot {
            Slot::Root(subtree) => &self.roots[subtree],
            Slot::Twig(branch, position) => &self.branches[branch].twigs[position],
        }
    }

    /// Runs one writer.
    pub(crate) fn write(&self, updates: &[Update]) {
        for update in updates {
            let _locked = self.locks[update.subtree].lock().expect("a model ends at its panic");
            if !update.steps.iter().all(|step| self.step(step)) {
                return;
            }
        }
    }

    /// Performs a step. Returns true if the writer continues.
    fn step(&self, step: &Step) -> bool {
        match step {
            Step::WriteLeaf(leaf, key) => self.leaves[*leaf].set(Some(*key)),
            Step::Init(branch, contents) => self.init(&self.branches[*branch], contents),
            Step::Publish(slot, node) => self.publish(*slot, *node),
            Step::Free(branch) => self.free(&self.branches[*branch]),
            Step::Take(branch) => return self.branches[*branch].free.load(self.protocol.take_over),
            Step::Expect(slot, node) => return self.slot(*slot).load(Relaxed) == node.handle(),
        }
        true
    }

    fn free(&self, branch: &Branch) {
        if self.protocol.count == Count::AtUnlink {
            branch.step_count(Relaxed);
        }
        if self.protocol.emptied {
            branch.shape.store(0, Relaxed);
            // ORDERING: pairs with the reader's Acquire load of the shape.
            branch.twigs.iter().for_each(|twig| twig.store(EMPTY, Release));
        }
        if self.protocol.free_fence {
            // ORDERING: with the store below, pairs with `take_over`. "free fence removed".
            fence(Release);
        }
        branch.free.store(true, self.protocol.hand_over);
    }

    fn init(&self, branch: &Branch, contents: &Contents) {
        if self.protocol.count == Count::AtReuse && branch.own_count.get().is_multiple_of(2) {
            branch.step_count(Relaxed);
        }
        if self.protocol.init_fence {
            // ORDERING: with the stores below, pairs with the reader's fence before it compares the
            // count: a reader that has seen a field of this life sees a count past the last life's.
            // A fence orders later stores of its own thread only. "init fence removed".
            fence(Release);
        }
        if !self.protocol.emptied {
            branch.shape.store(contents.shape(), Relaxed);
        }
        for (twig, (_, node)) in branch.twigs.iter().zip(contents.twigs) {
            twig.store(node.handle(), Relaxed);
        }
        if self.protocol.emptied {
            // ORDERING: pairs with the reader's Acquire load: a reader that sees the shape sees the
            // twigs.
            branch.shape.store(contents.shape(), Release);
        }
        if self.protocol.count != Count::Never {
            branch.step_count(self.protocol.init_count);
        }
        if branch.used {
            self.reuses.set(self.reuses.get() + 1);
        }
    }

    fn publish(&self, slot: Slot, node: Node) {
        let order = match node {
            Node::Branch(_) => self.protocol.publish_branch,
            Node::Leaf(_) => self.protocol.publish_leaf,
        };
        self.slot(slot).store(node.handle(), order);
    }

    /// The reader: returns true if it finds `key`.
    pub(crate) fn contains(&self, key: Key) -> bool {
        let reuses = self.reuses.get();
        let found = self.lookup(key);
        if self.reuses.get() != reuses {
            self.events.count(Event::Reuse);
        }
        found
    }

    fn lookup(&self, key: Key) -> bool {
        for _ in 0..ATTEMPTS {
            match self.walk(key) {
                Ok(found) => return found,
                Err(reason) => self.events.count(reason),
            }
        }
        self.events.count(Event::Lock);
        self.walk_locked(key)
    }

    /// Walks from the root to an answer, or to the check that failed.
    fn walk(&self, key: Key) -> Result<bool, Event> {
        let protocol = &self.protocol;
        let mut slot = &self.roots[usize::from(key[0])];
        let mut handle = slot.load(protocol.root);
        let mut parent: Option<(&Branch, u32)> = None;

        for _ in 0..LONGEST_PATH {
            let branch = match Node::of(handle) {
                Node::Branch(branch) => &self.branches[branch],
                Node::Leaf(leaf) => {
                    let found = self.leaf_is(leaf, key);
                    // Favours the reader: it can miss a key only if it finds no way.
                    let astray = protocol.emptied && !found;
                    return if astray { Err(Event::Own) } else { Ok(found) };
                }
            };

            let slot_moved = || slot.load(Relaxed) != handle;
            let parent_moved = || {
                parent.is_some_and(|(parent, count)| {
                    if protocol.parent_fence {
                        // ORDERING: pairs with the parent's init fence: a reader that read the slot
                        // in the parent's next life reads its count from there too. "fence before
                        // the parent's count removed".
                        fence(Acquire);
                    }
                    parent.count.load(Relaxed) != count
                })
            };

            if protocol.slot_check == SlotCheck::BeforeCount && slot_moved() {
                return Err(Event::Slot);
            }
            let count = branch.count.load(protocol.first_count);
            if protocol.odd_test && !count.is_multiple_of(2) {
                return Err(Event::Odd);
            }
            if protocol.parent_check == ParentCheck::BeforeSlot && parent_moved() {
                return Err(Event::Parent);
            }
            if protocol.slot_check == SlotCheck::AfterCount && slot_moved() {
                return Err(Event::Slot);
            }
            if protocol.parent_check == ParentCheck::AfterSlot && parent_moved() {
                return Err(Event::Parent);
            }

            // ORDERING: the Acquire pairs with the shape's store in `init`.
            let shape = branch.shape.load(if protocol.emptied { Acquire } else { Relaxed });
            let position = position(shape, key);
            let twig = position.map(|position| &branch.twigs[position]);
            let next = twig.map(|twig| twig.load(Relaxed));
            if protocol.emptied && (shape == 0 || next == Some(EMPTY)) {
                return Err(Event::Own);
            }

            if next.is_none() && !protocol.validate_absent {
                return Ok(false);
            }
            if let (Some(Node::Leaf(leaf)), false) = (next.map(Node::of), protocol.validate_leaf) {
                self.leaf_is(leaf, key);
            }
            if protocol.own_fence {
                // ORDERING: pairs with the init fence of this branch (see there), and with the
                // Release that published a leaf. "fence before the last count removed".
                fence(Acquire);
            }
            if protocol.own_check && branch.count.load(Relaxed) != count {
                return Err(Event::Own);
            }

            let (Some(twig), Some(next)) = (twig, next) else {
                return Ok(false);
            };
            (slot, handle, parent) = (twig, next, Some((branch, count)));
        }
        panic!("claim: the reader is never led astray");
    }

    /// Looks up `key` under the lock of the subtree's writers, where nothing changes.
    fn walk_locked(&self, key: Key) -> bool {
        let subtree = usize::from(key[0]);
        let _locked = self.locks[subtree].lock().expect("a model ends at its panic");
        let mut handle = self.roots[subtree].load(Relaxed);
        loop {
            let branch = match Node::of(handle) {
                Node::Branch(branch) => &self.branches[branch],
                Node::Leaf(leaf) => return self.leaf_is(leaf, key),
            };
            let Some(position) = position(branch.shape.load(Relaxed), key) else {
                return false;
            };
            handle = branch.twigs[position].load(Relaxed);
        }
    }

    fn leaf_is(&self, leaf: usize, key: Key) -> bool {
        self.leaves[leaf].get() == Some(key)
    }
}
