//! Keys in order, under the lock of their subtree.

use super::lookup::closest_leaf;
use crate::node::{Node, Nodes, Twig, bit_at, first_difference};
use memalloc::sync::{AtomicU32, Ordering};
use memalloc::{Handle, ReusePolicy};

/// Puts up to `limit` leaves below `root` into `leaves`, in ascending order of their keys,
/// beginning with the first that is greater than `after`.
///
/// The caller holds the lock of the subtree.
pub(crate) fn collect_after<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    root: &AtomicU32,
    after: Option<&[u8]>,
    limit: usize,
    leaves: &mut Vec<Handle>,
) {
    let mut walk = Walk { nodes, todo: Vec::new(), next: None };
    let root = Twig::load(root, Ordering::Relaxed);
    match after {
        None => walk.next = Some(root),
        Some(after) => walk.seek(root, after),
    }
    while leaves.len() < limit
        && let Some(leaf) = walk.next_leaf()
    {
        leaves.push(leaf);
    }
}

/// A walk over a subtree that nobody changes.
struct Walk<'t, V, B: ReusePolicy, L: ReusePolicy> {
    nodes: &'t Nodes<V, B, L>,
    /// Branches on the way, each with the number of the twig to visit next.
    todo: Vec<(Handle, usize)>,
    /// What to visit before those.
    next: Option<Twig>,
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Walk<'_, V, B, L> {
    /// Goes to the first leaf whose key is greater than `after`.
    fn seek(&mut self, root: Twig, after: &[u8]) {
        let Some(closest) = closest_leaf(self.nodes, root, after) else {
            return;
        };
        // SAFETY: the leaf is linked, and the lock's holder is the only one who could unlink it.
        let closest = unsafe { self.nodes.key(closest) };
        let difference = first_difference(after, closest);
        let mut twig = root;
        while let Node::Branch(branch) = twig.node() {
            let shape = self.nodes.shape(branch);
            let bit = bit_at(after, shape.index());
            if difference.is_some_and(|at| shape.index() > at) {
                break;
            }
            let position = shape.position(bit);
            if difference == Some(shape.index()) {
                self.todo.push((branch, position));
                return;
            }
            self.todo.push((branch, position + 1));
            twig = Twig::load(self.nodes.slot(branch, position), Ordering::Relaxed);
        }
        // Everything below `twig` agrees with `closest` up to the difference, and so lies on the
        // same side of `after`.
        if after < closest {
            self.next = Some(twig);
        }
    }

    fn next_leaf(&mut self) -> Option<Handle> {
        loop {
            let twig = match self.next.take() {
                Some(twig) => twig,
                None => self.next_twig()?,
            };
            match twig.node() {
                Node::Leaf(leaf) => return Some(leaf),
                Node::Branch(branch) => self.todo.push((branch, 0)),
                Node::Nothing => {}
            }
        }
    }

    fn next_twig(&mut self) -> Option<Twig> {
        loop {
            let (branch, position) = self.todo.last_mut()?;
            if *position < self.nodes.shape(*branch).len() {
                let slot = self.nodes.slot(*branch, *position);
                *position += 1;
                return Some(Twig::load(slot, Ordering::Relaxed));
            }
            self.todo.pop();
        }
    }
}
