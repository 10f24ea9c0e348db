//! Readers: a slot for each thread and domain, and the guard that marks a read section.
//!
//! A slot belongs to one thread while it is claimed. The thread keeps the way to its slots in
//! thread-local storage and gives them back when it ends; a guard that outlives that storage has
//! a slot of its own.

use super::domain::{Domain, Inner};
use super::grace::Grace;
use crate::sync::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering, UnsafeCell, owner_load_u64,
};
use crate::sys::membarrier::BarrierKind;
use crossbeam_utils::CachePadded;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Weak};

/// Set in `nested` when the thread's storage is gone before its last guard of the slot.
const ABANDONED: u32 = 1 << 31;

#[derive(Debug)]
pub(super) struct Slot {
    /// 0 outside of read sections, else the epoch that was announced.
    epoch: AtomicU64,
    /// Sections inside the outermost one, and [`ABANDONED`]. Touched by the owning thread only.
    nested: UnsafeCell<u32>,
    claimed: AtomicBool,
    /// Which thread claimed the slot; see [`thread_key`].
    owner: AtomicUsize,
    next: *const CachePadded<Slot>,
}

/// The slots of a domain: a list that only grows while the domain lives.
#[derive(Debug)]
pub(super) struct Slots {
    head: AtomicPtr<CachePadded<Slot>>,
}

// SAFETY: the raw `next` links are written before a slot is published and never after; all other
// fields are atomics, or the owner's (`nested`).
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

impl Slots {
    pub(super) fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()) }
    }

    fn iter(&self) -> impl Iterator<Item = &CachePadded<Slot>> {
        // ORDERING: Acquire pairs with the Release that published the slot in `claim`. A slot
        // that is published after the load belongs to a reader whose announcement comes after
        // the scan's barrier, so it needs no waiting.
        let mut next: *const _ = self.head.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: INV-R3: a published slot lives as long as `self`.
            let slot: &CachePadded<Slot> = unsafe { next.as_ref()? };
            next = slot.next;
            Some(slot)
        })
    }

    /// Whether no reader is left that announced an epoch before `epoch`.
    pub(super) fn none_before(&self, epoch: u64) -> bool {
        self.iter().all(|slot| {
            // ORDERING: Acquire pairs with both Release stores of a guard: what its earlier
            // sections read happened before. Falls to `loom`
            // `synchronize_waits_for_a_reader`.
            let announced = slot.epoch.load(Ordering::Acquire);
            announced == 0 || announced >= epoch
        })
    }

    /// Whether the calling thread is inside a section.
    pub(super) fn reading_here(&self) -> bool {
        let me = thread_key();
        self.iter().any(|slot| {
            slot.owner.load(Ordering::Relaxed) == me && slot.epoch.load(Ordering::Relaxed) != 0
        })
    }

    pub(super) fn count(&self) -> (usize, usize) {
        self.iter().fold((0, 0), |(threads, reading), slot| {
            let claimed = slot.claimed.load(Ordering::Relaxed);
            let inside = slot.epoch.load(Ordering::Relaxed) != 0;
            (threads + usize::from(claimed), reading + usize::from(inside))
        })
    }

    /// A slot for the calling thread alone.
    fn claim(&self) -> NonNull<CachePadded<Slot>> {
        let me = thread_key();
        for slot in self.iter() {
            // ORDERING: Acquire pairs with the Release in `give_back`: the earlier owner's last
            // use of `nested` is before ours. Under loom the barrier of the first section after
            // it orders the two as well, so no model falls without it.
            let claimed =
                slot.claimed.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
            if claimed.is_ok() {
                slot.owner.store(me, Ordering::Relaxed);
                return NonNull::from(slot);
            }
        }
        let new = Box::into_raw(Box::new(CachePadded::new(Slot {
            epoch: AtomicU64::new(0),
            nested: UnsafeCell::new(0),
            claimed: AtomicBool::new(true),
            owner: AtomicUsize::new(me),
            next: ptr::null(),
        })));
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: `new` is not published yet, so this thread alone holds it.
            unsafe { (&mut *new).next = head };
            // ORDERING: Release pairs with the Acquire in `iter`.
            match self.head.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                // SAFETY: `new` comes from a box.
                Ok(_) => return unsafe { NonNull::new_unchecked(new) },
                Err(seen) => head = seen,
            }
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let mut next: *const CachePadded<Slot> = self.head.load(Ordering::Relaxed);
        while !next.is_null() {
            // SAFETY: INV-R3: nobody else can reach the slots any more, and each came from a box.
            let slot = unsafe { Box::from_raw(next.cast_mut()) };
            next = slot.next;
        }
    }
}

