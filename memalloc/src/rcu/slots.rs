//! Slots: where readers announce themselves, and what a grace period looks at.
//!
//! A slot belongs to one thread while it is claimed, and only that thread announces a section in
//! it. Both flavours use them; how a section ends is theirs (`reader`, `sleepable`).
//!
//! Slots lie in chunks, each with a bit for every slot of it that is claimed. The lowest free slot is
//! claimed first, and only claimed ones are looked at: what a look costs follows the readers that there
//! are, not those that there were.

use super::barrier::Barrier;
use super::domain::Inner;
use super::epoch::Epochs;
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering, UnsafeCell, fence, owner_load_u64};
use crate::sys::fork::Survivor;
use crate::sys::thread;
use crossbeam_utils::CachePadded;
use std::ptr::{self, NonNull};

/// Slots of the first chunk; each further chunk has twice as many as the one before.
const FIRST_SLOTS: usize = if cfg!(loom) { 2 } else { 8 };

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
    /// The thread that claimed the slot, by number, and [`INDEBTED`]; 0 while it is nobody's, and
    /// when that thread has ended.
    owner: AtomicU32,
    /// Which of its chunk.
    index: u32,
    chunk: *const Chunk,
    /// The domain that the slot is one of (INV-R7), once it was claimed. Orders nothing: whoever looks
    /// has the slot from the thread that claimed it.
    domain: std::sync::atomic::AtomicPtr<Inner>,
}

/// Some slots.
#[derive(Debug)]
struct Chunk {
    slots: Box<[Slot]>,
    /// A bit for each slot: it is claimed.
    claimed: Box<[AtomicU64]>,
    /// Where there are several words of bits: how many bits are set, or about to be, or were a moment
    /// ago. Never fewer than are set.
    claims: AtomicU32,
    next: AtomicPtr<Chunk>,
}

/// The slots of a flavour of a domain: a list of chunks that only grows while the domain lives.
#[derive(Debug)]
pub(super) struct Slots {
    first: NonNull<Chunk>,
}

// SAFETY: a chunk is changed by atomics only, once it is published; what of a slot is none is the
// owner's (`nested`), or never changes.
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

