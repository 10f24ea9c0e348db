//! Functions that run after a grace period.

use crate::first_panic::FirstPanic;
use crate::sync::Ordering::Relaxed;
use crate::sync::{Tally, thread};
use crate::sys::fork::{ForkLock, Forking};
use std::collections::VecDeque;
use std::fmt;
use std::ptr::NonNull;

/// What is to run.
pub(super) enum Callback {
    Function(Box<dyn FnOnce() + Send>),
    Object(NonNull<u8>, unsafe fn(NonNull<u8>)),
}

// SAFETY: who retires an object promises that it can be freed on any thread.
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
            // SAFETY: the promise of `object`.
            Self::Object(object, free) => unsafe { free(object) },
        }
    }
}

/// Grace periods are moved along once for this many callbacks.
const CALLBACKS_PER_LOOK: u64 = if cfg!(loom) { u64::MAX } else { 64 };

#[derive(Default)]
struct Queue {
    /// In the order in which they were queued, each with the cookie that it waits for: none is
    /// smaller than the one before it, for cookies are taken under the lock.
    waiting: VecDeque<(u64, Callback)>,
    /// How many were ever queued; callbacks are numbered from 0.
    queued: u64,
    /// Callbacks that have begun to run and not ended, each with its number and its thread.
    running: Vec<(u64, thread::ThreadId)>,
}

impl Queue {
    fn oldest_waiting(&self) -> u64 {
        self.queued - self.waiting.len() as u64
    }
}

/// The callbacks of one flavour.
#[derive(Default)]
pub(super) struct Callbacks {
    queue: ForkLock<Queue>,
    /// How many wait. Changed under the lock; looked at without.
    waiting: Tally,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").finish_non_exhaustive()
    }
}

impl Callbacks {
    /// Keeps the queue still while the process forks.
    pub(super) fn before_fork(&self, fork: &Forking) {
        self.queue.hold(fork, |_| ());
    }

    /// Lets it go on. What a vanished thread was running is not waited for in the child.
    pub(super) fn after_fork(&self, fork: &Forking) {
        self.queue.release(fork, |queue| {
            if fork.survivor().is_some() && !queue.running.is_empty() {
                let me = thread::current().id();
                queue.running.retain(|(_, thread)| *thread == me);
            }
        });
    }

    /// Queues a callback that waits for what `take_cookie` gives, and says whether it is time to
    /// look for those that are due.
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

    /// How many wait, about.
    pub(super) fn about_len(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// How many were ever queued.
    pub(super) fn queued(&self) -> u64 {
        self.queue.lock().queued
    }

    /// Whether one of the first `queued` callbacks is being run by another thread, or waits still.
    pub(super) fn runs_elsewhere(&self, queued: u64) -> bool {
        let (queue, me) = (self.queue.lock(), thread::current().id());
        queue.oldest_waiting() < queued
            || queue.running.iter().any(|(number, thread)| *number < queued && *thread != me)
    }

    /// Runs what `completed` allows, asked again for each, outside of the lock, and says how many that were. A callback that
    /// panics keeps no other from being run. Called by a callback it runs none: the loop that runs that
    /// one goes on with the others, so that they do not pile up on the stack.
    pub(super) fn run(&self, completed: impl Fn() -> u64) -> usize {
        self.run_unless(completed, true)
    }

    /// The same, also where a callback calls it.
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

/// Stands for a callback that is being run.
struct Running<'a> {
    callbacks: &'a Callbacks,
    number: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.callbacks.queue.lock().running.retain(|(number, _)| *number != self.number);
    }
}