impl Slot {
    /// Announces a section. Only the owner calls it.
    #[inline(always)]
    fn enter(&self, grace: &Grace, barrier: BarrierKind) {
        // SAFETY: INV-R5: only the owner stores to its announcement.
        if unsafe { owner_load_u64(&self.epoch) } == 0 {
            // ORDERING: Release: the scan may skip this newer epoch, and then takes it as proof
            // that the earlier sections ended. Falls to `loom_protocol` "slot store relaxed".
            self.epoch.store(grace.current(), Ordering::Release);
            barrier.light();
        } else {
            self.nest();
        }
    }

    #[cold]
    fn nest(&self) {
        // SAFETY: INV-R5: only the owning thread touches `nested`.
        self.nested.with_mut(|nested| unsafe { *nested += 1 });
    }

    /// Ends a section. Only the owner calls it.
    #[inline(always)]
    fn leave(&self) {
        // SAFETY: INV-R5: only the owning thread touches `nested`.
        let inner = self.nested.with(|nested| unsafe { *nested });
        if inner == 0 {
            // ORDERING: Release pairs with the Acquire in `none_before`: what was read inside is
            // before what the writer does after its grace period. Falls to `loom`
            // `synchronize_waits_for_a_reader`.
            self.epoch.store(0, Ordering::Release);
        } else {
            self.leave_inner(inner);
        }
    }

    #[cold]
    fn leave_inner(&self, inner: u32) {
        let last = inner == ABANDONED;
        // SAFETY: INV-R5: only the owning thread touches `nested`.
        self.nested.with_mut(|nested| unsafe { *nested = if last { 0 } else { inner - 1 } });
        if last {
            // ORDERING: as in `leave`.
            self.epoch.store(0, Ordering::Release);
            self.give_back();
        }
    }

    /// Gives the slot back, or leaves that to the last guard where there is one.
    fn abandon(&self) {
        if self.epoch.load(Ordering::Relaxed) == 0 {
            self.give_back();
        } else {
            // SAFETY: INV-R5: only the owning thread touches `nested`.
            self.nested.with_mut(|nested| unsafe { *nested |= ABANDONED });
        }
    }

    fn give_back(&self) {
        self.owner.store(0, Ordering::Relaxed);
        // ORDERING: Release pairs with the Acquire in `claim`.
        self.claimed.store(false, Ordering::Release);
    }
}

/// Marks a read section: what was found in it stays, as the policy of its allocator promises,
/// until the guard is dropped.
///
/// Sections nest, and may end in any order. A guard stays on its thread and should not be held
/// for long: nothing that was freed meanwhile under a deferring policy can be reused.
#[must_use = "the read section ends when the guard is dropped"]
pub struct Guard<'d> {
    slot: NonNull<CachePadded<Slot>>,
    /// Set when the slot is this guard's alone, because the thread's storage is gone.
    own_slot: bool,
    _domain: PhantomData<&'d Domain>,
    /// Slots are thread-bound.
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
        let (slot, own_slot) = match cached_slot(inner.id()) {
            Some(slot) => (slot, false),
            None => find_slot(inner),
        };
        // SAFETY: INV-R3: the slot lives as long as the domain that `'d` borrows.
        unsafe { slot.as_ref() }.enter(inner.grace(), inner.barrier());
        Self { slot, own_slot, _domain: PhantomData, _not_send: PhantomData }
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: INV-R3: `self` borrows the domain, so the slot lives.
        let slot = unsafe { self.slot.as_ref() };
        slot.leave();
        if self.own_slot {
            slot.give_back();
        }
    }
}

