//! Fork handlers: they bring shared state to rest before a fork, and repair it in the child.
//!
//! A child has one thread, the one that forked. Its memory is a snapshot: of every other thread it
//! has all stores up to some point and none after it. State that is changed by single stores and
//! exchanges is therefore whole in the child, as if those threads had stopped. Other state
//! registers here, and is *held* (a lock is taken, so that no thread is in the middle of a change)
//! or *mended* (the child takes back what a vanished thread had). The parent only waits for locks,
//! and goes on.
//!
//! Lock order: the registry, then the locks of the registered values. Inside those, no lock is
//! waited for and nothing is registered. So a constructor of objects, which runs inside one, must
//! neither fork nor build an allocator or a domain, and a signal handler must not fork by a call
//! that runs fork handlers.
//!
//! Only threads that fork, register or end a registration pay for this. The module knows nothing of
//! the values that it holds. Without `pthread_atfork`, in models and under Miri, no thread forks.
//!
//! - MEM-F1: a [`Forking`] exists only on a thread that forks, between the handlers before and
//!   after the fork, while the registry is held.
//! - MEM-F2: a registered value stays where it is until its [`Registration`] is dropped, which
//!   waits for a fork under way.
#![cfg_attr(
    not(all(unix, not(any(loom, miri)))),
    allow(dead_code, reason = "unused where no thread forks")
)]

use crate::broken::{self, Fault};
use crate::sync::{Lock, LockGuard};
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;

/// State that has to be held or mended at a fork.
pub(crate) trait AtFork: Send + Sync {
    /// Called before the fork: takes the locks.
    fn before(&self, _fork: &Forking) {}

    /// Called after the fork: releases the locks. In the child it mends first, and must neither
    /// allocate nor take locks.
    fn after(&self, fork: &Forking);
}

/// A fork that the calling thread is making (MEM-F1).
pub(crate) struct Forking {
    survivor: Option<Survivor>,
    _not_send: PhantomData<*mut ()>,
}

impl Forking {
    /// Returns the only thread of the child, if called in the child.
    pub(crate) fn survivor(&self) -> Option<Survivor> {
        self.survivor.filter(|_| !broken::leaves_out(Fault::ForkRepair))
    }
}

/// The only thread of a child; see `sys::thread`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Survivor {
    /// The number of the thread in the parent.
    pub(crate) was: u32,
    /// The number from now on. The old number may become that of another thread.
    pub(crate) is: u32,
}

/// A lock that can be held through a fork.
pub(crate) struct ForkLock<T: 'static> {
    /// Touched only by a thread that has a [`Forking`].
    held: UnsafeCell<Option<LockGuard<'static, T>>>,
    lock: Lock<T>,
}

// SAFETY: only the one thread that forks touches `held` (MEM-F1); the rest is a lock.
unsafe impl<T: Send> Sync for ForkLock<T> {}
// SAFETY: the guard exists only between two handlers, while the registry keeps `self` in its place
// (MEM-F2).
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
    /// Creates an unlocked lock around `value`.
    #[cfg(not(loom))]
    pub(crate) const fn new(value: T) -> Self {
        Self { held: UnsafeCell::new(None), lock: Lock::new(value) }
    }

    /// Creates an unlocked lock around `value`.
    #[cfg(loom)]
    pub(crate) fn new(value: T) -> Self {
        Self { held: UnsafeCell::new(None), lock: Lock::new(value) }
    }

    /// Waits for the lock: [`Lock::lock`].
    #[inline]
    #[cfg_attr(counted, track_caller)]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        self.lock.lock()
    }

    /// Takes the lock if it is free: [`Lock::try_lock`].
    #[inline]
    #[cfg_attr(counted, track_caller)]
    pub(crate) fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        self.lock.try_lock()
    }

    /// Takes the lock until [`release`](Self::release), and calls `then` with the guarded value.
    pub(crate) fn hold(&self, _fork: &Forking, then: impl FnOnce(&mut T)) {
        let mut guard = self.lock.lock();
        then(&mut guard);
        // SAFETY: MEM-F2: `self` stays until the guard is taken out again, so the guard may have
        // any lifetime; MEM-F1: only this thread accesses `held`.
        unsafe {
            let guard = std::mem::transmute::<LockGuard<'_, T>, LockGuard<'static, T>>(guard);
            *self.held.get() = Some(guard);
        }
    }

    /// Calls `then` with the guarded value, and releases the lock.
    pub(crate) fn release(&self, _fork: &Forking, then: impl FnOnce(&mut T)) {
        // SAFETY: MEM-F1: only this thread accesses `held`.
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

    /// A registered value.
    struct Place(*const dyn AtFork);

    // SAFETY: MEM-F2, and registered values can be shared.
    unsafe impl Send for Place {}

    impl Place {
        fn get(&self) -> &dyn AtFork {
            // SAFETY: MEM-F2: a place in the registry is valid while the registry is locked.
            unsafe { &*self.0 }
        }
    }

    /// The registered values, each at an index that it keeps.
    struct Registry {
        places: Vec<Option<Place>>,
        /// The indices of the empty places.
        empty: Vec<usize>,
    }

    impl Registry {
        fn iter(&self) -> impl Iterator<Item = &dyn AtFork> {
            self.places.iter().flatten().map(Place::get)
        }
    }

    static REGISTRY: ForkLock<Registry> =
        ForkLock::new(Registry { places: Vec::new(), empty: Vec::new() });

    /// Registers the handlers, which run at every fork from then on. Handlers that were registered
    /// later run earlier before a fork, and locks that other handlers take come before those of
    /// allocators: so this runs when the program, or the library that contains this crate, is
    /// loaded.
    extern "C" fn register_handlers() {
        static REGISTERED: AtomicBool = AtomicBool::new(false);
        if !REGISTERED.swap(true, Ordering::Relaxed) {
            // SAFETY: the handlers are functions of this program. If there is no memory to register
            // them, a child gets no repairs.
            unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
        }
    }

    /// Runs before the constructors of the program, which have no priority or a later one.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    #[used]
    // SAFETY: the section is a list of functions of this type.
    #[unsafe(link_section = ".init_array.00101")]
    static WHEN_LOADED: extern "C" fn() = register_handlers;

    static GENERATION: AtomicU32 = AtomicU32::new(0);

    /// The number of forks between the first process and this one.
    pub(crate) fn generation() -> u32 {
        GENERATION.load(Ordering::Relaxed)
    }

    extern "C" fn before() {
        let fork = Forking { survivor: None, _not_send: PhantomData };
        // A handler in the child must not allocate, and the first call of each of these may.
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

    /// Keeps a value registered, by its index.
    pub(crate) struct Registration(usize);

    impl Registration {
        /// # Safety
        ///
        /// The value of `place` must live until the registration is dropped.
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

    /// Always 0: no thread forks.
    #[cfg(not(loom))]
    pub(crate) fn generation() -> u32 {
        0
    }

    /// A registration of nothing.
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
