//! A Treiber stack whose nodes are reused at once.
//!
//! Between the look at the head and the exchange in `pop`, another thread may pop the node, free
//! it, allocate it again and push it: the head names the same node, with another one below it. A
//! count beside the head, which every exchange changes, makes the exchange of the first thread
//! fail.

use crate::sync::{AtomicU32, AtomicU64, Ordering};
use memalloc::rcu::Domain;
use memalloc::{AllocError, BuildError, Cache, Handle, Immediate, TypeStable};
use std::fmt;

/// A lock-free stack of numbers, which needs no grace period.
pub struct CountedStack {
    /// The number of the first node's handle, 0 for none; above it the count.
    head: AtomicU64,
    nodes: Cache<Node, Immediate>,
    counts: bool,
}

#[derive(Default)]
struct Node {
    value: AtomicU64,
    /// The number of the next node's handle, 0 for none.
    next: AtomicU32,
}

// SAFETY: atomics only, of which every value is valid, and nothing to drop.
unsafe impl TypeStable for Node {}

impl CountedStack {
    /// An empty stack, whose readers are those of `domain`.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn new(domain: &Domain) -> Result<Self, BuildError> {
        let nodes = Cache::<Node, Immediate>::builder().domain(domain.clone()).build()?;
        Ok(Self { head: AtomicU64::new(0), nodes, counts: true })
    }

    /// As [`new`](Self::new), without the count: wrong, to show that a model finds it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    #[cfg(loom)]
    pub fn without_its_count(domain: &Domain) -> Result<Self, BuildError> {
        let mut stack = Self::new(domain)?;
        stack.counts = false;
        Ok(stack)
    }

    /// Puts `value` on top.
    ///
    /// # Errors
    ///
    /// When there is no memory.
    pub fn push(&self, value: u64) -> Result<(), AllocError> {
        let new = self.nodes.alloc_slot()?;
        let guard = self.nodes.domain().pin();
        // SAFETY: allocated from this cache, and not freed.
        let node = unsafe { self.nodes.slot(new, &guard) };
        node.value.store(value, Ordering::Relaxed);
        loop {
            let head = self.head.load(Ordering::Relaxed);
            node.next.store(head as u32, Ordering::Relaxed);
            if self.replace(head, new.get()) {
                return Ok(());
            }
        }
    }

    /// Takes the value on top.
    pub fn pop(&self) -> Option<u64> {
        let guard = self.nodes.domain().pin();
        loop {
            let head = self.head.load(Ordering::Acquire);
            let first = Handle::new(head as u32)?;
            // SAFETY: found inside the section. It may be another node by now, or a free one.
            let node = unsafe { self.nodes.slot(first, &guard) };
            let next = node.next.load(Ordering::Relaxed);
            if self.replace(head, next) {
                // The count was the same, so the node was the first all the time, and is ours now.
                let value = node.value.load(Ordering::Relaxed);
                // SAFETY: unlinked by the exchange, and freed once.
                unsafe { self.nodes.free_slot(first) };
                return Some(value);
            }
        }
    }

    /// Makes `first` the first node, if the head is still `head`.
    fn replace(&self, head: u64, first: u32) -> bool {
        let count = (head >> 32).wrapping_add(u64::from(self.counts)) << 32;
        // Release pairs with the Acquire in `pop`: the node arrives whole.
        let (new, release, relaxed) =
            (count | u64::from(first), Ordering::Release, Ordering::Relaxed);
        self.head.compare_exchange(head, new, release, relaxed).is_ok()
    }
}

impl Drop for CountedStack {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

impl fmt::Debug for CountedStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountedStack").finish_non_exhaustive()
    }
}
