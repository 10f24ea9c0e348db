//! Slots: where readers announce themselves, and what a grace period looks at.
//!
//! A slot belongs to one thread while it is claimed, and only that thread announces a section in
//! it. Both flavours use them; how a section ends is theirs (`reader`, `trace`).

use super::barrier::Barrier;
use super::domain::Inner;
use super::epoch::Epochs;
use crate::sync::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, UnsafeCell, fence, owner_load_u64,
};
use crate::sys::fork::Survivor;
use crate::sys::thread;
use crossbeam_utils::CachePadded;
use std::ptr::{self, NonNull};

/// A slot, on cache lines of its own.
pub(super) type Slot = CachePadded<Announcement>;

/// Set in an announcement when the thread that made it has ended: whoever ends the section gives
/// the slot back. Never set alone.
pub(super) const ORPHANED: u64 = 1 << 63;

/// Set in the number of an owner, which then is no thread's number, while the section that it
/// announced owes a wait.
const INDEBTED: u32 = 1 << 31;

/// What readers store to all the time, and behind it, on the next cache line, what changes with
/// the owner: who asks whether anybody may read takes no line from a busy reader.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Announcement {
    /// 0 outside of read sections, else the epoch that was announced, and [`ORPHANED`].
    pub(super) epoch: AtomicU64,
    /// For RCU: sections inside the outermost one, and a flag. Touched by the owner only.
    pub(super) nested: UnsafeCell<u32>,
    ownership: Ownership,
}

#[derive(Debug)]
#[repr(align(64))]
struct Ownership {
    claimed: AtomicBool,
    /// The thread that claimed the slot, by number, and [`INDEBTED`]; 0 while it is nobody's, and
    /// when that thread has ended.
    owner: AtomicU32,
    /// The domain that the slot is one of (INV-R7).
    domain: *const Inner,
    next: *const Slot,
}

/// The slots of a flavour of a domain: a list that only grows while the domain lives.
#[derive(Debug)]
pub(super) struct Slots {
    head: AtomicPtr<Slot>,
}

// SAFETY: the raw `next` links and `domain` are written before a slot is published and never after;
// all other fields are atomics, or the owner's (`nested`).
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

