//! What a fork may not find half done, and what it leaves behind in the child.
//!
//! A child has one thread, that which forked. Its memory is that of one moment: of every other
//! thread it has all stores up to some point and none after it, so what is changed by single
//! stores and exchanges is whole there, as if those threads had stopped for good. What is not,
//! registers here, and is *held* (a lock is taken, so that nobody is in the middle of a change)
//! or *mended* (the child takes back what a vanished thread had). The parent only ever waits for
//! locks, and goes on.
//!
//! Locks are taken in this order: the registry, then those of what is registered, within which no
//! lock is waited for and nothing is registered. So a constructor of objects, which runs inside
//! one, neither forks nor builds an allocator or a domain. Nor does a signal handler fork by a
//! call that runs handlers like these.
//!
//! Nothing here is paid for by anybody but those who fork, register or end a registration. Knows
//! nothing of what it holds. Where there is no `pthread_atfork`, in models and under Miri, nobody
//! forks.
//!
//! - INV-F1: there is a [`Forking`] only on a thread that forks, between the handlers before and
//!   behind the fork, while the registry is held.
//! - INV-F2: what is registered stays where it is until its [`Registration`] is dropped, which
//!   waits for a fork under way.
#![cfg_attr(
    not(all(unix, not(any(loom, miri)))),
    allow(dead_code, reason = "nothing is called where nobody forks")
)]

use crate::broken::{self, Fault};
use crate::sync::{Lock, LockGuard};
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;

/// What has to be held or mended.
pub(crate) trait AtFork: Send + Sync {
    /// Before the fork: takes its locks.
    fn before(&self, _fork: &Forking) {}

    /// Behind the fork: lets go of them, and in the child mends first. There it neither allocates
    /// nor takes locks.
    fn after(&self, fork: &Forking);
}

/// Stands for a fork that the calling thread makes (INV-F1).
pub(crate) struct Forking {
    survivor: Option<Survivor>,
    _not_send: PhantomData<*mut ()>,
}

impl Forking {
    /// In the child, its only thread.
    pub(crate) fn survivor(&self) -> Option<Survivor> {
        self.survivor.filter(|_| !broken::leaves_out(Fault::ForkRepair))
    }
}

/// The thread of a child; see `sys::thread`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Survivor {
    /// The number that it had in the parent.
    pub(crate) was: u32,
    /// Its number from now on: the other may become that of another thread.
    pub(crate) is: u32,
}

/// A lock that can be held through a fork.
pub(crate) struct ForkLock<T: 'static> {
    /// Touched by who has a [`Forking`] only.
    held: UnsafeCell<Option<LockGuard<'static, T>>>,
    lock: Lock<T>,
}

// SAFETY: `held` is touched by the one thread that forks (INV-F1), the rest is a lock.
unsafe impl<T: Send> Sync for ForkLock<T> {}
// SAFETY: the guard is there between two handlers only, while the registry keeps `self` in its
// place (INV-F2).
unsafe impl<T: Send> Send for ForkLock<T> {}

impl<T: Default> Default for ForkLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for ForkLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.fmt(f)
    }
}

impl<T> ForkLock<T> {
    /// An open lock around `value`.
    #[cfg(not(loom))]
    pub(crate) const fn new(value: T) -> Self {
        Self { held: UnsafeCell::new(None), lock: Lock::new(value) }
    }

    /// An open lock around `value`.
    #[cfg(loom)]
    pub(crate) fn new(value: T) -> Self {
        Self { held: UnsafeCell::new(None), lock: Lock::new(value) }
    }

    /// See [`Lock::lock`].
    #[inline]
    #[cfg_attr(counted, track_caller)]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        self.lock.lock()
    }

    /// See [`Lock::try_lock`].
    #[inline]
    #[cfg_attr(counted, track_caller)]
    pub(crate) fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        self.lock.try_lock()
    }

    /// Takes the lock until [`release`](Self::release), and calls `then` with what it guards.
    pub(crate) fn hold(&self, _fork: &Forking, then: impl FnOnce(&mut T)) {
        let mut guard = self.lock.lock();
        then(&mut guard);
        // SAFETY: INV-F2: `self` stays until the guard is taken out again, so that its lifetime
        // may be any; INV-F1: this thread alone is here.
        unsafe {
            let guard = std::mem::transmute::<LockGuard<'_, T>, LockGuard<'static, T>>(guard);
            *self.held.get() = Some(guard);
        }
    }

    /// Gives it back, after `then`.
    pub(crate) fn release(&self, _fork: &Forking, then: impl FnOnce(&mut T)) {
        // SAFETY: INV-F1: this thread alone is here.
        if let Some(mut guard) = unsafe { (*self.held.get()).take() } {
            then(&mut guard);
        }
    }
}

