//! The interface of the subjects: ways to protect a reader.

use std::sync::atomic::{AtomicPtr, Ordering};

use memalloc::rcu::{Domain, LocalReader, SynchronizeError};

use crate::measure::WrongAnswer;

/// A way to protect readers.
pub(super) trait Scheme: Sync {
    /// The state that a thread keeps between reads.
    type Local<'s>
    where
        Self: 's;

    /// Registers the calling thread.
    fn local(&self) -> Self::Local<'_>;

    /// Begins a protection, loads a pointer that may then be followed, and ends the protection.
    fn read<T>(&self, local: &mut Self::Local<'_>, place: &AtomicPtr<T>) -> *mut T;
}

/// A scheme whose writers wait for the end of read sections.
pub(super) trait GracePeriods: Scheme {
    /// Calls `inside` inside a read section.
    fn section<R>(&self, inside: impl FnOnce() -> R) -> R;

    /// Waits until every section that is open now has ended.
    fn synchronize(&self) -> Result<(), WrongAnswer>;
}

/// RCU of `memalloc`. A thread keeps a reader, as it keeps a handle of other libraries.
#[derive(Debug)]
pub(super) struct Rcu(pub(super) Domain);

impl Scheme for Rcu {
    type Local<'s> = LocalReader<'s>;

    fn local(&self) -> LocalReader<'_> {
        self.0.local()
    }

    #[inline]
    fn read<T>(&self, local: &mut LocalReader<'_>, place: &AtomicPtr<T>) -> *mut T {
        let _guard = local.pin();
        // ORDERING: Acquire, as for a reader that follows the pointer: pairs with the store that
        // publishes. No thread stores here, and no test fails without it.
        place.load(Ordering::Acquire)
    }
}

/// RCU tasks trace of `memalloc`, for readers that may sleep.
#[derive(Debug)]
pub(super) struct Trace(pub(super) Domain);

impl Scheme for Trace {
    type Local<'s> = ();

    fn local(&self) {}

    #[inline]
    fn read<T>(&self, (): &mut (), place: &AtomicPtr<T>) -> *mut T {
        let _guard = self.0.pin_trace();
        // ORDERING: as for `Rcu`.
        place.load(Ordering::Acquire)
    }
}

impl GracePeriods for Trace {
    #[inline]
    fn section<R>(&self, inside: impl FnOnce() -> R) -> R {
        let _guard = self.0.pin_trace();
        inside()
    }

    fn synchronize(&self) -> Result<(), WrongAnswer> {
        waited(self.0.trace().synchronize())
    }
}

impl GracePeriods for Rcu {
    #[inline]
    fn section<R>(&self, inside: impl FnOnce() -> R) -> R {
        let _guard = self.0.pin();
        inside()
    }

    fn synchronize(&self) -> Result<(), WrongAnswer> {
        waited(self.0.synchronize())
    }
}

fn waited(end: Result<(), SynchronizeError>) -> Result<(), WrongAnswer> {
    end.map_err(|error| WrongAnswer(format!("waiting for a grace period failed: {error}")))
}
