//! Changes: insert, replace, remove.
//!
//! A writer finds the place as readers do (`locate`), and locks what it is about to change: the
//! branch that has the slot, and, if that branch is to be replaced, the branch above it as well.
//! Under the locks it checks that everything is as it was found; if not, it starts again. So
//! writers wait for each other only if they change the same branch.
//!
//! Adding a twig copies the branch, publishes the copy with one store into the slot that named the
//! original, and frees the original. Replacing a leaf is one store. A reader sees the trie as
//! before the store or as after it.
//!
//! Removing a leaf empties its slot in place while enough slots of the branch stay in use: more
//! than half of them, or more than half of `SPACIOUS`. Below that it copies the branch, too. An
//! empty slot is a *hole*. To readers a hole means "no such twig"; the next insertion with its
//! symbol fills it; and it disappears when its branch is copied. If there is no memory for the
//! smaller copy, removing leaves a hole instead, so it never fails.
//!
//! A branch with many twigs has ways for all symbols, most of them holes at first, so that it is
//! not copied for each twig that it gains or loses.
//!
//! - QPT-W1: a branch has at least two twigs that are not holes.
//! - QPT-W2: a node is freed once, by the writer whose store unlinked it, after that store.
//! - QPT-W3: only the holder of the lock of a branch (or root) stores into its slots. Only the
//!   holder of two locks unlinks a branch: its own and that of the slot that names it. So nothing
//!   is lost: a writer that copies a branch has read all its slots, and a writer that stores into a
//!   slot knows that its branch is linked.
//! - QPT-W4: a writer waits for at most two locks, that of the upper branch first. While it holds
//!   the upper lock, the lower branch stays linked below the upper one (the slot was read under the
//!   lock). So threads that wait for one another are on one downward path, and the last of them
//!   waits for no lock: there is no deadlock. (A new branch is created locked. Before it
//!   is published, only a writer that came by the parent of a leaf may wait for that lock
//!   (`by_parent`), and that writer holds no lock; the holder waits for nothing meanwhile.)
//! - QPT-W5: the lock of a copy is held until the count of the original is odd. Between the store
//!   that publishes the copy and that moment the original looks linked, and its slots do not
//!   change. If the slots of the copy could change, the original would be a frozen parent (F3): a
//!   reader could follow its slot to a branch that was replaced in the copy, and reused. Falls to
//!   `loom` "copy not locked".
//! - QPT-W6: under immediate reuse, a leaf is written, and its life is ended, only by the thread
//!   that took a version of it that was seen linked. A leaf is unlinked by the holder of the slot's
//!   lock, which ended its life before. So a thread that takes a version that was seen linked knows
//!   that the leaf is linked, without the lock of a branch. The holder of a version waits for
//!   nothing. (A thread that marks a new leaf as linked waits for that holder while it holds locks
//!   of branches.)

mod by_parent;
mod locate;
mod replace;

pub(crate) use by_parent::locate_by_parent;
pub(crate) use locate::{Found, Located, Vacant, locate};
pub(crate) use replace::Named;

use crate::node::{
    Locked, NoRoom, Node, Nodes, PlainBits, Retry, Shape, Symbol, Symbols, Tag, Twig,
};
use crate::read::{LinkedBranch, LinkedLeaf};
use locate::OwnedSlot;
use memalloc::sync::Ordering;
use memalloc::{AllocErrorKind, Handle, ReusePolicy};
use replace::put_parent;
use std::ops::Range;

/// A branch gets ways for all symbols at this number of twigs, and keeps them until half as many
/// are left.
const SPACIOUS: usize = 128;

/// Why a leaf was not linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotLinked {
    /// Something changed on the path; nothing was done.
    Retry,
    /// A branch can't be allocated.
    Memory(AllocErrorKind),
    /// The entry limit leaves no room, or may leave none.
    NoRoom(NoRoom),
}

impl From<NoRoom> for NotLinked {
    fn from(no_room: NoRoom) -> Self {
        Self::NoRoom(no_room)
    }
}

impl From<Retry> for NotLinked {
    fn from(_: Retry) -> Self {
        Self::Retry
    }
}

