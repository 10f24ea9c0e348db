//! One value that many threads read and few replace.
//!
//! - MEM-RC1: `current` of a cell points to an object of the cell's cache that holds a value, and
//!   is never null.
//! - MEM-RC2: a thread that takes a pointer out of `current` frees that object, once, as the policy
//!   of the cache says: the object is unlinked by then.
//! - MEM-RC3: an object that was in `current` at any moment of a section of the cache's domain, of
//!   a flavour that the policy protects, keeps its value until the section ends, even if the cell
//!   and the cache are dropped meanwhile: a drop leaves to the domain what a reader may look at.

use super::boxes::SlabBox;
use super::cache::Cache;
use super::error::{AllocError, ExchangeError, NewCellError};
use crate::policy::{AfterRcuGp, ProtectsIdentity, ProtectsSleepers};
use crate::rcu::{Domain, Guard, OwnedTraceGuard, TraceGuard};
use crate::sync::{AtomicPtr, Ordering};
use std::fmt;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// One value that many threads read and few replace: a configuration, a routing table, a root.
///
/// Readers load a reference inside a read section, without locks and without a counter that they
/// share: a load costs one Acquire load and a check of the guard. Writers replace the value as a
/// whole; the old one is dropped after the grace period of the policy, by whichever thread
/// notices.
///
/// ```
/// use memalloc::RcuCell;
///
/// struct Config {
///     retries: u32,
/// }
///
/// let config = RcuCell::new(Config { retries: 3 })?;
/// let guard = config.domain().pin();
/// let seen = config.load(&guard);
/// config.store(Config { retries: 5 })?;
/// assert_eq!(seen.retries, 3, "it stays until the guard is dropped");
/// assert_eq!(config.load(&guard).retries, 5);
/// # drop(guard);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Guards
///
/// A guard protects the cell's readers only if it is of the [domain](Self::domain) of the cell's
/// cache. Every method that takes one panics where it is of another domain, in release builds too.
/// References live as long as the guard, not as long as the cell: the cell may be dropped first.
///
/// # Memory
///
/// [`new`](Self::new) builds a [`Cache`] for this cell alone. Cells of one type share a cache with
/// [`new_in`](Self::new_in), which also takes one on a domain, or with a policy, of your own:
///
/// ```
/// use memalloc::rcu::Domain;
/// use memalloc::{Cache, RcuCell};
/// use std::sync::Arc;
///
/// let cache = Arc::new(Cache::<String>::builder().domain(Domain::new()).build()?);
/// let name = RcuCell::new_in("trie".to_owned(), cache.clone())?;
/// let path = RcuCell::new_in("/usr".to_owned(), cache.clone())?;
/// let guard = cache.domain().pin(); // For both.
/// assert_eq!((&**name.load(&guard), &**path.load(&guard)), ("trie", "/usr"));
/// # drop(guard);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Ordering
///
/// A load sees everything that happened before the store of the value that it finds. The value is
/// dropped after everything that its readers did with it in their sections.
///
/// # Policies
///
/// A policy under which a reader can't keep a reference does not compile:
///
/// ```compile_fail,E0277
/// use memalloc::{Immediate, RcuCell};
///
/// fn load(cell: &RcuCell<u64, Immediate>) {}
/// ```
#[doc(alias = "rcu_dereference")]
#[doc(alias = "rcu_assign_pointer")]
pub struct RcuCell<T: Send + Sync + 'static, P: ProtectsIdentity = AfterRcuGp> {
    current: AtomicPtr<T>,
    cache: Arc<Cache<T, P>>,
}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> fmt::Debug for RcuCell<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RcuCell").field("policy", &P::KIND).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> RcuCell<T> {
    /// A cell that holds `value`, in a cache of its own on the global domain, under the default
    /// policy, [`AfterRcuGp`]. For other domains and policies see [`new_in`](Self::new_in).
    ///
    /// ```
    /// use memalloc::RcuCell;
    ///
    /// let servers = RcuCell::new(vec!["10.0.0.1"])?;
    /// let guard = servers.domain().pin();
    /// assert_eq!(servers.load(&guard).len(), 1);
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`NewCellError`] if the cache can't be built or has no memory; it gives the value back.
    pub fn new(value: T) -> Result<Self, NewCellError<T>> {
        match Cache::new() {
            Ok(cache) => Ok(Self::new_in(value, Arc::new(cache))?),
            Err(error) => Err(NewCellError::Build { error, value }),
        }
    }
}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> RcuCell<T, P> {
    /// A cell that holds `value`, whose values are objects of `cache`.
    ///
    /// # Errors
    ///
    /// As [`Cache::alloc`]; the error gives the value back.
    pub fn new_in(value: T, cache: Arc<Cache<T, P>>) -> Result<Self, AllocError<T>> {
        let first = cache.alloc(value)?.into_raw();
        Ok(Self { current: AtomicPtr::new(first.as_ptr()), cache })
    }

    /// The current value (`rcu_dereference`). The reference lasts as long as the guard, whatever
    /// happens to the cell meanwhile.
    ///
    /// ```
    /// use memalloc::RcuCell;
    ///
    /// let word = RcuCell::new("trie".to_owned())?;
    /// let domain = word.domain().clone();
    /// let guard = domain.pin();
    /// let seen: &str = word.load(&guard);
    /// drop(word);
    /// assert_eq!(seen, "trie");
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// When `guard` is of another domain than the [cell's](Self::domain).
    #[doc(alias = "rcu_dereference")]
    #[must_use]
    #[inline]
    pub fn load<'g>(&self, guard: &'g Guard<'_>) -> &'g T {
        self.check(guard);
        let current = self.current();
        self.cache.note_read(current);
        // SAFETY: MEM-RC1, and MEM-RC3: it was current inside the section that `'g` borrows.
        unsafe { current.as_ref() }
    }

    /// The current value, for a section that may sleep, under a policy that protects those.
    ///
    /// ```
    /// use memalloc::{AfterTasksTraceGp, Cache, RcuCell};
    /// use std::sync::Arc;
    ///
    /// let cache = Cache::<String, AfterTasksTraceGp>::with_policy()?;
    /// let word = RcuCell::new_in("trie".to_owned(), Arc::new(cache))?;
    /// let guard = word.domain().pin_trace();
    /// assert_eq!(word.load_trace(&guard), "trie");
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Under any other policy it does not compile:
    ///
    /// ```compile_fail,E0277
    /// use memalloc::RcuCell;
    ///
    /// let word = RcuCell::new("trie".to_owned()).unwrap();
    /// let guard = word.domain().pin_trace();
    /// word.load_trace(&guard);
    /// ```
    ///
    /// # Panics
    ///
    /// When `guard` is of another domain than the [cell's](Self::domain).
    #[doc(alias = "rcu_dereference")]
    #[must_use]
    #[inline]
    pub fn load_trace<'g>(&self, guard: &'g TraceGuard<'_>) -> &'g T
    where
        P: ProtectsSleepers,
    {
        assert!(guard.is_of(self.domain()), "the guard is not of the domain of this cell");
        let current = self.current();
        self.cache.note_read(current);
        // SAFETY: as in `load`.
        unsafe { current.as_ref() }
    }

    /// The current value with a section of its own that may sleep: `Send` and `'static`, for tasks
    /// that keep it across `.await`, under a policy that protects those.
    ///
    /// Costs what [`Domain::pin_trace_owned`] does. Values that were replaced meanwhile wait until
    /// it is dropped.
    ///
    /// ```
    /// use memalloc::{AfterTasksTraceGp, Cache, RcuCell};
    /// use std::sync::Arc;
    ///
    /// let cache = Cache::<String, AfterTasksTraceGp>::with_policy()?;
    /// let word = RcuCell::new_in("old".to_owned(), Arc::new(cache))?;
    /// let seen = word.load_owned();
    /// word.store("new".to_owned())?;
    /// drop(word);
    /// let elsewhere = std::thread::spawn(move || assert_eq!(*seen, "old"));
    /// # elsewhere.join().expect("it does not panic");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load_owned(&self) -> OwnedRef<T>
    where
        P: ProtectsSleepers,
    {
        let section = self.domain().pin_trace_owned();
        let value = self.current();
        self.cache.note_read(value);
        OwnedRef { value, _section: section }
    }

    /// Replaces the value (`rcu_assign_pointer`). The old one is dropped after the grace period of
    /// the policy.
    ///
    /// If more is pending than [`max_pending`](crate::Builder::max_pending) allows, it waits for
    /// readers, as [`Cache::free_raw`] does.
    ///
    /// ```
    /// use memalloc::RcuCell;
    ///
    /// let word = RcuCell::new("old".to_owned())?;
    /// word.store("new".to_owned())?;
    /// let guard = word.domain().pin();
    /// assert_eq!(word.load(&guard), "new");
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Cache::alloc`]; the error gives `value` back, and the cell keeps what it holds.
    #[doc(alias = "rcu_assign_pointer")]
    pub fn store(&self, value: T) -> Result<(), AllocError<T>> {
        let old = self.replace(value)?;
        // SAFETY: MEM-RC2.
        unsafe { self.cache.free_raw(old) };
        Ok(())
    }

    /// Replaces the value and gives the old one, which lasts as long as the guard
    /// (`rcu_replace_pointer`).
    ///
    /// Waits, if it must, as [`store`](Self::store) does, but when the section has ended.
    ///
    /// ```
    /// use memalloc::RcuCell;
    ///
    /// let word = RcuCell::new("old".to_owned())?;
    /// let guard = word.domain().pin();
    /// assert_eq!(word.swap("new".to_owned(), &guard)?, "old");
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`store`](Self::store).
    ///
    /// # Panics
    ///
    /// When `guard` is of another domain than the [cell's](Self::domain).
    #[doc(alias = "rcu_replace_pointer")]
    pub fn swap<'g>(&self, value: T, guard: &'g Guard<'_>) -> Result<&'g T, AllocError<T>> {
        self.check(guard);
        let old = self.replace(value)?;
        self.cache.note_read(old);
        // SAFETY: MEM-RC2.
        unsafe { self.cache.free_raw(old) };
        // SAFETY: MEM-RC1, and MEM-RC3: it was current inside the section that `'g` borrows.
        Ok(unsafe { old.as_ref() })
    }

    /// Replaces the value if it is still the one that `current` refers to: the very object, not an
    /// equal one. Gives the new value, which lasts as long as the guard.
    ///
    /// There is no ABA: as long as `current` can be named, its object is not used again.
    ///
    /// ```
    /// use memalloc::RcuCell;
    ///
    /// let number = RcuCell::new(1)?;
    /// let guard = number.domain().pin();
    /// let (first, new) = (number.load(&guard), 2);
    /// assert_eq!(*number.compare_exchange(first, new, &guard)?, 2);
    /// let error = number.compare_exchange(first, 3, &guard).unwrap_err();
    /// assert_eq!(error.into_value(), 3);
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ExchangeError::Changed`] if the cell holds another value, [`ExchangeError::Alloc`] as for
    /// [`store`](Self::store). Both give `new` back.
    ///
    /// # Panics
    ///
    /// When `guard` is of another domain than the [cell's](Self::domain).
    #[doc(alias = "rcu_replace_pointer")]
    pub fn compare_exchange<'g>(
        &self,
        current: &T,
        new: T,
        guard: &'g Guard<'_>,
    ) -> Result<&'g T, ExchangeError<T>> {
        self.check(guard);
        let expected = ptr::from_ref(current).cast_mut();
        let new = self.cache.alloc(new)?.into_raw();
        // ORDERING: Release as in `replace`. No Acquire: the load that gave `current` had it. Falls
        // to `loom` `an_update_beside_another_is_not_lost`.
        let (success, failure) = (Ordering::Release, Ordering::Relaxed);
        match self.current.compare_exchange(expected, new.as_ptr(), success, failure) {
            Ok(old) => {
                // SAFETY: MEM-RC1: never null. MEM-RC2.
                unsafe { self.cache.free_raw(NonNull::new_unchecked(old)) };
                // SAFETY: MEM-RC3: it became current inside the section that `'g` borrows.
                Ok(unsafe { new.as_ref() })
            }
            Err(_) => {
                // SAFETY: the exchange failed, so the new object was never published (MEM-O1).
                let new = unsafe { SlabBox::from_raw(new, &self.cache) };
                Err(ExchangeError::Changed(new.into_inner()))
            }
        }
    }

    /// Replaces the value by what `change` makes of it (read, copy, update). Begins again with the
    /// value of another thread that replaced it meanwhile, so `change` may run more than once.
    ///
    /// Lock-free: it begins again only because another replacement succeeded.
    ///
    /// ```
    /// use memalloc::RcuCell;
    ///
    /// let words = RcuCell::new(vec!["qp"])?;
    /// words.update(|words| words.iter().copied().chain(["trie"]).collect())?;
    /// let guard = words.domain().pin();
    /// assert_eq!(*words.load(&guard), ["qp", "trie"]);
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`store`](Self::store); the error gives the value that `change` made.
    pub fn update(&self, mut change: impl FnMut(&T) -> T) -> Result<(), AllocError<T>> {
        let guard = self.domain().pin();
        loop {
            let current = self.load(&guard);
            match self.compare_exchange(current, change(current), &guard) {
                Ok(_) => return Ok(()),
                Err(ExchangeError::Changed(_)) => {}
                Err(ExchangeError::Alloc(error)) => return Err(error),
            }
        }
    }

    /// The domain whose guards this cell takes.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        self.cache.domain()
    }

    /// The cache that the values are objects of.
    #[must_use]
    pub fn cache(&self) -> &Arc<Cache<T, P>> {
        &self.cache
    }

    #[inline]
    fn check(&self, guard: &Guard<'_>) {
        assert!(guard.is_of(self.domain()), "the guard is not of the domain of this cell");
    }

    #[inline]
    fn current(&self) -> NonNull<T> {
        // ORDERING: Acquire pairs with the Release of `replace` and `compare_exchange`: the value
        // was written before. Falls to `loom` `a_loaded_value_stays_beside_a_store`.
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: MEM-RC1.
        unsafe { NonNull::new_unchecked(current) }
    }

    /// Publishes a value and returns the object of the old one, which the caller frees (MEM-RC2).
    fn replace(&self, value: T) -> Result<NonNull<T>, AllocError<T>> {
        let new = self.cache.alloc(value)?.into_raw();
        // ORDERING: Release pairs with the Acquire of `current`; Acquire pairs with the Release of
        // the thread that stored the old value, which the caller may read. Falls to `loom`
        // `a_loaded_value_stays_beside_a_store` without Release, and to
        // `a_swap_gives_what_another_writer_has_just_stored` if either is missing.
        let old = self.current.swap(new.as_ptr(), Ordering::AcqRel);
        // SAFETY: MEM-RC1.
        Ok(unsafe { NonNull::new_unchecked(old) })
    }
}

