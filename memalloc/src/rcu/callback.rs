//! Functions that run after a grace period.

use crate::first_panic::FirstPanic;
use crate::sync::Ordering::Relaxed;
use crate::sync::{Tally, thread};
use crate::sys::fork::{ForkLock, Forking};
use std::collections::VecDeque;
use std::fmt;
use std::ptr::NonNull;

/// A function to call, or an object to free, after a grace period.
pub(super) enum Callback {
    Function(Box<dyn FnOnce() + Send>),
    Object(NonNull<u8>, unsafe fn(NonNull<u8>)),
}

// SAFETY: the caller of `object` promises that the object can be freed on any thread.
unsafe impl Send for Callback {}

impl Callback {
    pub(super) fn function(function: impl FnOnce() + Send + 'static) -> Self {
        Self::Function(Box::new(function))
    }

    /// # Safety
    ///
    /// When the callback runs, `free(object)` must be sound on any thread.
    pub(super) unsafe fn object(object: NonNull<u8>, free: unsafe fn(NonNull<u8>)) -> Self {
        Self::Object(object, free)
    }

    fn run(self) {
        match self {
            Self::Function(function) => function(),
            // SAFETY: the promise of the caller of `object`.
            Self::Object(object, free) => unsafe { free(object) },
        }
    }
}

/// Grace periods are driven once per this many queued callbacks.
const CALLBACKS_PER_LOOK: u64 = if cfg!(loom) { u64::MAX } else { 64 };

#[derive(Default)]
struct CallbackQueue {
    /// Pending callbacks in the order in which they were queued, each with its cookie. Cookies
    /// never decrease, because they are taken under the lock.
    waiting: VecDeque<(u64, Callback)>,
    /// The number of callbacks queued so far; callbacks are numbered from 0.
    queued: u64,
    /// Callbacks that are running, each with its number and its thread.
    running: Vec<(u64, thread::ThreadId)>,
}

impl CallbackQueue {
    fn oldest_waiting(&self) -> u64 {
        self.queued - self.waiting.len() as u64
    }
}

/// The callbacks of one flavour.
#[derive(Default)]
pub(super) struct Callbacks {
    queue: ForkLock<CallbackQueue>,
    /// The number of pending callbacks. Changed under the lock, read without it.
    waiting: Tally,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").finish_non_exhaustive()
    }
}

impl Callbacks {
    /// Locks the queue for a fork.
    pub(super) fn before_fork(&self, fork: &Forking) {
        self.queue.hold(fork, |_| ());
    }

    /// Unlocks the queue. The child does not wait for callbacks that vanished threads were running.
    pub(super) fn after_fork(&self, fork: &Forking) {
        self.queue.release(fork, |queue| {
            if fork.survivor().is_some() && !queue.running.is_empty() {
                let me = thread::current().id();
                queue.running.retain(|(_, thread)| *thread == me);
            }
        });
    }

    /// Queues a callback with the cookie of `take_cookie`. Returns whether it is time to run the
    /// callbacks that are due.
    pub(super) fn push(&self, take_cookie: impl FnOnce() -> u64, callback: Callback) -> bool {
        let mut queue = self.queue.lock();
        queue.waiting.push_back((take_cookie(), callback));
        queue.queued += 1;
        self.waiting.store(queue.waiting.len() as u64, Relaxed);
        queue.queued.is_multiple_of(CALLBACKS_PER_LOOK)
    }

    /// The cookie of the callback that was queued last.
    pub(super) fn newest(&self) -> Option<u64> {
        self.queue.lock().waiting.back().map(|(cookie, _)| *cookie)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.lock().waiting.len()
    }

    /// The approximate number of pending callbacks.
    pub(super) fn about_len(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// The number of callbacks queued so far.
    pub(super) fn queued(&self) -> u64 {
        self.queue.lock().queued
    }

    /// Returns whether one of the first `queued` callbacks is still pending or is running on
    /// another thread.
    pub(super) fn runs_elsewhere(&self, queued: u64) -> bool {
        let (queue, me) = (self.queue.lock(), thread::current().id());
        queue.oldest_waiting() < queued
            || queue.running.iter().any(|(number, thread)| *number < queued && *thread != me)
    }

    /// Runs the callbacks that are due, outside of the lock, and returns their number. `completed`
    /// is called again for each. A callback that panics does not keep the others from running.
    /// Called by a callback, this runs none: the loop that runs that callback goes on with the
    /// others, so that they do not pile up on the stack.
    pub(super) fn run(&self, completed: impl Fn() -> u64) -> usize {
        self.run_unless(completed, true)
    }

    /// As [`run`](Self::run), but also runs callbacks if a callback calls it.
    pub(super) fn run_nested(&self, completed: impl Fn() -> u64) -> usize {
        self.run_unless(completed, false)
    }

    fn run_unless(&self, completed: impl Fn() -> u64, unless_nested: bool) -> usize {
        let (mut ran, mut panics) = (0, FirstPanic::default());
        while let Some((callback, _running)) = self.take(completed(), unless_nested) {
            panics.catch(|| callback.run());
            ran += 1;
        }
        panics.go_on();
        ran
    }

    fn take(&self, completed: u64, unless_nested: bool) -> Option<(Callback, Running<'_>)> {
        let mut queue = self.queue.lock();
        if unless_nested && !queue.running.is_empty() {
            let me = thread::current().id();
            if queue.running.iter().any(|(_, thread)| *thread == me) {
                return None;
            }
        }
        let number = queue.oldest_waiting();
        let (_, callback) = queue.waiting.pop_front_if(|(cookie, _)| *cookie <= completed)?;
        queue.running.push((number, thread::current().id()));
        self.waiting.store(queue.waiting.len() as u64, Relaxed);
        Some((callback, Running { callbacks: self, number }))
    }
}

/// Keeps a callback listed as running, until it is dropped.
struct Running<'a> {
    callbacks: &'a Callbacks,
    number: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.callbacks.queue.lock().running.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// The list of those that run is searched for each: it has one for each thread that runs some.
    #[test]
    fn a_callback_costs_no_more_the_more_others_have_run_or_wait() {
        let callbacks = Arc::new(Callbacks::default());
        let (outer, most) = (Arc::clone(&callbacks), Arc::new(Tally::new(0)));
        for _ in 0..1_000 {
            let (inner, most) = (Arc::clone(&callbacks), Arc::clone(&most));
            let callback = move || {
                let running = inner.queue.lock().running.len() as u64;
                most.fetch_max(running, Relaxed);
                assert_eq!(inner.run(|| 1), 0, "the loop that runs this goes on");
            };
            callbacks.push(|| 1, Callback::function(callback));
        }
        assert_eq!(outer.run(|| 1), 1_000);
        assert_eq!((most.load(Relaxed), outer.queue.lock().running.len()), (1, 0));
    }
}