impl Chunk {
    /// Slots that nobody has claimed, at their place for good.
    fn boxed(slots: usize) -> NonNull<Self> {
        let chunk = Box::into_raw(Box::new(Self {
            slots: Box::new([]),
            claimed: (0..slots.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            claims: AtomicU32::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
        }));
        let slot = |index| {
            CachePadded::new(Announcement {
                epoch: AtomicU64::new(0),
                nested: UnsafeCell::new(0),
                ownership: Ownership {
                    owner: AtomicU32::new(0),
                    index,
                    chunk,
                    domain: std::sync::atomic::AtomicPtr::new(ptr::null_mut()),
                },
            })
        };
        // SAFETY: the box was just made, and nobody else has it.
        unsafe {
            (&mut *chunk).slots = (0..slots as u32).map(slot).collect();
            NonNull::new_unchecked(chunk)
        }
    }

    /// The slots that are claimed.
    fn claimed(&self) -> impl Iterator<Item = &Slot> {
        let several = self.claimed.len() > 1;
        // ORDERING: Acquire pairs with the Release in `give_back`, as below.
        let none = several && self.claims.load(Ordering::Acquire) == 0;
        let words = if none { &[] } else { &self.claimed[..] };
        words.iter().zip(self.slots.chunks(64)).flat_map(|(word, slots)| {
            // INV-R6. ORDERING: Acquire pairs with the Release in `give_back`: where a slot is free
            // again, what its last section read is before what the caller does. Falls to
            // `loom_protocol` "look relaxed" and `loom`
            // `free_rcu_is_not_reused_inside_a_read_section`.
            let mut bits = word.load(Ordering::Acquire);
            std::iter::from_fn(move || {
                let lowest = (bits != 0).then(|| bits.trailing_zeros())?;
                bits &= bits - 1;
                Some(&slots[lowest as usize])
            })
        })
    }

    /// Claims the lowest free slot for thread `me`, if there is one.
    fn claim(&self, me: u32) -> Option<NonNull<Slot>> {
        let several = self.claimed.len() > 1;
        if several && self.claims.load(Ordering::Relaxed) as usize >= self.slots.len() {
            return None;
        }
        if several {
            self.claims.fetch_add(1, Ordering::Relaxed);
        }
        for (word, slots) in self.claimed.iter().zip(self.slots.chunks(64)) {
            let all = u64::MAX >> (64 - slots.len());
            let mut bits = word.load(Ordering::Relaxed);
            while bits != all {
                let lowest = (!bits).trailing_zeros();
                // ORDERING: Acquire pairs with the Release in `give_back`: the earlier owner's last
                // use of `nested` is before ours. Under loom the barrier of the first section after
                // it orders the two as well, so no model falls without it.
                bits = word.fetch_or(1 << lowest, Ordering::Acquire);
                if bits & (1 << lowest) == 0 {
                    let slot = &slots[lowest as usize];
                    slot.ownership.owner.store(me, Ordering::Relaxed);
                    return Some(NonNull::from(slot));
                }
            }
        }
        if several {
            self.claims.fetch_sub(1, Ordering::Relaxed);
        }
        None
    }

    /// The chunk behind this, which is the last: one of twice its size, unless another thread has just
    /// added that.
    fn extend(&self) -> NonNull<Self> {
        let new = Self::boxed(2 * self.slots.len());
        // ORDERING: Release pairs with the Acquire in `chunks` and `claim_lowest`; Acquire where
        // another thread was quicker.
        let (release, acquire) = (Ordering::Release, Ordering::Acquire);
        match self.next.compare_exchange(ptr::null_mut(), new.as_ptr(), release, acquire) {
            Ok(_) => new,
            Err(added) => {
                // SAFETY: ours came from a box and was not published.
                drop(unsafe { Box::from_raw(new.as_ptr()) });
                // SAFETY: the exchange failed because it is not null.
                unsafe { NonNull::new_unchecked(added) }
            }
        }
    }

    /// Says of a slot that nobody has it any more.
    fn give_back(&self, index: u32) {
        let (word, bit) = (&self.claimed[index as usize / 64], 1 << (index % 64));
        // ORDERING: Release pairs with the Acquire in `claim` and `claimed`.
        word.fetch_and(!bit, Ordering::Release);
        if self.claimed.len() > 1 {
            // ORDERING: Release as above, for those who look at this number only. No model has so many
            // slots.
            self.claims.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { first: Chunk::boxed(FIRST_SLOTS) }
    }

    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        let mut next: *const Chunk = self.first.as_ptr();
        std::iter::from_fn(move || {
            // SAFETY: INV-R3: a published chunk lives as long as `self`.
            let chunk = unsafe { next.as_ref()? };
            // ORDERING: Acquire pairs with the Release that published the chunk in `claim`. A chunk
            // that is published after the load has slots of readers whose announcement comes after
            // the scan's barrier, so they need no waiting.
            next = chunk.next.load(Ordering::Acquire);
            Some(chunk)
        })
    }

    /// The slots that are claimed.
    fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.chunks().flat_map(Chunk::claimed)
    }

    /// Whether a slot is one of these.
    pub(super) fn have(&self, slot: NonNull<Slot>) -> bool {
        self.chunks().any(|chunk| chunk.slots.as_ptr_range().contains(&slot.as_ptr().cast_const()))
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
        self.iter().any(|slot| slot.owner() != me)
    }