impl Slots {
    pub(super) fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()) }
    }

    fn iter(&self) -> impl Iterator<Item = &Slot> {
        // ORDERING: Acquire pairs with the Release that published the slot in `claim`. A slot
        // that is published after the load belongs to a reader whose announcement comes after
        // the scan's barrier, so it needs no waiting.
        let mut next: *const _ = self.head.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: INV-R3: a published slot lives as long as `self`.
            let slot: &Slot = unsafe { next.as_ref()? };
            next = slot.ownership.next;
            Some(slot)
        })
    }

    /// Whether a slot is one of these.
    pub(super) fn have(&self, slot: NonNull<Slot>) -> bool {
        self.iter().any(|own| ptr::eq(own, slot.as_ptr()))
    }

    /// A reader that announced an epoch before `epoch` and is still inside: its thread.
    pub(super) fn reader_before(&self, epoch: u64) -> Option<u32> {
        let slot = self.iter().find(|slot| {
            // ORDERING: Acquire pairs with the Release stores at both ends of a section: what its
            // earlier sections read happened before. Falls to `loom`
            // `synchronize_waits_for_a_reader`.
            let announced = slot.epoch.load(Ordering::Acquire) & !ORPHANED;
            announced != 0 && announced < epoch
        })?;
        Some(slot.owner())
    }

    /// Whether a thread beside the calling one may announce sections. The caller has executed a
    /// SeqCst fence; who claims a slot later executes one after that, and so needs no barrier.
    pub(super) fn others_may_read(&self) -> bool {
        let me = thread::current();
        self.iter().any(|slot| {
            // INV-R6. ORDERING: Acquire pairs with the Release in `give_back`: where a slot is free
            // again, what its last section read is before what the caller does; the scan may still
            // find the slot as it was before that section. Falls to `loom_protocol` "look relaxed".
            slot.ownership.claimed.load(Ordering::Acquire) && slot.owner() != me
        })
    }

    /// Whether nobody is inside a section that may have begun before a SeqCst fence that the caller
    /// has executed. Where readers fence (`fenced`), a slot that shows no section is proof; else
    /// only that of the calling thread is, and one that nobody has claimed.
    pub(super) fn nobody_is_inside(&self, fenced: bool) -> bool {
        let me = thread::current();
        self.iter().all(|slot| {
            // ORDERING: Acquire pairs with the Release in `give_back`: what the sections of the
            // earlier owner read is before what the caller does. Falls to `loom`
            // `free_rcu_is_not_reused_inside_a_read_section`.
            !slot.ownership.claimed.load(Ordering::Acquire)
                // ORDERING: Acquire pairs with the Release of whoever ended the section that was
                // announced last. Falls to `loom`
                // `a_reuse_at_once_is_after_a_section_that_ended_elsewhere`.
                || ((fenced || slot.owner() == me) && slot.epoch.load(Ordering::Acquire) == 0)
        })
    }

    /// Whether a section is open that the calling thread began.
    pub(super) fn reading_here(&self) -> bool {
        let me = thread::current();
        self.iter().any(|slot| slot.owner() == me && slot.is_inside())
    }

    /// Calls `then` with every slot that announces a section which the calling thread began.
    pub(super) fn each_inside_here(&self, then: impl Fn(&Announcement)) {
        let me = thread::current();
        let here = self.iter().filter(|slot| slot.owner() == me && slot.is_inside());
        here.for_each(|slot| then(slot));
    }

    /// Says of every slot that the calling thread claimed, which is number `me`, that its owner is
    /// no more.
    pub(super) fn disown_all(&self, me: u32) {
        for slot in self.iter().filter(|slot| slot.owner() == me) {
            // Fails where whoever ended the section has given the slot back, and another thread may
            // have claimed it.
            let (owner, relaxed) = (&slot.ownership.owner, Ordering::Relaxed);
            let _ = owner.compare_exchange(me, 0, relaxed, relaxed);
            let _ = owner.compare_exchange(me | INDEBTED, 0, relaxed, relaxed);
        }
    }

    /// In the child of a fork: gives those that vanished threads had claimed to `abandon`.
    pub(super) fn repair_after_fork(&self, survivor: Survivor, abandon: impl Fn(&Announcement)) {
        let claimed = |slot: &&Slot| slot.ownership.claimed.load(Ordering::Relaxed);
        for slot in self.iter().filter(claimed) {
            if slot.owner() == survivor.was {
                slot.ownership.owner.store(survivor.is, Ordering::Relaxed);
            } else {
                abandon(slot);
            }
        }
    }

    /// How many slots are claimed, and how many of them announce a section.
    pub(super) fn count(&self) -> (usize, usize) {
        self.iter().fold((0, 0), |(claimed, inside), slot| {
            let is_claimed = slot.ownership.claimed.load(Ordering::Relaxed);
            (claimed + usize::from(is_claimed), inside + usize::from(slot.is_inside()))
        })
    }

    /// A slot for the calling thread alone, of the domain that these slots are of.
    pub(super) fn claim(&self, domain: &Inner) -> NonNull<Slot> {
        let me = thread::current();
        let slot = self.claim_again(me).unwrap_or_else(|| self.add(me, domain));
        // ORDERING: pairs with the fence of a grace period before `others_may_read`. If that comes
        // first, this thread sees all that was unlinked before it; if this fence comes first, the
        // grace period sees the claim. Falls to `loom_protocol` "claim without a fence".
        fence(Ordering::SeqCst);
        slot
    }

    fn claim_again(&self, me: u32) -> Option<NonNull<Slot>> {
        let slot = self.iter().find(|slot| {
            // ORDERING: Acquire pairs with the Release in `give_back`: the earlier owner's last
            // use of `nested` is before ours. Under loom the barrier of the first section after
            // it orders the two as well, so no model falls without it.
            !slot.ownership.claimed.load(Ordering::Relaxed)
                && slot
                    .ownership
                    .claimed
                    .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
        })?;
        slot.ownership.owner.store(me, Ordering::Relaxed);
        Some(NonNull::from(slot))
    }

    fn add(&self, me: u32, domain: &Inner) -> NonNull<Slot> {
        let new = Box::into_raw(Box::new(CachePadded::new(Announcement {
            epoch: AtomicU64::new(0),
            nested: UnsafeCell::new(0),
            ownership: Ownership {
                claimed: AtomicBool::new(true),
                owner: AtomicU32::new(me),
                domain,
                next: ptr::null(),
            },
        })));
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: `new` is not published yet, so this thread alone holds it.
            unsafe { (&mut *new).ownership.next = head };
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
        let mut next: *const Slot = self.head.load(Ordering::Relaxed);
        while !next.is_null() {
            // SAFETY: INV-R3: nobody else can reach the slots any more, and each came from a box.
            let slot = unsafe { Box::from_raw(next.cast_mut()) };
            next = slot.ownership.next;
        }
    }
}

