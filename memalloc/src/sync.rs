//! For models: the atomics, fences, cells, locks and threads that a model explores.
//!
//! The façade is the only module that names them. (State that a model need not see, such as the
//! numbers of domains, uses std's: see `Tally`.)
//!
//! In an ordinary build these names are std's. Under `--cfg loom` they are the model checker's, so
//! that the code that ships is the code that is explored. Structures built on this crate (such as
//! `qptrie`) import them from here for the same reason. Under `--cfg counted` they are std's, and
//! report every access to a simulated machine: `cargo scaling` uses this to count the cache lines
//! that move between CPUs. With `--cfg shuttle` besides, the machine is shuttle, whose threads and
//! thread-local variables then are used: `cargo shuttle` runs whole programs under random
//! schedules.
//!
//! The module knows nothing of allocation. Loom has no const construction and no zeroed atomics:
//! all state belongs to an instance that a constructor built inside the model.

#[cfg(not(any(loom, counted)))]
mod imp {
    #[cfg(not(tsan))]
    #[doc(no_inline)]
    pub use std::sync::atomic::fence;
    #[doc(no_inline)]
    pub use std::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering,
        compiler_fence,
    };
    pub(super) use std::sync::{Mutex, MutexGuard};
    #[doc(no_inline)]
    pub use std::thread;
    #[doc(no_inline)]
    pub use std::thread_local;

    /// An `UnsafeCell` whose accesses are closures, so that loom can check them.
    #[derive(Debug, Default)]
    #[repr(transparent)]
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        /// Wraps `value`.
        pub const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        /// Calls `f` with a pointer for reading.
        #[inline(always)]
        pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        /// Calls `f` with a pointer for writing.
        #[inline(always)]
        pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }

    /// As std's, for ThreadSanitizer, which ignores fences: a read-modify-write of one word of the
    /// process. It orders each fence after all earlier ones, more than the language promises.
    #[cfg(tsan)]
    pub fn fence(order: Ordering) {
        static WORD: AtomicU32 = AtomicU32::new(0);
        WORD.fetch_add(0, order);
    }

    /// Tells the processor, or the model, that this thread waits for another.
    #[inline]
    pub fn pause() {
        std::hint::spin_loop();
    }

    /// Tells a model to run the rest of this execution without exploring it.
    #[inline(always)]
    pub fn explored() {}
}

#[cfg(loom)]
mod imp {
    pub use loom::cell::UnsafeCell;
    pub use loom::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(super) use loom::sync::{Mutex, MutexGuard};
    pub use loom::thread;
    pub use loom::thread_local;

    /// Tells the processor, or the model, that this thread waits for another.
    pub fn pause() {
        loom::thread::yield_now();
    }

    /// Tells a model to run the rest of this execution without exploring it.
    pub fn explored() {
        loom::skip_branch();
    }
}

#[cfg(counted)]
#[path = "sync/counted.rs"]
mod imp;

#[cfg(counted)]
pub mod machine;

#[cfg(shuttle)]
mod task_local;

pub use imp::*;

#[cfg(counted)]
pub(crate) use imp::AtomicU64 as Tally;
/// A number that orders nothing and that need not be exact at any moment: an amount, or the time of
/// the next look. A model need not see it.
#[cfg(not(counted))]
pub(crate) use std::sync::atomic::AtomicU64 as Tally;

/// A mutual exclusion lock that a panicking holder does not poison: the guarded value is consistent
/// between any two statements of this crate.
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    /// Creates an unlocked lock around `value`.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Creates an unlocked lock around `value`.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits for the lock. Must not be called in a signal handler.
    #[inline]
    #[cfg_attr(counted, track_caller)]
    pub fn lock(&self) -> LockGuard<'_, T> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes the lock if it is free, without waiting.
    #[inline]
    #[cfg_attr(counted, track_caller)]
    pub fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}

/// The guard of a [`Lock`], which unlocks the lock when it is dropped.
pub type LockGuard<'a, T> = MutexGuard<'a, T>;

/// Loads a word that no other thread is storing to (the view of its owner).
///
/// A Relaxed load. Under loom it is not a scheduling point, and a concurrent store is reported.
///
/// # Safety
///
/// No other thread may store to `word` at the same time.
#[must_use]
#[inline(always)]
#[cfg_attr(counted, track_caller)]
pub unsafe fn owner_load(word: &AtomicU32) -> u32 {
    #[cfg(loom)]
    // SAFETY: the caller's promise is loom's condition.
    return unsafe { word.unsync_load() };
    #[cfg(not(loom))]
    word.load(Ordering::Relaxed)
}

/// As [`owner_load`], for a word of 64 bits.
///
/// # Safety
///
/// As [`owner_load`].
#[must_use]
#[inline(always)]
#[cfg_attr(counted, track_caller)]
pub unsafe fn owner_load_u64(word: &AtomicU64) -> u64 {
    #[cfg(loom)]
    // SAFETY: the caller's promise is loom's condition.
    return unsafe { word.unsync_load() };
    #[cfg(not(loom))]
    word.load(Ordering::Relaxed)
}

/// As [`owner_load`], for a pointer.
///
/// # Safety
///
/// As [`owner_load`].
#[must_use]
#[inline(always)]
#[cfg_attr(counted, track_caller)]
pub unsafe fn owner_load_ptr<T>(word: &AtomicPtr<T>) -> *mut T {
    #[cfg(loom)]
    // SAFETY: the caller's promise is loom's condition.
    return unsafe { word.unsync_load() };
    #[cfg(not(loom))]
    word.load(Ordering::Relaxed)
}
