//! RCU readers: a guard that is bound to its thread and costs two stores.
//!
//! The thread has one slot in the domain. The outermost section announces itself there; the
//! sections inside it are counted.

use super::debt::owed_by;
use super::domain::{Domain, Inner};
use super::flavour::FlavourKind;
use super::handover;
use super::slots::{ABANDONED, Announcement, MOST_NESTED, Slot};
use super::thread_slots;
use crate::recording::{Flavour, Section};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// An open read section. An object that was found inside it stays, as the policy of its allocator
/// promises, until the guard is dropped.
///
/// Sections nest and may end in any order. A guard stays on its thread and should not be held for
/// long: nothing that is freed meanwhile under a deferring policy can be reused. Use
/// [`Domain::pin_trace`] for a section that sleeps or moves to another thread.
#[must_use = "the read section ends when the guard is dropped"]
pub struct Guard<'d> {
    slot: NonNull<Slot>,
    /// For a recording: the duration of the guard that began the outermost section.
    section: Section,
    _domain: PhantomData<&'d Domain>,
    /// Slots are bound to their thread.
    _not_send: PhantomData<*mut ()>,
}

impl fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

impl<'d> Guard<'d> {
    #[inline]
    pub(super) fn enter(domain: &'d Domain) -> Self {
        let inner = domain.inner();
        match thread_slots::cached_rcu(inner) {
            Some(slot) => Self::enter_slot(domain, slot),
            None => Self::enter_slow(domain),
        }
    }

    #[inline(never)]
    fn enter_slow(domain: &'d Domain) -> Self {
        let inner = domain.inner();
        let slot = thread_slots::cached(FlavourKind::Rcu, inner).unwrap_or_else(|| {
            let (slot, own_slot) = thread_slots::find(FlavourKind::Rcu, inner);
            if own_slot {
                // The thread's storage is gone: the last guard of the slot gives it back.
                // SAFETY: MEM-R3: the slot lives as long as the domain that `'d` borrows.
                handover::leave_to_last_guard(unsafe { slot.as_ref() });
            }
            slot
        });
        Self::enter_slot(domain, slot)
    }

    #[inline(always)]
    fn enter_slot(domain: &'d Domain, slot: NonNull<Slot>) -> Self {
        // SAFETY: MEM-R3: the slot lives as long as the domain that `'d` borrows.
        let place = unsafe { slot.as_ref() };
        // SAFETY: MEM-R5: the slot is this thread's.
        let section = if unsafe { place.announced_here() } == 0 {
            domain.inner().rcu().announce(place);
            Section::begin()
        } else {
            nest(place);
            Section::inner()
        };
        Self { slot, section, _domain: PhantomData, _not_send: PhantomData }
    }

    /// Returns whether this guard marks a section of `domain`. For structures that work under a
    /// caller's guard and have to check that it is the right one.
    ///
    /// Costs one comparison if the thread used `domain` last or the time before, else one for each
    /// chunk of the domain's slots.
    ///
    /// ```
    /// use memalloc::rcu::Domain;
    ///
    /// let (domain, other) = (Domain::new(), Domain::new());
    /// let guard = domain.pin();
    /// assert!(guard.is_of(&domain) && guard.is_of(&domain.clone()));
    /// assert!(!guard.is_of(&other));
    /// ```
    #[must_use]
    #[inline]
    pub fn is_of(&self, domain: &Domain) -> bool {
        let inner = domain.inner();
        thread_slots::cached(FlavourKind::Rcu, inner) == Some(self.slot)
            || inner.rcu().slots().have(self.slot)
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.section.end(Flavour::Rcu);
        // SAFETY: MEM-R3: `self` borrows the domain, so the slot lives.
        let slot = unsafe { self.slot.as_ref() };
        // SAFETY: MEM-R5: only the owning thread touches `nested`.
        let inner = slot.nested.with(|nested| unsafe { *nested });
        if inner == 0 {
            slot.clear();
        } else {
            leave_inner(slot, inner);
        }
    }
}

/// A slot with one owner on one thread, for code that enters and leaves sections all the time:
/// [`pin`](Self::pin) has nothing to look up.
///
/// ```
/// use memalloc::rcu::Domain;
///
/// let domain = Domain::new();
/// let reader = domain.local();
/// for _ in 0..3 {
///     let guard = reader.pin();
///     // Read.
///     drop(guard);
/// }
/// ```
#[must_use = "the slot is given back when the reader is dropped"]
pub struct LocalReader<'d> {
    slot: NonNull<Slot>,
    domain: &'d Domain,
    /// Slots are bound to their thread.
    _not_send: PhantomData<*mut ()>,
}

impl fmt::Debug for LocalReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalReader").finish_non_exhaustive()
    }
}

impl<'d> LocalReader<'d> {
    pub(super) fn new(domain: &'d Domain) -> Self {
        let slot = domain.inner().claim_slot(FlavourKind::Rcu);
        Self { slot, domain, _not_send: PhantomData }
    }

