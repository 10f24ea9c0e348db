//! Several things that are all done, although one of them may panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The first panic among them. Knows nothing of what they are.
#[derive(Default)]
#[must_use = "the panic is to go on"]
pub(crate) struct FirstPanic(Option<Box<dyn Any + Send>>);

impl FirstPanic {
    /// Does one of them, and gives what that gives unless it panics. What it leaves behind then is its
    /// own matter.
    pub(crate) fn catch<R>(&mut self, work: impl FnOnce() -> R) -> Option<R> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|panic| self.0.get_or_insert(panic)).ok()
    }

    /// Lets the panic go on, if there was one, unless the thread is unwinding already: two at a time end
    /// the process.
    pub(crate) fn go_on(self) {
        if let Some(panic) = self.0
            && !std::thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}
