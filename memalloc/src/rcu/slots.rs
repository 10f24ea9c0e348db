//! Slots: readers announce their sections in them, and grace periods scan them.
//!
//! While a slot is claimed it belongs to one thread, and only that thread announces sections in it.
//! Both flavours use slots; `reader` and `sleepable` define how a section ends, `handover` how a
//! slot changes hands.
//!
//! Slots are in chunks. Each chunk has one bit per slot, which is set while the slot is claimed.
//! The lowest free slot is claimed first, and a scan visits only claimed slots: its cost follows
//! the current number of readers, not the highest number so far.

use super::barrier::Barrier;
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering, UnsafeCell, fence, owner_load_u64};
use crate::sys::thread;
use crossbeam_utils::CachePadded;
use std::ptr::{self, NonNull};

/// The number of slots in the first chunk. Each further chunk has twice as many as the one before.
const FIRST_SLOTS: usize = if cfg!(loom) { 2 } else { 8 };

/// The number of slots whose claims are bits of one word.
const SLOTS_A_WORD: usize = if cfg!(loom) { 2 } else { 64 };

/// A slot, alone on its cache lines.
pub(super) type Slot = CachePadded<Announcement>;

/// Set in an announcement when the thread that made it has ended: the thread that ends the section
/// gives the slot back. Never set alone.
pub(super) const ORPHANED: u64 = 1 << 63;

/// Set in `nested` when the thread's storage is gone: the last guard of the slot gives the slot
/// back.
pub(super) const ABANDONED: u32 = 1 << 31;

/// Set in `nested` when the thread freed more inside the section than may be pending: it waits for
/// RCU readers once the outermost section has ended.
pub(super) const OWES_RCU: u32 = 1 << 30;

/// As [`OWES_RCU`], for readers of both flavours.
pub(super) const OWES_BOTH: u32 = 1 << 29;

/// The largest number of sections inside the outermost one: all bits of `nested` below the flags.
pub(super) const MOST_NESTED: u32 = OWES_BOTH - 1;

/// Set in the owner's number while the open section owes a wait. The word then equals no thread's
/// number.
const INDEBTED: u32 = 1 << 31;

/// The word that readers store to at every section, and, on the next cache line, the fields that
/// change only with the owner: a check of the owner does not bounce the cache line of a busy
/// reader.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Announcement {
    /// 0 outside of read sections, else the announced epoch, with or without [`ORPHANED`].
    pub(super) epoch: AtomicU64,
    /// RCU only: the number of sections inside the outermost one, and flags. Touched by the owner
    /// only.
    pub(super) nested: UnsafeCell<u32>,
    ownership: Ownership,
}

#[derive(Debug)]
#[repr(align(64))]
struct Ownership {
    /// The number of the thread that claimed the slot, with or without [`INDEBTED`]. 0 while the
    /// slot is free, and after that thread has ended.
    owner: AtomicU32,
    /// The index of the slot in its chunk.
    index: u32,
    chunk: *const Chunk,
    /// The address of the domain (MEM-R7), set when the slot is claimed. Orders nothing: a thread
    /// that loads it got the slot from the thread that claimed it.
    domain: std::sync::atomic::AtomicPtr<()>,
}

/// A block of slots.
#[derive(Debug)]
struct Chunk {
    slots: Box<[Slot]>,
    /// One bit per slot: set while the slot is claimed.
    claimed: Box<[AtomicU64]>,
    /// Used if `claimed` has several words: at least the number of bits set. Claims that are about
    /// to set their bit, and slots given back a moment ago, count too.
    claims: AtomicU32,
    next: AtomicPtr<Chunk>,
}

/// The slots of one flavour of a domain: a list of chunks that only grows while the domain lives.
#[derive(Debug)]
pub(super) struct Slots {
    first: NonNull<Chunk>,
}

// SAFETY: once published, a chunk is changed by atomics only. The non-atomic parts of a slot are
// touched by its owner only (`nested`), or never change.
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

