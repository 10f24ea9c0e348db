//! Whether the calling thread is running hooks of an allocator: what a hook frees is not finished inside
//! it, but by the call that runs it, so that however long a chain of objects is, it takes no stack.
#![allow(clippy::missing_const_for_thread_local, reason = "loom's macro has no such form")]

use std::cell::Cell;
use std::ptr;

/// A call on this thread's stack that runs hooks.
struct Frame {
    /// Names the allocator.
    of: *const (),
    /// Whether a hook has left something to this call.
    has_more: Cell<bool>,
    below: *const Frame,
}

crate::sync::thread_local! {
    /// The innermost of the calling thread; null where there is none. A frame is here while it is on the
    /// stack.
    static INNERMOST: Cell<*const Frame> = Cell::new(ptr::null());

    /// How often the calling thread has begun to run hooks.
    static RUNS: Cell<u64> = Cell::new(0);
}

/// How often the calling thread has begun to run hooks, of any allocator.
pub(super) fn runs() -> u64 {
    RUNS.with(Cell::get)
}

/// Takes the innermost frame off again, also where something panics.
struct Entered(*const Frame);

impl Drop for Entered {
    fn drop(&mut self) {
        INNERMOST.with(|innermost| innermost.set(self.0));
    }
}

/// Whether hooks of this allocator are running here; if so, the call that runs them looks for more when
/// they are done.
pub(super) fn leave_to_outer(of: *const ()) -> bool {
    INNERMOST.with(|innermost| {
        let mut next = innermost.get();
        // SAFETY: frames are on the stack of this thread while they are linked, the innermost first.
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

/// Calls `work`, which runs hooks of this allocator, as long as these leave something to it.
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