impl<'t> Found<'t> {
    /// Returns the leaf with its slot.
    pub(crate) fn named(&self) -> Named<'t> {
        Named { leaf: self.leaf, slot_at: self.slot_at, by_parent: false }
    }

    /// Overwrites the value of the leaf, under immediate reuse of leaves, and returns the old
    /// value. Takes only the leaf's own lock (QPT-W6), and needs no memory.
    pub(crate) fn overwrite<V: PlainBits, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &Nodes<V, B, L>,
        value: &V,
    ) -> Result<V, Retry> {
        nodes.overwrite(self.leaf, self.at.version, value)
    }

    /// Returns a copy of the leaf's value, if the leaf still has the version that was found. A
    /// caller that then overwrites or removes what was found does so to exactly this value, or gets
    /// `Retry`.
    pub(crate) fn value<V: PlainBits, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<V, Retry> {
        if L::PROTECTS_IDENTITY {
            // SAFETY: `locate` confirmed the leaf; the caller's section keeps it (QPT-N3).
            return Ok(unsafe { *nodes.value(self.leaf) });
        }
        let value = nodes.copy_value(self.leaf);
        self.at.confirm(nodes)?;
        // SAFETY: the leaf had one version all the time (QPT-V4), so these are the bytes of the
        // value that was stored there (QPT-N6).
        Ok(unsafe { value.assume_init() })
    }

    /// Unlinks the leaf. Needs no memory. The caller frees the leaf (QPT-W2).
    pub(crate) fn remove<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<(), Retry> {
        self.unlink(nodes)?;
        if L::PROTECTS_IDENTITY && nodes.faults.unmarked_late() {
            nodes.mark_unlinked(self.leaf);
        }
        Ok(())
    }

    fn unlink<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<(), Retry> {
        let (Some((branch, gone)), Some((above, symbol))) = (self.slot_at.branch(), self.above)
        else {
            let _held = self.slot_at.lock(nodes)?;
            let counting = nodes.entries.begin_take();
            self.at.end(nodes)?;
            Twig::NOTHING.publish(self.slot_at.slot);
            counting.done();
            return Ok(());
        };
        // A pair is always replaced. (This read without the lock only chooses which lock to take
        // first.)
        if !nodes.shape(branch).is_pair() {
            let _held = self.slot_at.lock(nodes)?;
            if stays_full(nodes, branch) {
                let counting = nodes.entries.begin_take();
                self.at.end(nodes)?;
                nodes.make_hole(branch, gone);
                counting.done();
                return Ok(());
            }
            // Take the upper lock first (QPT-W4).
        }
        let upper = above.lock(nodes)?;
        let lower = self.slot_at.lock(nodes)?;
        let shape = nodes.shape(branch);
        let slots = nodes.slots(branch, shape);
        let symbols = living(nodes, branch, shape).without(symbol);
        let before = twigs(nodes, branch, slots.start..gone);
        let mut others = before.chain(twigs(nodes, branch, gone + 1..slots.end));
        let replacement = match symbols.len() {
            1 => others.next().map(|twig| (twig, None)),
            _ => {
                let copy = new_branch(nodes, shape.index(), &symbols, others);
                copy.ok().map(|(copy, held)| (Twig::branch(copy), Some(held)))
            }
        };
        let counting = nodes.entries.begin_take();
        // The leaf is unreadable from here on, so nothing slow may follow.
        if let Err(retry) = self.at.end(nodes) {
            if let Some((copy, Some(held))) = replacement {
                held.unlink();
                // Freeing takes longer than a lock should be held.
                drop((counting, lower, upper));
                discard(nodes, copy);
            }
            return Err(retry);
        }
        match replacement {
            Some(by) => {
                replace_branch(nodes, above, upper, (branch, lower), by, || counting.done())
            }
            None => {
                nodes.make_hole(branch, gone);
                counting.done();
            }
        }
        Ok(())
    }
}

/// Overwrites the value of a leaf that a hint led to, like [`Found::overwrite`]. In this version
/// the leaf was linked and had the right key.
pub(crate) fn overwrite_hinted<V: PlainBits, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    at: LinkedLeaf,
    value: &V,
) -> Result<V, Retry> {
    nodes.overwrite(at.leaf, at.version, value)
}

impl Vacant<'_> {
    /// Links a leaf whose key has this tag. If this fails, nothing was changed.
    pub(crate) fn insert<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &Nodes<V, B, L>,
        leaf: Handle,
        tag: Tag,
    ) -> Result<(), NotLinked> {
        let twig = Twig::leaf(leaf, tag);
        match *self {
            Self::Root(slot_at) => {
                put_parent(nodes, leaf, None);
                let _held = slot_at.lock(nodes)?;
                let counting = nodes.entries.begin_add(nodes.faults)?;
                twig.publish(slot_at.slot);
                nodes.mark_linked(leaf);
                counting.done();
                Ok(())
            }
            Self::Twig { above, at, new } => add_twig(nodes, above, at, new, (leaf, twig)),
            Self::Fork { slot_at, below, index, nearest, new } => {
                let _held = slot_at.lock(nodes)?;
                // The slot names the same node as before. The node must also be in the same life or
                // version: otherwise its keys may differ from the new key in another symbol.
                if !below.is_same(nodes) {
                    return Err(NotLinked::Retry);
                }
                let counting = nodes.entries.begin_add(nodes.faults)?;
                let below = Twig::load(slot_at.slot, Ordering::Relaxed);
                let pair = if new < nearest { [twig, below] } else { [below, twig] };
                let symbols = [nearest, new].into_iter().collect();
                let (fork, _new) = new_branch(nodes, index, &symbols, pair.into_iter())?;
                put_parent(nodes, leaf, Some(fork));
                Twig::branch(fork).publish(slot_at.slot);
                nodes.mark_linked(leaf);
                counting.done();
                Ok(())
            }
        }
    }
}