    /// Whether nobody is inside a section that may have begun before a SeqCst fence that the caller
    /// has executed. Where readers fence (`fenced`), a slot that shows no section is proof; else
    /// only that of the calling thread is, and one that nobody has claimed.
    pub(super) fn nobody_is_inside(&self, fenced: bool) -> bool {
        let me = thread::current();
        self.iter().all(|slot| {
            // ORDERING: Acquire pairs with the Release of whoever ended the section that was
            // announced last. Falls to `loom`
            // `a_reuse_at_once_is_after_a_section_that_ended_elsewhere`.
            (fenced || slot.owner() == me) && slot.epoch.load(Ordering::Acquire) == 0
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
        for slot in self.iter() {
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
            (claimed + 1, inside + usize::from(slot.is_inside()))
        })
    }

    /// A slot for the calling thread alone, of the domain that these slots are of.
    pub(super) fn claim(&self, domain: &Inner) -> NonNull<Slot> {
        let me = thread::current();
        let slot = self.claim_lowest(me);
        // SAFETY: INV-R3: the slot lives as long as `self`.
        let place = unsafe { slot.as_ref() };
        let domain = ptr::from_ref(domain).cast_mut();
        place.ownership.domain.store(domain, std::sync::atomic::Ordering::Relaxed);
        // ORDERING: pairs with the fence of a grace period before `others_may_read`. If that comes
        // first, this thread sees all that was unlinked before it; if this fence comes first, the
        // grace period sees the claim. Falls to `loom_protocol` "claim without a fence".
        fence(Ordering::SeqCst);
        slot
    }

    fn claim_lowest(&self, me: u32) -> NonNull<Slot> {
        let mut chunk = self.first;
        loop {
            // SAFETY: INV-R3: a published chunk lives as long as `self`.
            let this = unsafe { chunk.as_ref() };
            if let Some(slot) = this.claim(me) {
                return slot;
            }
            // ORDERING: Acquire as in `chunks`.
            let next = NonNull::new(this.next.load(Ordering::Acquire));
            chunk = next.unwrap_or_else(|| this.extend());
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let mut next = self.first.as_ptr();
        while !next.is_null() {
            // SAFETY: INV-R3: nobody else can reach the slots any more, and each chunk came from a
            // box.
            let chunk = unsafe { Box::from_raw(next) };
            next = chunk.next.load(Ordering::Relaxed);
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
        let domain = self.ownership.domain.load(std::sync::atomic::Ordering::Relaxed);
        // SAFETY: INV-R7, and the caller's promise; the slot was claimed, or nobody would have it.
        unsafe { &*domain }
    }

    /// Says that the owner is no more, while a section is open: it is nobody's then.
    pub(super) fn disown(&self) {
        self.ownership.owner.store(0, Ordering::Relaxed);
    }

    /// Makes the slot, which announces nothing, anybody's.
    pub(super) fn give_back(&self) {
        self.disown();
        // SAFETY: INV-R3: the chunk lives as long as its slots.
        unsafe { &*self.ownership.chunk }.give_back(self.ownership.index);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::domain::Domain;
    use super::*;

    /// How many words a look at the slots reads, beside one for each chunk.
    fn words_read(slots: &Slots) -> usize {
        let is_read =
            |chunk: &&Chunk| chunk.claimed.len() == 1 || chunk.claims.load(Ordering::Relaxed) > 0;
        slots.chunks().filter(is_read).map(|chunk| chunk.claimed.len()).sum()
    }

    #[test]
    fn a_look_costs_what_the_readers_cost_that_there_are_however_many_there_were() {
        let domain = Domain::new();
        let slots = domain.rcu().slots();
        let first = slots.claim(domain.inner());
        let before = (slots.iter().count(), words_read(slots));
        let many: Vec<_> = (0..10_000).map(|_| slots.claim(domain.inner())).collect();
        assert_eq!(slots.iter().count(), 10_001);
        assert!(slots.chunks().count() <= 11, "each is twice as large as the one before");
        let distinct: std::collections::HashSet<_> = many.iter().collect();
        assert_eq!(distinct.len(), 10_000);
        // SAFETY: INV-R3: the domain lives.
        many.iter().for_each(|slot| unsafe { slot.as_ref() }.give_back());
        let after = (slots.iter().count(), words_read(slots));
        assert_eq!(after.0, before.0);
        assert!(after.1 <= before.1 + 4, "one for each chunk of up to 64: {after:?}");
        assert!(slots.have(first) && slots.claim(domain.inner()) == many[0], "the lowest is next");
    }

    #[test]
    fn no_two_threads_claim_one_slot() {
        let domain = Domain::new();
        let slots = domain.rcu().slots();
        let rounds = |_| {
            for round in 0..2_000 {
                let claimed: Vec<_> =
                    (0..round % 90).map(|_| slots.claim(domain.inner())).collect();
                let me = thread::current();
                for slot in claimed {
                    // SAFETY: INV-R3: the domain lives.
                    let slot = unsafe { slot.as_ref() };
                    assert_eq!(slot.owner(), me, "another thread has it, too");
                    slot.give_back();
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|n| _ = scope.spawn(move || rounds(n))));
        assert_eq!(slots.count(), (0, 0));
        assert!(slots.chunks().all(|chunk| chunk.claims.load(Ordering::Relaxed) == 0));
    }
}