impl<T: Send> AtFork for ForkLock<T> {
    fn before(&self, fork: &Forking) {
        self.hold(fork, |_| ());
    }

    fn after(&self, fork: &Forking) {
        self.release(fork, |_| ());
    }
}

#[cfg(all(unix, not(any(loom, miri))))]
mod imp {
    use super::{AtFork, ForkLock, Forking, PhantomData, Survivor};
    use crate::sync::{AtomicBool, AtomicU32, Ordering};
    use crate::sys::thread;
    use std::sync::Arc;

    /// A registered place.
    struct Place(*const dyn AtFork);

    // SAFETY: INV-F2, and what is registered can be shared.
    unsafe impl Send for Place {}

    impl Place {
        fn get(&self) -> &dyn AtFork {
            // SAFETY: INV-F2: a place in the registry is valid while the registry is locked.
            unsafe { &*self.0 }
        }
    }

    /// What is registered, each at a number that it keeps.
    struct Registry {
        places: Vec<Option<Place>>,
        /// The numbers of the places that are empty.
        empty: Vec<usize>,
    }

    impl Registry {
        fn iter(&self) -> impl Iterator<Item = &dyn AtFork> {
            self.places.iter().flatten().map(Place::get)
        }
    }

    static REGISTRY: ForkLock<Registry> =
        ForkLock::new(Registry { places: Vec::new(), empty: Vec::new() });

    /// Has the handlers called at every fork from now on. The later they are registered, the earlier
    /// they run before a fork, and locks that other handlers take come before those that allocators
    /// have: so this runs when the program, or the library that this is a part of, is loaded.
    extern "C" fn register_handlers() {
        static REGISTERED: AtomicBool = AtomicBool::new(false);
        if !REGISTERED.swap(true, Ordering::Relaxed) {
            // SAFETY: the handlers are functions of this program. If there is no memory for them,
            // a child has what the system gives it.
            unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
        }
    }

    /// Before the constructors of the program, which have no priority or one that is behind.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    #[used]
    // SAFETY: the section is a list of functions of this type.
    #[unsafe(link_section = ".init_array.00101")]
    static WHEN_LOADED: extern "C" fn() = register_handlers;

    static GENERATION: AtomicU32 = AtomicU32::new(0);

    /// How many forks lie between the process that began and this one.
    pub(crate) fn generation() -> u32 {
        GENERATION.load(Ordering::Relaxed)
    }

    extern "C" fn before() {
        let fork = Forking { survivor: None, _not_send: PhantomData };
        // A handler of a child must not allocate, which these may do when they are first asked.
        (_, _) = (std::thread::current(), thread::current());
        REGISTRY.hold(&fork, |registry| registry.iter().for_each(|it| it.before(&fork)));
    }

    extern "C" fn in_parent() {
        after(Forking { survivor: None, _not_send: PhantomData });
    }

    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::Relaxed);
        let was = thread::current();
        let survivor = Some(Survivor { was, is: thread::renumber() });
        after(Forking { survivor, _not_send: PhantomData });
    }

    fn after(fork: Forking) {
        REGISTRY.release(&fork, |registry| registry.iter().for_each(|it| it.after(&fork)));
    }

    /// Keeps a place in the registry, by its number.
    pub(crate) struct Registration(usize);

    impl Registration {
        /// # Safety
        ///
        /// What `place` has is there until the registration is dropped.
        pub(crate) unsafe fn new<T: AtFork + 'static>(place: &Arc<T>) -> Self {
            let place = Some(Place(Arc::as_ptr(place) as *const dyn AtFork));
            register_handlers();
            let mut registry = REGISTRY.lock();
            let number = registry.empty.pop().unwrap_or(registry.places.len());
            if number == registry.places.len() {
                registry.places.push(place);
            } else {
                registry.places[number] = place;
            }
            Self(number)
        }
    }

    impl Drop for Registration {
        fn drop(&mut self) {
            let mut registry = REGISTRY.lock();
            registry.places[self.0] = None;
            registry.empty.push(self.0);
        }
    }
}

#[cfg(not(all(unix, not(any(loom, miri)))))]
mod imp {
    use super::AtFork;
    use std::sync::Arc;

    /// Nobody forks.
    #[cfg(not(loom))]
    pub(crate) fn generation() -> u32 {
        0
    }

    /// Stands for nothing.
    pub(crate) struct Registration;

    impl Registration {
        /// # Safety
        ///
        /// None here.
        pub(crate) unsafe fn new<T: AtFork + 'static>(_place: &Arc<T>) -> Self {
            Self
        }
    }
}

pub(crate) use imp::Registration;
#[cfg(not(loom))]
pub(crate) use imp::generation;

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").finish_non_exhaustive()
    }
}
