//! Runs several steps to the end, although some may panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The first panic of several steps.
#[derive(Default)]
#[must_use = "the panic has to be resumed"]
pub(crate) struct FirstPanic(Option<Box<dyn Any + Send>>);

impl FirstPanic {
    /// Runs one step. Returns its result, or `None` if it panicked. The state that a panicking step
    /// leaves behind is its own responsibility.
    pub(crate) fn catch<R>(&mut self, work: impl FnOnce() -> R) -> Option<R> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|panic| self.0.get_or_insert(panic)).ok()
    }

    /// Resumes the first panic, if there was one, unless the thread is unwinding already: a second
    /// panic would abort the process.
    pub(crate) fn go_on(self) {
        if let Some(panic) = self.0
            && !std::thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}