    /// Begins a read section, as [`Domain::pin`] does. Costs two stores and the barrier of the
    /// domain. Async-signal-safe.
    ///
    /// # Panics
    ///
    /// As [`Domain::pin`].
    #[inline]
    pub fn pin(&self) -> Guard<'_> {
        Guard::enter_slot(self.domain, self.slot)
    }
}

impl Drop for LocalReader<'_> {
    fn drop(&mut self) {
        // SAFETY: MEM-R3: `self` borrows the domain.
        let slot = unsafe { self.slot.as_ref() };
        // Guards borrow the reader, so none is left. If one was leaked, its slot stays claimed.
        handover::abandon_rcu(slot);
    }
}

impl Domain {
    /// Begins a read section (`rcu_read_lock`), which ends when the guard is dropped.
    ///
    /// Costs two stores to memory of this thread and a compiler fence, or a SeqCst fence, depending
    /// on [`BarrierKind`](super::BarrierKind). A thread's first use of a domain allocates a slot
    /// (see [`register`](Self::register)). After that `pin` is async-signal-safe. A thread that
    /// alternates between more than two domains searches its list of domains each time.
    ///
    /// Dropping the guard waits if the thread has freed more inside the section than
    /// [`max_pending`](crate::Builder::max_pending) allows.
    ///
    /// ```
    /// use memalloc::rcu::Domain;
    ///
    /// let domain = Domain::new();
    /// let guard = domain.pin();
    /// drop(domain.pin()); // Sections nest.
    /// domain.synchronize().expect_err("this thread is inside a section");
    /// drop(guard);
    /// domain.synchronize()?;
    /// # Ok::<(), memalloc::rcu::SynchronizeError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If this thread already has 2^29 live or leaked guards.
    #[doc(alias = "rcu_read_lock")]
    #[inline]
    pub fn pin(&self) -> Guard<'_> {
        Guard::enter(self)
    }

    /// Claims a slot for a loop that reads all the time; see [`LocalReader`].
    pub fn local(&self) -> LocalReader<'_> {
        LocalReader::new(self)
    }

    /// Claims the calling thread's slot for [`pin`](Self::pin), as the first section does. After
    /// this a signal handler on this thread may pin this domain, whatever domains the thread itself
    /// uses. A grace period needs no barrier if no other thread has a slot in the domain, so do not
    /// register threads that never read.
    pub fn register(&self) {
        drop(self.pin());
    }
}

#[cold]
fn nest(slot: &Announcement) {
    // SAFETY: MEM-R5: only the owning thread touches `nested`.
    let inner = slot.nested.with(|nested| unsafe { *nested });
    // MEM-R1: one more would carry into the flags, and the first guard dropped would end the
    // section of all. That many guards cannot be held, only leaked.
    assert!(inner & MOST_NESTED < MOST_NESTED, "{MOST_NESTED} read sections are nested already");
    // SAFETY: as above.
    slot.nested.with_mut(|nested| unsafe { *nested = inner + 1 });
}

/// Ends an inner section, or an outermost section that owes a wait or whose thread's storage is
/// gone.
#[cold]
fn leave_inner(slot: &Announcement, inner: u32) {
    // SAFETY: MEM-R5: only the owning thread touches `nested`.
    let set_nested = |now| slot.nested.with_mut(|nested| unsafe { *nested = now });
    if inner & MOST_NESTED != 0 {
        return set_nested(inner - 1);
    }
    let owes = owed_by(inner);
    // A panicking thread does not wait: its next section pays.
    let puts_off = std::thread::panicking();
    set_nested(if puts_off { inner & !ABANDONED } else { 0 });
    slot.clear();
    // SAFETY: MEM-R7, and the caller is the drop of a guard, which borrows the domain.
    let domain = unsafe { Inner::of_slot(slot) };
    if inner & ABANDONED != 0 {
        handover::abandon_rcu(slot);
    }
    if let Some(wait_for) = owes.filter(|_| !puts_off) {
        domain.pay(wait_for);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn set_nested(guard: &Guard<'_>, nested: u32) {
        // SAFETY: MEM-R3, and MEM-R5: the guard is this thread's.
        unsafe { guard.slot.as_ref().nested.with_mut(|place| *place = nested) };
    }

    #[test]
    fn a_section_lasts_however_many_guards_inside_it_were_forgotten() {
        for flag in [0, ABANDONED] {
            let domain = Domain::new();
            let outermost = domain.pin();
            set_nested(&outermost, flag | (MOST_NESTED - 1));
            let last = domain.pin();
            let pin = AssertUnwindSafe(|| std::mem::forget(domain.pin()));
            catch_unwind(pin).expect_err("one too many");
            drop(last);
            let cookie = domain.start_poll();
            assert!(!domain.advance(cookie), "the section goes on");
            set_nested(&outermost, 0);
            drop(outermost);
            assert!(domain.advance(cookie));
        }
    }
}