impl Chunk {
    /// Allocates a chunk of free slots, which never move.
    fn boxed(slots: usize) -> NonNull<Self> {
        let chunk = Box::into_raw(Box::new(Self {
            slots: Box::new([]),
            claimed: (0..slots.div_ceil(SLOTS_A_WORD)).map(|_| AtomicU64::new(0)).collect(),
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
        // SAFETY: the box was just made, and no other pointer to it exists.
        unsafe {
            (&mut *chunk).slots = (0..slots as u32).map(slot).collect();
            NonNull::new_unchecked(chunk)
        }
    }

    /// The claimed slots.
    fn claimed(&self) -> impl Iterator<Item = &Slot> {
        let several = self.claimed.len() > 1;
        // ORDERING: Acquire pairs with the Release in `give_back`, as below. Falls to
        // `a_scan_that_finds_no_slot_is_after_the_last_section`.
        let none = several && self.claims.load(Ordering::Acquire) == 0;
        let words = if none { &[] } else { &self.claimed[..] };
        words.iter().zip(self.slots.chunks(SLOTS_A_WORD)).flat_map(|(word, slots)| {
            // MEM-R6. ORDERING: Acquire pairs with the Release in `give_back`: if a slot is free
            // again, the reads of its last section happen before what the caller does next. Falls
            // to `loom_protocol` "look relaxed" and `loom`
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
        for (word, slots) in self.claimed.iter().zip(self.slots.chunks(SLOTS_A_WORD)) {
            let all = u64::MAX >> (u64::BITS as usize - slots.len());
            let mut bits = word.load(Ordering::Relaxed);
            while bits != all {
                let lowest = (!bits).trailing_zeros();
                // ORDERING: Acquire pairs with the Release in `give_back`: the earlier owner's last
                // use of `nested` happens before ours. Falls to nothing: the fence after a claim
                // orders `nested` as well, and loom orders stores to `owner` as they are executed.
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

    /// Appends a chunk of twice the size of this one, the last, and returns it. If another thread
    /// has just appended one, returns that.
    fn extend(&self) -> NonNull<Self> {
        let new = Self::boxed(2 * self.slots.len());
        // ORDERING: Release pairs with the Acquire in `chunks` and `claim_lowest`; Acquire is for
        // the case that another thread appended first. Falls to
        // `two_threads_append_slots_at_once`.
        let (release, acquire) = (Ordering::Release, Ordering::Acquire);
        match self.next.compare_exchange(ptr::null_mut(), new.as_ptr(), release, acquire) {
            Ok(_) => new,
            Err(added) => {
                // SAFETY: our chunk came from a box and was not published.
                drop(unsafe { Box::from_raw(new.as_ptr()) });
                // SAFETY: the exchange failed because it is not null.
                unsafe { NonNull::new_unchecked(added) }
            }
        }
    }

    /// Marks the slot as free.
    fn give_back(&self, index: u32) {
        let (word, bit) = (index as usize / SLOTS_A_WORD, index as usize % SLOTS_A_WORD);
        // ORDERING: Release pairs with the Acquire in `claim` and `claimed`. Falls to
        // `a_scan_that_finds_no_slot_is_after_the_last_section`.
        self.claimed[word].fetch_and(!(1 << bit), Ordering::Release);
        if self.claimed.len() > 1 {
            // ORDERING: Release as above, for scans that read only this number. Falls to
            // `a_scan_that_finds_no_slot_is_after_the_last_section`.
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
            // SAFETY: MEM-R3: a published chunk lives as long as `self`.
            let chunk = unsafe { next.as_ref()? };
            // ORDERING: Acquire pairs with the Release that published the chunk in `extend`. A
            // chunk that is published after the load has only slots of readers that announce
            // themselves after the scan's barrier, so the scan need not wait for them. Falls to
            // `two_threads_append_slots_at_once`.
            next = chunk.next.load(Ordering::Acquire);
            Some(chunk)
        })
    }

    /// The slots that are claimed.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.chunks().flat_map(Chunk::claimed)
    }

    /// Returns whether `slot` is one of these.
    pub(super) fn have(&self, slot: NonNull<Slot>) -> bool {
        self.chunks().any(|chunk| chunk.slots.as_ptr_range().contains(&slot.as_ptr().cast_const()))
    }

    /// Returns the thread of a reader that announced an epoch before `epoch` and is still inside.
    pub(super) fn reader_before(&self, epoch: u64) -> Option<u32> {
        let slot = self.iter().find(|slot| {
            // ORDERING: Acquire pairs with the Release stores at both ends of a section: the reads
            // of the slot's earlier sections happened before. Falls to `loom_protocol` "scan
            // relaxed".
            let announced = slot.epoch.load(Ordering::Acquire) & !ORPHANED;
            announced != 0 && announced < epoch
        })?;
        Some(slot.owner())
    }

    /// Returns whether a thread other than the calling one may announce sections. The caller has
    /// executed a SeqCst fence: a thread that claims a slot later executes its own fence after it,
    /// and needs no barrier.
    pub(super) fn others_may_read(&self) -> bool {
        let me = thread::current();
        self.iter().any(|slot| slot.owner() != me)
    }

    /// Returns whether no section is open that may have begun before a SeqCst fence that the caller
    /// has executed. If readers fence (`fenced`), a slot that shows no section is proof. Otherwise
    /// only slots of the calling thread and free slots are proof.
    pub(super) fn nobody_is_inside(&self, fenced: bool) -> bool {
        let me = thread::current();
        self.iter().all(|slot| {
            // ORDERING: Acquire pairs with the Release that ended the section announced last. Falls
            // to `loom` `a_reuse_at_once_is_after_a_section_that_ended_elsewhere`.
            (fenced || slot.owner() == me) && slot.epoch.load(Ordering::Acquire) == 0
        })
    }

    /// Returns whether the calling thread began a section that is still open.
    pub(super) fn reading_here(&self) -> bool {
        let me = thread::current();
        self.iter().any(|slot| slot.owner() == me && slot.is_inside())
    }

    /// Calls `then` with every slot that announces a section begun by the calling thread.
    pub(super) fn each_inside_here(&self, then: impl Fn(&Announcement)) {
        let me = thread::current();
        let here = self.iter().filter(|slot| slot.owner() == me && slot.is_inside());
        here.for_each(|slot| then(slot));
    }

    /// Returns the number of claimed slots, and the number of those that announce a section.
    pub(super) fn count(&self) -> (usize, usize) {
        self.iter().fold((0, 0), |(claimed, inside), slot| {
            (claimed + 1, inside + usize::from(slot.is_inside()))
        })
    }

    /// Claims a slot for the calling thread alone. `domain` is the address of the domain of these
    /// slots.
    pub(super) fn claim(&self, domain: NonNull<()>) -> NonNull<Slot> {
        let me = thread::current();
        let slot = self.claim_lowest(me);
        // SAFETY: MEM-R3: the slot lives as long as `self`.
        let place = unsafe { slot.as_ref() };
        place.ownership.domain.store(domain.as_ptr(), std::sync::atomic::Ordering::Relaxed);
        // ORDERING: pairs with the fence of a grace period before `others_may_read`. If the grace
        // period's fence comes first, this thread sees everything that was unlinked before it; if
        // this fence comes first, the grace period sees the claim. Falls to `loom_protocol`
        // "claim without a fence".
        fence(Ordering::SeqCst);
        slot
    }

    fn claim_lowest(&self, me: u32) -> NonNull<Slot> {
        let mut chunk = self.first;
        loop {
            // SAFETY: MEM-R3: a published chunk lives as long as `self`.
            let this = unsafe { chunk.as_ref() };
            if let Some(slot) = this.claim(me) {
                return slot;
            }
            // ORDERING: Acquire as in `chunks`. Falls to `two_threads_append_slots_at_once`.
            let next = NonNull::new(this.next.load(Ordering::Acquire));
            chunk = next.unwrap_or_else(|| this.extend());
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let mut next = self.first.as_ptr();
        while !next.is_null() {
            // SAFETY: MEM-R3: no other thread can reach the slots any more, and each chunk came
            // from a box.
            let chunk = unsafe { Box::from_raw(next) };
            next = chunk.next.load(Ordering::Relaxed);
        }
    }
}

impl Announcement {
    /// Announces a section that begins in `epoch`, in a slot that shows none. Only the owner calls
    /// it.
    #[inline(always)]
    pub(super) fn announce(&self, epoch: u64, barrier: &Barrier) {
        // ORDERING: Release: a scan may skip this newer epoch, and takes it as proof that the
        // earlier sections have ended. Falls to `loom_protocol` "slot store relaxed".
        self.epoch.store(epoch, Ordering::Release);
        barrier.light();
    }

    /// Ends the section.
    #[inline(always)]
    pub(super) fn clear(&self) {
        // ORDERING: Release pairs with the Acquire in `reader_before`: the reads inside the section
        // happen before what the writer does after its grace period. Falls to `loom`
        // `synchronize_waits_for_a_reader`.
        self.epoch.store(0, Ordering::Release);
    }

    /// Returns what the slot announces, for its owner: no other thread announces in it (MEM-R5).
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

    /// Returns whether thread `me` owns the slot and owes no wait.
    #[inline(always)]
    pub(super) fn is_plainly_of(&self, me: u32) -> bool {
        self.ownership.owner.load(Ordering::Relaxed) == me
    }

    /// Makes the owner wait when it ends the section. Called by the owner; async-signal-safe.
    pub(super) fn mark_owner_indebted(&self) {
        self.ownership.owner.store(self.owner() | INDEBTED, Ordering::Relaxed);
    }

    /// If the calling thread, number `me`, owns the slot and owes a wait, clears the debt and
    /// returns `true`.
    pub(super) fn take_debt_of(&self, me: u32) -> bool {
        let (owner, relaxed) = (&self.ownership.owner, Ordering::Relaxed);
        owner.compare_exchange(me | INDEBTED, me, relaxed, relaxed).is_ok()
    }

    /// The address of the domain of the slot, which is claimed (MEM-R7).
    pub(super) fn domain(&self) -> *const () {
        self.ownership.domain.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Gives the owner another number, and forgets a wait that it owes.
    pub(super) fn renumber_owner(&self, number: u32) {
        self.ownership.owner.store(number, Ordering::Relaxed);
    }

    /// Clears the owner if it is still thread `me`.
    pub(super) fn disown_if_of(&self, me: u32) {
        let (owner, relaxed) = (&self.ownership.owner, Ordering::Relaxed);
        let _ = owner.compare_exchange(me, 0, relaxed, relaxed);
        let _ = owner.compare_exchange(me | INDEBTED, 0, relaxed, relaxed);
    }

    /// Clears the owner: when it ends while a section is open, and when the slot becomes free.
    pub(super) fn disown(&self) {
        self.ownership.owner.store(0, Ordering::Relaxed);
    }

    /// Frees the slot, which announces nothing, for any thread to claim.
    pub(super) fn give_back(&self) {
        self.disown();
        // SAFETY: MEM-R3: the chunk lives as long as its slots.
        unsafe { &*self.ownership.chunk }.give_back(self.ownership.index);
    }
}

#[cfg(all(test, loom))]
mod models;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Slots alone do not use the address of their domain.
    const NO_DOMAIN: NonNull<()> = NonNull::dangling();

    /// The number of words that a scan of the slots reads, besides one for each chunk.
    fn words_read(slots: &Slots) -> usize {
        let is_read =
            |chunk: &&Chunk| chunk.claimed.len() == 1 || chunk.claims.load(Ordering::Relaxed) > 0;
        slots.chunks().filter(is_read).map(|chunk| chunk.claimed.len()).sum()
    }

    #[test]
    fn a_scan_costs_what_the_current_readers_cost_not_the_most_there_ever_were() {
        let slots = Slots::new();
        let first = slots.claim(NO_DOMAIN);
        let before = (slots.iter().count(), words_read(&slots));
        let many: Vec<_> = (0..10_000).map(|_| slots.claim(NO_DOMAIN)).collect();
        assert_eq!(slots.iter().count(), 10_001);
        assert!(slots.chunks().count() <= 11, "each is twice as large as the one before");
        let distinct: std::collections::HashSet<_> = many.iter().collect();
        assert_eq!(distinct.len(), 10_000);
        // SAFETY: MEM-R3: `slots` lives.
        many.iter().for_each(|slot| unsafe { slot.as_ref() }.give_back());
        let after = (slots.iter().count(), words_read(&slots));
        assert_eq!(after.0, before.0);
        assert!(after.1 <= before.1 + 4, "one for each chunk of up to 64: {after:?}");
        assert!(slots.have(first) && slots.claim(NO_DOMAIN) == many[0], "the lowest is next");
    }

    #[test]
    fn no_two_threads_claim_one_slot() {
        let slots = Slots::new();
        let rounds = |_| {
            for round in 0..2_000 {
                let claimed: Vec<_> = (0..round % 90).map(|_| slots.claim(NO_DOMAIN)).collect();
                let me = thread::current();
                for slot in claimed {
                    // SAFETY: MEM-R3: `slots` lives.
                    let slot = unsafe { slot.as_ref() };
                    assert_eq!(slot.owner(), me, "another thread has it too");
                    slot.give_back();
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|n| _ = scope.spawn(move || rounds(n))));
        assert_eq!(slots.count(), (0, 0));
        assert!(slots.chunks().all(|chunk| chunk.claims.load(Ordering::Relaxed) == 0));
    }
}
