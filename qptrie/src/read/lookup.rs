//! One key, from the root to its leaf; and several at once.

use super::footing::{Footing, follow};
use super::leaf::Reached;
use crate::node::{Node, Nodes, PlainBits, Retry, Twig, symbol_at};
use memalloc::sync::{AtomicU32, Ordering};
use memalloc::{Handle, ReusePolicy};
use std::ops::ControlFlow::{self, Break, Continue};

/// A lookup on its way.
struct Lookup<'t> {
    slot: &'t AtomicU32,
    /// What the slot held; confirmed, or a root's.
    twig: Twig,
    /// The branch that has the slot; none for a root.
    parent: Option<Footing>,
}

impl<'t> Lookup<'t> {
    #[inline(always)]
    fn begin<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        nodes: &'t Nodes<V, B, L>,
        key: &[u8],
    ) -> Self {
        let slot = nodes.roots.of(key).slot();
        // ORDERING: pairs with `Twig::publish`: a root has no count whose check would order it.
        // Falls to `loom` `a_lone_leaf_arrives_whole`.
        Self { slot, twig: Twig::load(slot, Ordering::Acquire), parent: None }
    }

    /// One branch further down, or the end: the only leaf that may be that of `key`.
    #[inline(always)]
    fn step<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &'t Nodes<V, B, L>,
        key: &[u8],
    ) -> Result<ControlFlow<Option<Reached<'t>>>, Retry> {
        let branch = match self.twig.node() {
            Node::Nothing => return Ok(Break(None)),
            Node::Leaf(leaf) => {
                return Ok(Break(Some(Reached { leaf, slot: self.slot, parent: self.parent })));
            }
            Node::Branch(branch) => branch,
        };
        let named = (self.slot, self.twig);
        let footing = Footing::enter::<false, V, B, L>(nodes, branch, named, self.parent)?;
        let shape = nodes.shape(branch);
        let way = nodes.way(branch, shape, symbol_at(key, shape.index()));
        // The header may be half another life's: that there is no way means nothing then, and a
        // way would lead anywhere.
        if way.is_some() || !nodes.faults.unvalidated_absence() {
            footing.confirm(nodes)?;
        }
        let Some(way) = way else {
            return Ok(Break(None));
        };
        self.slot = nodes.slot(branch, way);
        self.twig = follow::<B>(self.slot);
        if !nodes.faults.unvalidated_twig() {
            footing.confirm(nodes)?;
        }
        self.parent = Some(footing);
        Ok(Continue(()))
    }
}

/// The leaf of `key`, if there is one.
///
/// The caller is inside a read section.
#[inline]
pub(crate) fn find<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    key: &[u8],
) -> Result<Option<Handle>, Retry> {
    look(nodes, key, |reached| leaf_of(nodes, reached, key))
}

/// A copy of the value of `key`, if there is one, and its leaf.
///
/// The caller is inside a read section.
#[inline]
pub(crate) fn find_copied<V: PlainBits, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    key: &[u8],
) -> Result<Option<(Handle, V)>, Retry> {
    look(nodes, key, |reached| leaf_and_value_of(nodes, reached, key))
}

/// As [`find`], for several keys, but those that are `known`: while the memory that one of them needs next is
/// on its way, the others go on.
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

/// As [`find_copied`], for several keys.
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
    reached: Reached<'_>,
    key: &[u8],
) -> Result<Option<(Handle, V)>, Retry> {
    Ok(reached.value_of(nodes, key)?.map(|value| (reached.leaf, value)))
}

#[inline(always)]
fn leaf_of<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    reached: Reached<'_>,
    key: &[u8],
) -> Result<Option<Handle>, Retry> {
    Ok(reached.is_for(nodes, key)?.then_some(reached.leaf))
}

/// Goes down to the leaf that may be that of `key`, and looks at it.
#[inline(always)]
fn look<'t, R, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &'t Nodes<V, B, L>,
    key: &[u8],
    arrive: impl FnOnce(Reached<'t>) -> Result<Option<R>, Retry>,
) -> Result<Option<R>, Retry> {
    let mut lookup = Lookup::begin(nodes, key);
    loop {
        if let Break(reached) = lookup.step(nodes, key)? {
            return reached.map_or(Ok(None), arrive);
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
    arrive: impl Fn(Reached<'t>, &[u8]) -> Result<Option<R>, Retry>,
) -> [Result<Option<R>, Retry>; N] {
    let mut lookups: [_; N] = std::array::from_fn(|number| {
        let lookup = Lookup::begin(nodes, keys[number]);
        if !known[number] {
            nodes.prefetch_both_lines(lookup.twig);
        }
        lookup
    });
    let mut found = [Err(Retry); N];
    // The numbers of those that have not arrived.
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
                Ok(Continue(())) => {
                    nodes.prefetch_both_lines(lookups[number].twig);
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
