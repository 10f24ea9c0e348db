//! Lookups from the root to a leaf: of one key, and of several at once.

use super::branch_view::{LinkedBranch, follow};
use super::leaf_view::LeafAt;
use crate::node::{Node, Nodes, PlainBits, Retry, Twig, symbol_at};
use memalloc::sync::{AtomicU32, Ordering};
use memalloc::{Handle, ReusePolicy};
use std::ops::ControlFlow::{self, Break, Continue};

/// The state of a lookup.
struct Lookup<'t> {
    slot: &'t AtomicU32,
    /// The content of the slot: confirmed, or read from a root.
    twig: Twig,
    /// The branch that has the slot; `None` for a root.
    parent: Option<LinkedBranch>,
}

impl<'t> Lookup<'t> {
    #[inline(always)]
    fn begin<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        nodes: &'t Nodes<V, B, L>,
        key: &[u8],
    ) -> Self {
        let slot = nodes.roots.of(key).slot();
        // ORDERING: pairs with `Twig::publish`: a root has no count whose check would order this
        // load. Falls to `loom` `a_lone_leaf_arrives_whole`.
        Self { slot, twig: Twig::load(slot, Ordering::Acquire), parent: None }
    }

    /// Goes one branch down. Breaks at the end, with the only leaf that may belong to `key`, if
    /// any: a key that is present throughout is below every branch reached here (QPT-V3).
    #[inline(always)]
    fn step<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &'t Nodes<V, B, L>,
        key: &[u8],
    ) -> Result<ControlFlow<Option<LeafAt<'t>>>, Retry> {
        let branch = match self.twig.node() {
            Node::Nothing => return Ok(Break(None)),
            Node::Leaf(leaf) => {
                return Ok(Break(Some(LeafAt { leaf, slot: self.slot, parent: self.parent })));
            }
            Node::Branch(branch) => branch,
        };
        let named = (self.slot, self.twig);
        let linked = LinkedBranch::enter::<false, V, B, L>(nodes, branch, named, self.parent)?;
        let shape = nodes.shape(branch);
        let way = nodes.way(branch, shape, symbol_at(key, shape.index()));
        // The header may be half from another life: then "no way" means nothing, and a way may
        // point anywhere.
        if way.is_some() || !nodes.faults.unvalidated_absence() {
            linked.confirm(nodes)?;
        }
        let Some(way) = way else {
            return Ok(Break(None));
        };
        self.slot = nodes.slot(branch, way);
        self.twig = follow::<B>(self.slot);
        if !nodes.faults.unvalidated_twig() {
            linked.confirm(nodes)?;
        }
        self.parent = Some(linked);
        Ok(Continue(()))
    }
}

/// Returns the leaf of `key`, if there is one.
///
/// The caller is inside a read section.
#[inline]
pub(crate) fn find<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    key: &[u8],
) -> Result<Option<Handle>, Retry> {
    look(nodes, key, |reached| leaf_of(nodes, reached, key))
}

/// Returns the leaf of `key` and a copy of its value, if there is one.
///
/// The caller is inside a read section.
#[inline]
pub(crate) fn find_copied<V: PlainBits, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    key: &[u8],
) -> Result<Option<(Handle, V)>, Retry> {
    look(nodes, key, |reached| leaf_and_value_of(nodes, reached, key))
}

/// Like [`find`], for several keys, except those that are `known`. While one lookup waits for
/// memory, the others proceed.
#[inline]
pub(crate) fn find_each<
    const N: usize,
    V: Send + Sync + 'static,
    B: ReusePolicy,
    L: ReusePolicy,
>(
    nodes: &Nodes<V, B, L>,
    keys: &[&[u8]; N],
    known: &[bool; N],
) -> [Result<Option<Handle>, Retry>; N] {
    look_each(nodes, keys, known, |reached, key| leaf_of(nodes, reached, key))
}

/// Like [`find_copied`], for several keys.
#[inline]
pub(crate) fn find_each_copied<const N: usize, V: PlainBits, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    keys: &[&[u8]; N],
    known: &[bool; N],
) -> [Result<Option<(Handle, V)>, Retry>; N] {
    look_each(nodes, keys, known, |reached, key| leaf_and_value_of(nodes, reached, key))
}

#[inline(always)]
fn leaf_and_value_of<V: PlainBits, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    reached: LeafAt<'_>,
    key: &[u8],
) -> Result<Option<(Handle, V)>, Retry> {
    Ok(reached.value_of(nodes, key)?.map(|value| (reached.leaf, value)))
}

#[inline(always)]
fn leaf_of<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    reached: LeafAt<'_>,
    key: &[u8],
) -> Result<Option<Handle>, Retry> {
    Ok(reached.is_for(nodes, key)?.then_some(reached.leaf))
}

/// Goes down to the leaf that may belong to `key`, and calls `arrive` with it.
#[inline(always)]
fn look<'t, R, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &'t Nodes<V, B, L>,
    key: &[u8],
    arrive: impl FnOnce(LeafAt<'t>) -> Result<Option<R>, Retry>,
) -> Result<Option<R>, Retry> {
    let mut lookup = Lookup::begin(nodes, key);
    loop {
        if let Break(reached) = lookup.step(nodes, key)? {
            return match reached {
                Some(reached) if !lookup.twig.is_of_another(key) => arrive(reached),
                _ => Ok(None),
            };
        }
    }
}

#[inline(always)]
fn look_each<
    't,
    const N: usize,
    R: Copy,
    V: Send + Sync + 'static,
    B: ReusePolicy,
    L: ReusePolicy,
>(
    nodes: &'t Nodes<V, B, L>,
    keys: &[&[u8]; N],
    known: &[bool; N],
    arrive: impl Fn(LeafAt<'t>, &[u8]) -> Result<Option<R>, Retry>,
) -> [Result<Option<R>, Retry>; N] {
    // A leaf whose tag is another key's is not even prefetched. (One directly below a root is.)
    let mut lookups: [_; N] = std::array::from_fn(|number| {
        let lookup = Lookup::begin(nodes, keys[number]);
        if !known[number] {
            nodes.prefetch_both_lines(lookup.twig.node());
        }
        lookup
    });
    let mut found = [Err(Retry); N];
    // The numbers of the lookups that have not reached a leaf.
    let (mut under_way, mut count) = ([0; N], 0);
    for number in (0..N).filter(|&number| !known[number]) {
        under_way[count] = number;
        count += 1;
    }
    while count > 0 {
        let mut at = 0;
        while at < count {
            let number = under_way[at];
            found[number] = match lookups[number].step(nodes, keys[number]) {
                Ok(Continue(())) if lookups[number].twig.is_of_another(keys[number]) => Ok(None),
                Ok(Continue(())) => {
                    nodes.prefetch_both_lines(lookups[number].twig.node());
                    at += 1;
                    continue;
                }
                Ok(Break(reached)) => {
                    reached.map_or(Ok(None), |reached| arrive(reached, keys[number]))
                }
                Err(Retry) => Err(Retry),
            };
            count -= 1;
            under_way[at] = under_way[count];
        }
    }
    found
}
