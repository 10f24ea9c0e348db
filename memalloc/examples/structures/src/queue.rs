//! A Michael-Scott queue, first in, first out, whose nodes are reused after a grace period.
//!
//! The first node of the list has no value: the queue began with it, or its value was popped. `pop`
//! takes the value of the second node, which thereby becomes the first, and frees the first.
//!
//! `tail` names the last node, or an earlier one while a push is under way. It never falls behind
//! `head`: a pop that would pass it moves it on first. So a node is freed only when neither `head`
//! nor `tail` leads to it.

use crate::sync::{AtomicPtr, Ordering};
use memalloc::rcu::{Domain, Guard};
use memalloc::{AllocError, Cache};
use std::error::Error;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// A lock-free queue.
pub struct Queue<T: Send + Sync + 'static> {
    head: AtomicPtr<Node<T>>,
    tail: AtomicPtr<Node<T>>,
    nodes: Cache<Node<T>>,
    defers: bool,
}

struct Node<T> {
    /// Moved out by the thread that makes the node the first one.
    value: MaybeUninit<T>,
    next: AtomicPtr<Node<T>>,
}

impl<T: Send + Sync + 'static> Queue<T> {
    /// An empty queue, whose readers are those of `domain`.
    ///
    /// # Errors
    ///
    /// When `T` is too large for a cache, or there is no memory.
    pub fn new(domain: &Domain) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let nodes = Cache::<Node<T>>::builder().domain(domain.clone()).build()?;
        let place = nodes.alloc_uninit()?;
        let next = AtomicPtr::new(ptr::null_mut());
        let first = place.write(Node { value: MaybeUninit::uninit(), next }).into_raw().as_ptr();
        let [head, tail] = [first; 2].map(AtomicPtr::new);
        Ok(Self { head, tail, nodes, defers: true })
    }

    /// As [`new`](Self::new), with nodes that are freed at once: wrong, to show that a model finds
    /// it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    #[cfg(loom)]
    pub fn that_frees_at_once(domain: &Domain) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut queue = Self::new(domain)?;
        queue.defers = false;
        Ok(queue)
    }

    /// Adds `value` at the end.
    ///
    /// # Errors
    ///
    /// When there is no memory; the error has the value.
    pub fn push(&self, value: T) -> Result<(), AllocError<T>> {
        let place = match self.nodes.alloc_uninit() {
            Ok(place) => place,
            Err(error) => return Err(error.with_value(value)),
        };
        let (value, next) = (MaybeUninit::new(value), AtomicPtr::new(ptr::null_mut()));
        let new = place.write(Node { value, next }).into_raw().as_ptr();
        let guard = self.nodes.domain().pin();
        loop {
            let tail = self.tail.load(Ordering::Acquire);
            let next = &self.node(tail, &guard).next;
            // Release pairs with the Acquires of links: the node arrives whole.
            let (success, failure) = (Ordering::Release, Ordering::Acquire);
            match next.compare_exchange(ptr::null_mut(), new, success, failure) {
                Ok(_) => {
                    self.move_tail(tail, new);
                    return Ok(());
                }
                // Another push has not moved the tail yet.
                Err(beyond) => self.move_tail(tail, beyond),
            }
        }
    }

    /// Takes the value at the front.
    pub fn pop(&self) -> Option<T> {
        let guard = self.nodes.domain().pin();
        loop {
            // The tail after the head: the Acquire makes the tail at least as new as the one that
            // the pop which stored the head has seen.
            let head = self.head.load(Ordering::Acquire);
            let tail = self.tail.load(Ordering::Acquire);
            let next = self.node(head, &guard).next.load(Ordering::Acquire);
            let first = NonNull::new(next)?;
            if head == tail {
                self.move_tail(tail, next);
                continue;
            }
            let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
            if self.head.compare_exchange(head, next, release, relaxed).is_ok() {
                // SAFETY: the section keeps the node, and this thread alone made it the first one,
                // so it alone takes the value.
                let value = unsafe { self.nodes.read(first, &guard).value.assume_init_read() };
                // SAFETY: of this cache, never null, unlinked by the exchange, and freed once. (A
                // model that frees it at once breaks this on purpose.)
                unsafe {
                    let head = NonNull::new_unchecked(head);
                    match self.defers {
                        true => self.nodes.free_raw(head),
                        false => self.nodes.free_unshared(head),
                    }
                }
                return Some(value);
            }
        }
    }

    /// Moves the tail to the next node, unless another thread has moved it.
    fn move_tail(&self, from: *mut Node<T>, to: *mut Node<T>) {
        let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
        _ = self.tail.compare_exchange(from, to, release, relaxed);
    }

    /// The node that the head or the tail names.
    fn node<'g>(&'g self, place: *mut Node<T>, guard: &'g Guard<'_>) -> &'g Node<T> {
        // SAFETY: neither is ever null. The node was found inside the section, so it is freed after
        // that began.
        unsafe { self.nodes.read(NonNull::new_unchecked(place), guard) }
    }
}

impl<T: Send + Sync + 'static> Drop for Queue<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
        let first = NonNull::new(self.head.load(Ordering::Relaxed));
        // SAFETY: users borrow the queue, so there are none: the node is unshared. It has no value.
        unsafe { self.nodes.free_unshared(first.expect("there is always a first node")) };
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}