impl<T: Send + Sync + 'static, P: ProtectsIdentity> Drop for RcuCell<T, P> {
    /// Does not wait: if readers may access the value, it is dropped after they have left.
    fn drop(&mut self) {
        // Relaxed: `&mut self` is after every use of the cell.
        let last = self.current.load(Ordering::Relaxed);
        // SAFETY: MEM-RC1, and MEM-RC2: no thread finds the cell any more.
        unsafe { self.cache.free_raw_unbounded(NonNull::new_unchecked(last)) };
    }
}

/// A value of an [`RcuCell`], and the read section that keeps it: what
/// [`load_owned`](RcuCell::load_owned) gives.
///
/// It may outlive the cell, its cache and every other clone of their domain.
#[must_use = "the read section ends when this is dropped"]
pub struct OwnedRef<T> {
    /// Current inside the section.
    value: NonNull<T>,
    _section: OwnedTraceGuard,
}

// SAFETY: it is a shared reference and a guard that may be dropped on any thread.
unsafe impl<T: Send + Sync> Send for OwnedRef<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for OwnedRef<T> {}

impl<T> Deref for OwnedRef<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: MEM-RC3: the section lasts as long as `self`.
        unsafe { self.value.as_ref() }
    }
}

impl<T: fmt::Debug> fmt::Debug for OwnedRef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedRef").field(&**self).finish()
    }
}

const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<RcuCell<u64>>();
    shared::<OwnedRef<u64>>();
};
