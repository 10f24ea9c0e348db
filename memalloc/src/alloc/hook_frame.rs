//! Records whether the calling thread is running hooks of an allocator. Objects freed by a hook are
//! finished by the call that runs the hook, not inside the hook, so a chain of objects takes no
//! stack however long it is.
#![allow(clippy::missing_const_for_thread_local, reason = "loom's macro has no such form")]

use std::cell::Cell;
use std::ptr;

/// A call on this thread's stack that runs hooks.
struct Frame {
    /// Identifies the allocator.
    of: *const (),
    /// True if a hook has left objects to this call.
    has_more: Cell<bool>,
    below: *const Frame,
}

crate::sync::thread_local! {
    /// The innermost frame of the calling thread, or null if there is none. A frame is linked here
    /// while it is on the stack.
    static INNERMOST: Cell<*const Frame> = Cell::new(ptr::null());

    /// The number of times that the calling thread has begun to run hooks.
    static RUNS: Cell<u64> = Cell::new(0);
}

/// Returns how often the calling thread has begun to run hooks, of any allocator.
pub(super) fn runs() -> u64 {
    RUNS.with(Cell::get)
}

/// Restores the previous innermost frame, also if a hook panics.
struct Entered(*const Frame);

impl Drop for Entered {
    fn drop(&mut self) {
        INNERMOST.with(|innermost| innermost.set(self.0));
    }
}

/// Returns true if hooks of this allocator are running on this thread. The call that runs them then
/// looks for more objects after they return.
pub(super) fn leave_to_outer(of: *const ()) -> bool {
    INNERMOST.with(|innermost| {
        let mut next = innermost.get();
        // SAFETY: frames are on the stack of this thread while they are linked, the innermost
        // first.
        while let Some(frame) = unsafe { next.as_ref() } {
            if frame.of == of {
                frame.has_more.set(true);
                return true;
            }
            next = frame.below;
        }
        false
    })
}

/// Calls `work`, which runs hooks of this allocator, until these leave no more objects to it.
pub(super) fn run(of: *const (), mut work: impl FnMut()) {
    RUNS.with(|runs| runs.set(runs.get() + 1));
    let below = INNERMOST.with(Cell::get);
    let frame = Frame { of, has_more: Cell::new(true), below };
    INNERMOST.with(|innermost| innermost.set(&raw const frame));
    let _entered = Entered(below);
    while frame.has_more.replace(false) {
        work();
    }
}
