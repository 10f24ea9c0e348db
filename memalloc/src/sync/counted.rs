//! The façade of the counting build: std's atomics, cells and locks, with the memory layout of
//! std's, which report every access to a simulated machine before they make it.

use super::machine::{self, AccessKind};
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::atomic as real;
use std::sync::{LockResult, TryLockError, TryLockResult};

#[cfg(shuttle)]
pub use super::task_local::TaskKey;
#[cfg(shuttle)]
pub use crate::task_local as thread_local;
#[cfg(shuttle)]
#[doc(hidden)]
pub use shuttle::thread_local as shuttle_local;
pub use std::sync::atomic::{Ordering, compiler_fence};
#[cfg(not(shuttle))]
pub use std::thread_local;

/// std's threads or shuttle's, except for the function that waits.
pub mod thread {
    #[cfg(shuttle)]
    pub use shuttle::thread::*;
    #[cfg(not(shuttle))]
    pub use std::thread::*;

    /// Lets another thread of the machine run.
    pub fn yield_now() {
        super::pause();
    }
}

/// As [`std::sync::atomic::fence`].
pub fn fence(order: Ordering) {
    if order == Ordering::SeqCst
        && let Some(machine) = machine::installed()
    {
        machine.preempt();
        machine.fence();
    }
    real::fence(order);
}

/// Tells the processor, or the machine, that this thread waits for another.
pub fn pause() {
    match machine::installed() {
        Some(machine) => machine.pause(),
        None => std::hint::spin_loop(),
    }
}

/// Tells a model to run the rest of this execution without exploring it.
pub fn explored() {}

/// The methods of every atomic type.
macro_rules! atomic {
    ($(#[$doc:meta])* $name:ident [$($generic:ident)?] of $value:ty) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name$(<$generic>)?(real::$name$(<$generic>)?);

        impl$(<$generic>)? $name$(<$generic>)? {
            /// Creates an atomic that holds `value`.
            pub const fn new(value: $value) -> Self {
                Self(real::$name::new(value))
            }

            #[track_caller]
            fn tell(&self, kind: AccessKind) {
                machine::access(&self.0, kind, Location::caller());
            }

            /// As std's.
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                self.tell(AccessKind::Load);
                self.0.load(order)
            }

            /// As std's.
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                // A SeqCst store takes an exchange on some processors, and a fence on others.
                let is_dear = order == Ordering::SeqCst;
                self.tell(if is_dear { AccessKind::ReadModifyWrite } else { AccessKind::Store });
                self.0.store(value, order);
            }

            /// As std's.
            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                self.tell(AccessKind::ReadModifyWrite);
                self.0.swap(value, order)
            }

            /// As std's.
            ///
            /// # Errors
            ///
            /// As std's.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.tell(AccessKind::ReadModifyWrite);
                self.0.compare_exchange(current, new, success, failure)
            }

            /// As std's, but never fails spuriously.
            ///
            /// # Errors
            ///
            /// As std's.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }

            /// As std's.
            ///
            /// # Errors
            ///
            /// As std's.
            #[track_caller]
            pub fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut before = self.load(fetch);
                while let Some(after) = change(before) {
                    match self.compare_exchange_weak(before, after, set, fetch) {
                        Err(seen) => before = seen,
                        done => return done,
                    }
                }
                Err(before)
            }

            /// As std's.
            pub fn get_mut(&mut self) -> &mut $value {
                self.0.get_mut()
            }

            /// As std's.
            pub fn into_inner(self) -> $value {
                self.0.into_inner()
            }
        }
    };
}

/// The read-modify-write methods of an atomic number or bool.
macro_rules! fetch {
    ($name:ident of $value:ty: $($fetch:ident),*) => {
        impl $name {
            $(
                /// As std's.
                #[track_caller]
                pub fn $fetch(&self, value: $value, order: Ordering) -> $value {
                    self.tell(AccessKind::ReadModifyWrite);
                    self.0.$fetch(value, order)
                }
            )*
        }
    };
}

atomic!(
    /// As [`std::sync::atomic::AtomicBool`].
    AtomicBool [] of bool
);
atomic!(
    /// As [`std::sync::atomic::AtomicU16`].
    AtomicU16 [] of u16
);
atomic!(
    /// As [`std::sync::atomic::AtomicU32`].
    AtomicU32 [] of u32
);
atomic!(
    /// As [`std::sync::atomic::AtomicU64`].
    AtomicU64 [] of u64
);
atomic!(
    /// As [`std::sync::atomic::AtomicUsize`].
    AtomicUsize [] of usize
);
atomic!(
    /// As [`std::sync::atomic::AtomicPtr`].
    AtomicPtr [T] of *mut T
);
fetch!(AtomicBool of bool: fetch_and, fetch_or, fetch_xor);
fetch!(AtomicU32 of u32: fetch_add, fetch_sub, fetch_and, fetch_or, fetch_xor, fetch_max, fetch_min);
fetch!(AtomicU64 of u64: fetch_add, fetch_sub, fetch_and, fetch_or, fetch_xor, fetch_max, fetch_min);
fetch!(AtomicUsize of usize: fetch_add, fetch_sub, fetch_and, fetch_or, fetch_max, fetch_min);

/// An `UnsafeCell` whose accesses are closures, so that they can be reported.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Calls `f` with a pointer for reading.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        machine::cell(self.0.get(), false, Location::caller());
        f(self.0.get())
    }

    /// Calls `f` with a pointer for writing.
    #[track_caller]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        machine::cell(self.0.get(), true, Location::caller());
        f(self.0.get())
    }
}

/// As std's, with the methods that the façade needs. Never poisoned.
#[derive(Debug, Default)]
pub(super) struct Mutex<T> {
    lock: std::sync::Mutex<()>,
    guarded: std::cell::UnsafeCell<T>,
}

// SAFETY: only the holder of the lock touches the guarded value.
unsafe impl<T: Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Mutex<T> {}

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    held: Option<std::sync::MutexGuard<'a, ()>>,
    place: &'static Location<'static>,
}

impl<T> Mutex<T> {
    pub(super) const fn new(value: T) -> Self {
        Self { lock: std::sync::Mutex::new(()), guarded: std::cell::UnsafeCell::new(value) }
    }

    #[track_caller]
    pub(super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        loop {
            match self.try_lock() {
                Err(TryLockError::WouldBlock) => match machine::installed() {
                    // The holder runs only while this thread does not.
                    Some(machine) => machine.pause(),
                    None => std::thread::yield_now(),
                },
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(_)) => unreachable!("never poisoned"),
            }
        }
    }

    #[track_caller]
    pub(super) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        let place = Location::caller();
        machine::access(&self.lock, AccessKind::ReadModifyWrite, place);
        let held = match self.lock.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(TryLockError::WouldBlock),
        };
        machine::cell(self.guarded.get(), true, place);
        Ok(MutexGuard { mutex: self, held: Some(held), place })
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held.
        unsafe { &*self.mutex.guarded.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, and `&mut self` is the only way in.
        unsafe { &mut *self.mutex.guarded.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        machine::access(&self.mutex.lock, AccessKind::ReadModifyWrite, self.place);
        self.held = None;
    }
}
