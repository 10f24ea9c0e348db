//! Prefetching ahead of a scan.
//!
//! The address of a node is known only after the branch above it was read. A scan that prefetched
//! the twigs of one branch at a time would wait for memory at each further branch. So when a scan
//! enters a branch with few nodes below it, it prefetches all of them, level by level (but not in
//! its first step): the memory accesses of one level overlap, and so do the translations of their
//! addresses. It then prefetches the nodes below the next branch, which arrive while the first ones
//! are visited.
//!
//! - QPT-S6: prefetching decides nothing. The position of the scan does not depend on it, and the
//!   scan validates each node when it reaches it. A handle is only followed if a confirmed branch
//!   named it, and only slots that a shape alone gives are read before the branch is confirmed
//!   (QPT-N7).

use super::branch_view::{LinkedBranch, follow};
use super::direction::Direction;
use crate::node::{Life, Node, Nodes};
use memalloc::{Handle, ReusePolicy};
use std::ops::Range;

/// The maximum number of branches below the one that a scan enters, to prefetch them.
const MOST_BRANCHES: usize = 64;

/// The maximum number of nodes below the branch that a scan enters, to prefetch them.
const MOST_NODES: usize = 256;

/// False where prefetching does nothing: on other processors, on which looking for what to prefetch
/// would be in vain, and in models, in which more loads are only more orders to explore.
const GOES_DEEPER: bool = cfg!(all(target_arch = "x86_64", not(loom)));

/// Prefetches the nodes below a branch that has these slots. Returns false if there are too many of
/// them, or if they change meanwhile: then some may be missing.
///
/// The branch was confirmed after the numbers of its slots were read, or its shape alone gives
/// them. The caller is inside a read section.
#[inline(never)]
pub(super) fn fetch_below<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    top: LinkedBranch,
    slots: Range<u16>,
) -> bool {
    let mut queue = [top.branch; MOST_BRANCHES];
    let (mut entered, mut found, mut total) = (0, 0, 0);
    let (mut at, mut slots) = (top, slots);
    loop {
        total += slots.len();
        if total > MOST_NODES {
            return false;
        }
        for slot in slots {
            let twig = follow::<B>(nodes.slot(at.branch, slot));
            nodes.prefetch(twig.node());
            if let Node::Branch(branch) = twig.node() {
                let Some(place) = queue.get_mut(found) else { return false };
                *place = branch;
                found += 1;
            }
        }
        // In another life these words may be no twigs.
        if at.confirm(nodes).is_err() {
            return false;
        }
        if entered == found {
            return true;
        }
        if !GOES_DEEPER {
            return false;
        }
        let branch = queue[entered];
        entered += 1;
        let Some(below) = unread(nodes, branch) else { return false };
        (at, slots) = below;
    }
}

/// Prefetches the nodes below the first branch that slots `left` of a branch name. Returns false if
/// there is none, or as `fetch_below`.
#[inline(never)]
pub(super) fn fetch_next<D, V, B, L>(
    nodes: &Nodes<V, B, L>,
    at: LinkedBranch,
    mut left: Range<u16>,
) -> bool
where
    D: Direction,
    V: Send + Sync + 'static,
    B: ReusePolicy,
    L: ReusePolicy,
{
    if !GOES_DEEPER {
        return false;
    }
    while let Some(slot) = D::take(&mut left) {
        if let Node::Branch(branch) = follow::<B>(nodes.slot(at.branch, slot)).node() {
            return at.confirm(nodes).is_ok()
                && unread(nodes, branch)
                    .is_some_and(|(branch, slots)| fetch_below(nodes, branch, slots));
        }
    }
    false
}

/// Returns a branch with its slots, if its shape alone gives them.
#[inline(always)]
fn unread<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    branch: Handle,
) -> Option<(LinkedBranch, Range<u16>)> {
    let life = if B::PROTECTS_IDENTITY { Some(Life::ONLY) } else { nodes.count(branch).life() };
    Some((LinkedBranch { branch, life: life? }, nodes.shape(branch).slots_of_list()?))
}