/// A number for the calling thread that no other living thread has; never 0.
#[cfg(not(loom))]
fn thread_key() -> usize {
    std::thread_local! { static KEY: u8 = const { 0 } }
    KEY.with(|key| ptr::from_ref(key).addr())
}

#[cfg(loom)]
fn thread_key() -> usize {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    let id = loom::thread::current().id();
    BuildHasherDefault::<DefaultHasher>::default().hash_one(id) as usize | 1
}

/// The slots of one thread.
#[derive(Default)]
struct Registry {
    slots: Vec<(Weak<Inner>, u64, NonNull<CachePadded<Slot>>)>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        // A model that failed is over before its threads' storage is dropped.
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        forget_cached();
        for (domain, _, slot) in self.slots.drain(..) {
            // Named, so that it is held to the end: it may be the last clone by now.
            if let Some(_domain) = domain.upgrade() {
                // SAFETY: `_domain` lives as long as this reference, and the slot as long as the
                // domain (INV-R3).
                unsafe { slot.as_ref() }.abandon();
            }
        }
    }
}

crate::sync::thread_local! {
    static REGISTRY: RefCell<Registry> = RefCell::new(Registry::default());
}

#[cfg(not(loom))]
mod cache {
    use super::*;

    std::thread_local! {
        /// The domain that this thread used last, and its slot. Needs no destructor, so that
        /// looking here is one load.
        static LAST: Cell<(u64, *const CachePadded<Slot>)> = const { Cell::new((0, ptr::null())) };
    }

    #[inline(always)]
    pub(super) fn cached_slot(domain: u64) -> Option<NonNull<CachePadded<Slot>>> {
        let (last, slot) = LAST.get();
        if last == domain { NonNull::new(slot.cast_mut()) } else { None }
    }

    pub(super) fn remember(domain: u64, slot: NonNull<CachePadded<Slot>>) {
        LAST.set((domain, slot.as_ptr()));
    }

    pub(super) fn forget_cached() {
        LAST.set((0, ptr::null()));
    }
}

#[cfg(loom)]
mod cache {
    use super::*;

    pub(super) fn cached_slot(_domain: u64) -> Option<NonNull<CachePadded<Slot>>> {
        None
    }

    pub(super) fn remember(_domain: u64, _slot: NonNull<CachePadded<Slot>>) {
        let _: Option<Cell<()>> = None;
    }

    pub(super) fn forget_cached() {}
}

use cache::{cached_slot, forget_cached, remember};

/// The calling thread's slot in a domain that it did not use last; claims one if it has none.
#[cold]
fn find_slot(inner: &Arc<Inner>) -> (NonNull<CachePadded<Slot>>, bool) {
    let id = inner.id();
    let found = REGISTRY.try_with(|registry| {
        // Borrowed already: a signal handler interrupted this very function.
        let mut registry = registry.try_borrow_mut().ok()?;
        if let Some(&(_, _, slot)) = registry.slots.iter().find(|(_, known, _)| *known == id) {
            return Some(slot);
        }
        registry.slots.retain(|(domain, _, _)| domain.strong_count() > 0);
        let slot = inner.slots().claim();
        registry.slots.push((Arc::downgrade(inner), id, slot));
        Some(slot)
    });
    match found {
        Ok(Some(slot)) => {
            remember(id, slot);
            (slot, false)
        }
        Ok(None) | Err(_) => (inner.slots().claim(), true),
    }
}
