//! Functions that run after a grace period.

use super::grace::Cookie;
use crate::sync::Lock;
use std::collections::VecDeque;
use std::fmt;

type Callback = Box<dyn FnOnce() + Send>;

/// Callbacks in the order in which they were queued, each with the cookie that it waits for.
#[derive(Default)]
pub(super) struct Callbacks {
    queue: Lock<VecDeque<(Cookie, Callback)>>,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").finish_non_exhaustive()
    }
}

impl Callbacks {
    pub(super) fn push(&self, cookie: Cookie, callback: Callback) {
        self.queue.lock().push_back((cookie, callback));
    }

    /// The cookie of the callback that was queued last.
    pub(super) fn newest(&self) -> Option<Cookie> {
        self.queue.lock().back().map(|(cookie, _)| *cookie)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.lock().len()
    }

    /// Runs what `completed` allows, outside of the lock, and says how many that were.
    pub(super) fn run(&self, completed: Cookie) -> usize {
        let mut ran = 0;
        while let Some(callback) = self.take(completed) {
            callback();
            ran += 1;
        }
        ran
    }

    fn take(&self, completed: Cookie) -> Option<Callback> {
        let mut queue = self.queue.lock();
        if queue.front()?.0 > completed {
            return None;
        }
        queue.pop_front().map(|(_, callback)| callback)
    }
}
