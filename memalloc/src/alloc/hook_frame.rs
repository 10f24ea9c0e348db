//! Records whether the calling thread is running hooks of an allocator. Objects freed by a hook are
//! finished after it, not inside, so a chain of objects takes no stack however long it is.
#![allow(clippy::missing_const_for_thread_local, reason = "loom's macro has no such form")]

use std::cell::Cell;
use std::ptr;

/// A call on this thread's stack that runs hooks.
struct Frame {
    /// Identifies the allocator.
    of: *const (),
    /// True if a hook has left objects that may be finished now.
    has_more: Cell<bool>,
    /// Bytes that hooks have added to what is pending, if that was more than may be.
    added: Cell<u64>,
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

/// Calls `then` with the frame of the call that runs hooks of this allocator on this thread.
/// Returns false if there is none.
fn in_frame(of: *const (), then: impl FnOnce(&Frame)) -> bool {
    INNERMOST.with(|innermost| {
        let mut next = innermost.get();
        // SAFETY: frames are on the stack of this thread while they are linked, the innermost
        // first.
        while let Some(frame) = unsafe { next.as_ref() } {
            if frame.of == of {
                then(frame);
                return true;
            }
            next = frame.below;
        }
        false
    })
}

/// Returns true if hooks of this allocator are running on this thread.
pub(super) fn is_inside(of: *const ()) -> bool {
    in_frame(of, |_| ())
}

/// Returns true if hooks of any allocator are running on this thread.
pub(super) fn is_inside_any() -> bool {
    INNERMOST.with(|innermost| !innermost.get().is_null())
}

/// Lets the call that runs hooks of this allocator, if there is one, look for objects again after
/// they return.
pub(super) fn leave_more(of: *const ()) {
    in_frame(of, |frame| frame.has_more.set(true));
}

/// Adds to the bytes that [`run`] returns.
pub(super) fn add(of: *const (), bytes: u64) {
    in_frame(of, |frame| frame.added.set(frame.added.get() + bytes));
}

/// Calls `work`, which runs hooks of this allocator, until these leave no more objects. Returns
/// the bytes that they have added.
pub(super) fn run(of: *const (), mut work: impl FnMut()) -> u64 {
    RUNS.with(|runs| runs.set(runs.get() + 1));
    let below = INNERMOST.with(Cell::get);
    let frame = Frame { of, has_more: Cell::new(true), added: Cell::new(0), below };
    INNERMOST.with(|innermost| innermost.set(&raw const frame));
    let _entered = Entered(below);
    while frame.has_more.replace(false) {
        work();
    }
    frame.added.get()
}