/// Adds the twig of a leaf to a branch.
fn add_twig<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    above: OwnedSlot<'_>,
    at: LinkedBranch,
    new: Symbol,
    (leaf, twig): (Handle, Twig),
) -> Result<(), NotLinked> {
    // Read from the life in which the branch was found; the lock below fails in any other life.
    let shape = nodes.shape(at.branch);
    if let Some(way) = nodes.way(at.branch, shape, new) {
        put_parent(nodes, leaf, Some(at.branch));
        let _held = nodes.count(at.branch).lock(at.life)?;
        if Twig::load(nodes.slot(at.branch, way), Ordering::Relaxed) != Twig::NOTHING {
            return Err(NotLinked::Retry);
        }
        let counting = nodes.entries.begin_add(nodes.faults)?;
        nodes.fill_hole(at.branch, way, twig);
        nodes.mark_linked(leaf);
        counting.done();
        return Ok(());
    }
    let upper = above.lock(nodes)?;
    let lower = nodes.count(at.branch).lock(at.life)?;
    let counting = nodes.entries.begin_add(nodes.faults)?;
    let slots = nodes.slots(at.branch, shape);
    let symbols = living(nodes, at.branch, shape).with(new);
    let place = nodes.place(at.branch, shape, new);
    let before = twigs(nodes, at.branch, slots.start..place);
    let after = twigs(nodes, at.branch, place..slots.end);
    let mut all = before.chain([twig]).chain(after);
    let (copy, held) = if symbols.len() < SPACIOUS {
        new_branch(nodes, shape.index(), &symbols, all)?
    } else {
        let all = Symbols::EVERY.iter().map(|symbol| {
            let living = symbols.has(symbol).then(|| all.next());
            living.flatten().unwrap_or(Twig::NOTHING)
        });
        new_branch(nodes, shape.index(), &Symbols::EVERY, all)?
    };
    put_parent(nodes, leaf, Some(copy));
    let by = (Twig::branch(copy), Some(held));
    replace_branch(nodes, above, upper, (at.branch, lower), by, || {
        nodes.mark_linked(leaf);
        counting.done();
    });
    Ok(())
}

/// Publishes a twig in place of a branch, and frees the branch. A copy is created locked. Any other
/// twig was below the branch, and can't be changed in its new place before the upper lock is
/// released. `published` is called before any lock is released.
fn replace_branch<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    above: OwnedSlot<'_>,
    upper: Locked<'_>,
    (branch, lower): (Handle, Locked<'_>),
    (twig, mut copy): (Twig, Option<Locked<'_>>),
    published: impl FnOnce(),
) {
    if nodes.faults.copy_not_locked() {
        copy = None;
    }
    twig.publish(above.slot);
    // Before the other locks are released: a branch that is no longer linked must not look linked
    // to a thread that changes what replaced it (QPT-W5).
    lower.unlink();
    published();
    drop((copy, upper));
    nodes.free_branch(branch);
}

/// Frees a branch that was not published.
fn discard<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    twig: Twig,
) {
    if let Node::Branch(branch) = twig.node() {
        nodes.free_branch(branch);
    }
}

/// Allocates a branch that is not published yet, and returns it with its lock.
fn new_branch<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &'t Nodes<V, B, L>,
    index: u32,
    symbols: &Symbols,
    twigs: impl Iterator<Item = Twig>,
) -> Result<(Handle, Locked<'t>), NotLinked> {
    nodes.new_branch(index, symbols, twigs).map_err(|error| NotLinked::Memory(error.kind()))
}

/// Returns true if a locked branch has enough twigs (QPT-W1) to lose one without a copy.
fn stays_full<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    branch: Handle,
) -> bool {
    let slots = nodes.slots(branch, nodes.shape(branch));
    // The twigs that have to remain, and the one that is removed.
    let least = (slots.len().min(SPACIOUS) / 2).max(1) + 1;
    match nodes.twig_count(branch) {
        Some(there) => there > least,
        None => twigs(nodes, branch, slots).nth(least).is_some(),
    }
}

/// Returns the twigs in some slots of a locked branch, without the holes.
fn twigs<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    branch: Handle,
    slots: Range<u16>,
) -> impl Iterator<Item = Twig> {
    let twigs = slots.map(move |slot| Twig::load(nodes.slot(branch, slot), Ordering::Relaxed));
    twigs.filter(|twig| *twig != Twig::NOTHING)
}

/// Returns the symbols of a locked branch, without those of holes.
fn living<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    branch: Handle,
    shape: Shape,
) -> Symbols {
    let (all, slots) = (nodes.symbols(branch, shape), nodes.slots(branch, shape));
    let is_hole = |slot| Twig::load(nodes.slot(branch, slot), Ordering::Relaxed) == Twig::NOTHING;
    // Check this first: holes are rare.
    let has_hole = match nodes.twig_count(branch) {
        Some(there) => there < slots.len(),
        None => slots.clone().any(is_hole),
    };
    if !has_hole {
        return all;
    }
    let living = all.iter().zip(slots).filter(|&(_, slot)| !is_hole(slot));
    living.map(|(symbol, _)| symbol).collect()
}
