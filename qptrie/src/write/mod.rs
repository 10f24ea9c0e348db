//! Changes: insert, replace, remove.
//!
//! The caller holds the lock of the subtree, so that what is read here stands still. Adding or
//! removing a twig copies the branch, publishes the copy with one store into the slot that named
//! the original, and frees the original; replacing a leaf is one store. A reader sees the trie
//! before the store or after it, never in between.
//!
//! Removing never fails: where there is no memory for the smaller copy, the slot of the leaf is
//! emptied in place. Such a *hole* is "no such twig" to readers, is filled by the next insert
//! that comes by, and goes away when its branch is copied.
//!
//! - INV-W1: a branch has at least two twigs that are not holes.
//! - INV-W2: a node is freed once, after the store that unlinked it.

use crate::node::{Node, Nodes, Shape, Twig, bit_at, first_difference};
use crate::read::closest_leaf;
use memalloc::sync::{AtomicU32, Ordering};
use memalloc::{AllocError, Handle, ReusePolicy};

/// A slot and what it holds.
#[derive(Clone, Copy)]
struct Spot<'t> {
    slot: &'t AtomicU32,
    twig: Twig,
}

impl<'t> Spot<'t> {
    fn at(slot: &'t AtomicU32) -> Self {
        Self { slot, twig: Twig::load(slot, Ordering::Relaxed) }
    }
}

/// Where a key is, or where it would be.
pub(crate) enum Place<'t> {
    /// A leaf with this very key.
    Found(Found<'t>),
    /// No such leaf.
    Vacant(Vacant<'t>),
}

/// A leaf in the trie.
pub(crate) struct Found<'t> {
    pub(crate) leaf: Handle,
    spot: Spot<'t>,
    /// The branch that the leaf hangs on, and the slot that names the branch; none where the
    /// leaf hangs on the root.
    parent: Option<(Handle, Spot<'t>)>,
}

/// A place for a leaf.
pub(crate) struct Vacant<'t> {
    spot: Spot<'t>,
    /// The way that the nearest leaf and the new key take where they part; none in an empty
    /// subtree.
    parting: Option<Parting>,
}

struct Parting {
    index: u32,
    nearest: u32,
    new: u32,
}

/// Finds the place of `key`.
pub(crate) fn locate<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &'t Nodes<V, B, L>,
    key: &[u8],
) -> Place<'t> {
    let mut spot = Spot::at(nodes.roots.of(key));
    let Some(nearest) = closest_leaf(nodes, spot.twig, key) else {
        return Place::Vacant(Vacant { spot, parting: None });
    };
    // SAFETY: the leaf is linked, and only the lock's holder could unlink it.
    let nearest_key = unsafe { nodes.key(nearest) };
    let difference = first_difference(nearest_key, key);
    let mut parent = None;
    while let Node::Branch(branch) = spot.twig.node() {
        let shape = nodes.shape(branch);
        if difference.is_some_and(|index| shape.index() >= index) {
            break;
        }
        parent = Some((branch, spot));
        spot = Spot::at(nodes.slot(branch, shape.position(bit_at(key, shape.index()))));
    }
    match difference {
        None => Place::Found(Found { leaf: nearest, spot, parent }),
        Some(index) => {
            let parting =
                Parting { index, nearest: bit_at(nearest_key, index), new: bit_at(key, index) };
            Place::Vacant(Vacant { spot, parting: Some(parting) })
        }
    }
}

impl Found<'_> {
    /// Puts another leaf with the same key in place of the one that was found, which is unlinked
    /// then.
    pub(crate) fn replace(self, leaf: Handle) {
        Twig::leaf(leaf).publish(self.spot.slot);
    }

    /// Unlinks the leaf. Needs no memory.
    pub(crate) fn remove<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
    ) {
        let Some((branch, above)) = self.parent else {
            return Twig::NOTHING.publish(self.spot.slot);
        };
        let shape = nodes.shape(branch);
        let gone = Twig::leaf(self.leaf);
        let others = twigs(nodes, branch, shape).filter(|&(_, twig)| twig != gone);
        let bitmap = others.clone().fold(0, |bitmap, (bit, _)| bitmap | bit);
        if bitmap.is_power_of_two() {
            for (_, last) in others {
                last.publish(above.slot);
            }
            return nodes.free_branch(branch);
        }
        let others = others.map(|(_, twig)| twig);
        match nodes.new_branch(Shape::new(shape.index(), bitmap), others) {
            Ok(copy) => {
                Twig::branch(copy).publish(above.slot);
                nodes.free_branch(branch);
            }
            Err(_) => Twig::NOTHING.publish(self.spot.slot),
        }
    }
}

impl Vacant<'_> {
    /// Links a leaf. Nothing is changed when there is no memory.
    pub(crate) fn insert<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
        leaf: Handle,
    ) -> Result<(), AllocError> {
        let (spot, leaf) = (self.spot, Twig::leaf(leaf));
        let Some(Parting { index, nearest, new }) = self.parting else {
            leaf.publish(spot.slot);
            return Ok(());
        };
        if let Node::Branch(branch) = spot.twig.node() {
            let shape = nodes.shape(branch);
            if shape.index() == index && shape.has(new) {
                leaf.publish(nodes.slot(branch, shape.position(new)));
                return Ok(());
            }
            if shape.index() == index {
                let old = twigs(nodes, branch, shape);
                let bitmap = old.clone().fold(new, |bitmap, (bit, _)| bitmap | bit);
                let below = old.clone().take_while(|(bit, _)| *bit < new);
                let above = old.skip_while(|(bit, _)| *bit < new);
                let all = below.chain([(new, leaf)]).chain(above).map(|(_, twig)| twig);
                let copy = nodes.new_branch(Shape::new(index, bitmap), all)?;
                Twig::branch(copy).publish(spot.slot);
                nodes.free_branch(branch);
                return Ok(());
            }
        }
        let pair = if new < nearest { [leaf, spot.twig] } else { [spot.twig, leaf] };
        let fork = nodes.new_branch(Shape::new(index, nearest | new), pair.into_iter())?;
        Twig::branch(fork).publish(spot.slot);
        Ok(())
    }
}

/// The twigs of a branch, each with its bit, without the holes.
fn twigs<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    branch: Handle,
    shape: Shape,
) -> impl Iterator<Item = (u32, Twig)> + Clone {
    let bits = shape.bits().enumerate();
    bits.map(move |(position, bit)| {
        (bit, Twig::load(nodes.slot(branch, position), Ordering::Relaxed))
    })
    .filter(|(_, twig)| *twig != Twig::NOTHING)
}