impl Announcement {
    /// Announces a section in a slot that shows none. Only the owner calls it.
    #[inline(always)]
    pub(super) fn announce(&self, epochs: &Epochs, barrier: &Barrier) {
        // ORDERING: Release: the scan may skip this newer epoch, and then takes it as proof that
        // the earlier sections ended. Falls to `loom_protocol` "slot store relaxed".
        self.epoch.store(epochs.current(), Ordering::Release);
        barrier.light();
    }

    /// Ends the section.
    #[inline(always)]
    pub(super) fn clear(&self) {
        // ORDERING: Release pairs with the Acquire in `reader_before`: what was read inside is
        // before what the writer does after its grace period. Falls to `loom`
        // `synchronize_waits_for_a_reader`.
        self.epoch.store(0, Ordering::Release);
    }

    /// What the slot announces, for its owner: nobody else announces in it (INV-R5).
    ///
    /// # Safety
    ///
    /// The caller owns the slot, and no other thread ends its sections.
    #[inline(always)]
    pub(super) unsafe fn announced_here(&self) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { owner_load_u64(&self.epoch) }
    }

    pub(super) fn is_inside(&self) -> bool {
        self.epoch.load(Ordering::Relaxed) != 0
    }

    pub(super) fn owner(&self) -> u32 {
        self.ownership.owner.load(Ordering::Relaxed) & !INDEBTED
    }

    /// Whether the owner is thread `me`, and owes nothing.
    #[inline(always)]
    pub(super) fn is_plainly_of(&self, me: u32) -> bool {
        self.ownership.owner.load(Ordering::Relaxed) == me
    }

    /// Says that the owner owes a wait. Only the owner calls it.
    pub(super) fn mark_owner_indebted(&self) {
        self.ownership.owner.store(self.owner() | INDEBTED, Ordering::Relaxed);
    }

    /// Whether the calling thread, which is number `me`, is the owner and owes a wait; it does not any
    /// more.
    pub(super) fn take_debt_of(&self, me: u32) -> bool {
        let (owner, relaxed) = (&self.ownership.owner, Ordering::Relaxed);
        owner.compare_exchange(me | INDEBTED, me, relaxed, relaxed).is_ok()
    }

    /// The domain that the slot is one of.
    ///
    /// # Safety
    ///
    /// The domain lives as long as the reference that is given.
    pub(super) unsafe fn domain<'d>(&self) -> &'d Inner {
        // SAFETY: INV-R7, and the caller's promise.
        unsafe { &*self.ownership.domain }
    }

    /// Says that the owner is no more, while a section is open: it is nobody's then.
    pub(super) fn disown(&self) {
        self.ownership.owner.store(0, Ordering::Relaxed);
    }

    /// Makes the slot, which announces nothing, anybody's.
    pub(super) fn give_back(&self) {
        self.disown();
        // ORDERING: Release pairs with the Acquire in `claim_again`, `others_may_read` and
        // `nobody_is_inside`.
        self.ownership.claimed.store(false, Ordering::Release);
    }
}
