//! Objects that show reuse and corruption: each contains its owner, its number of lives, and a
//! pattern that depends on its address and its life. A life begins when the object is filled.
//!
//! ```text
//!  word   | 0: owner | 1: life | 2: mark | 3 …: pattern
//! ```
//!
//! - BEN-T2: every word of an object is an atomic, and is only accessed as one. Only this file
//!   accesses the words, and the allocator does not write to free objects. So a free object has no
//!   owner, and its other words are 0 or left from its last life.
//! - BEN-T3: an object is freed once: by value ([`Held`]), by the thread that owns it, or after an
//!   exchange has removed it from its slot.
//! - BEN-T4: a reader accesses an object only during the section in which it found it, and under a
//!   policy that protects at least the object's class during such a section.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;

use memalloc::rcu::Domain;
use memalloc::{BuildError, Class, ClassTable, MemAlloc, PolicyKind, ReusePolicy, Watermarks};

use super::phases::Phase;
use super::verdict::{Count, Verdict, Wrong};
use crate::measure::Gate;

/// The sizes of objects, in bytes.
const SIZES: [usize; 2] = [64, 256];

/// The number of slots in which readers find objects. The number of a slot decides the size of its
/// object.
pub(super) const SLOTS: usize = 16;

const OWNER: usize = 0;
const LIFE: usize = 1;
const MARK: usize = 2;
const PATTERN: usize = 3;

/// The value of word [`MARK`] of every object, from its first life on.
const MARKED: u64 = 0x6f62_6a65_6374_2121;

/// The limit of pending bytes in a phase with small caches.
pub(super) const SMALL_MAX_PENDING: u64 = 64 << 10;

/// The protection of an object by the section in which a reader found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// None: the object must not be accessed.
    Nothing,
    /// The memory stays an object of the same class, but may be reused.
    Class,
    /// The object is not reused.
    Identity,
}

/// The flavour of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// RCU.
    Rcu,
    /// RCU tasks trace.
    Trace,
}

/// An object that one thread owns.
#[derive(Debug)]
pub(super) struct Held {
    object: NonNull<u8>,
    size: usize,
}

// SAFETY: it is the only handle of its owner, and the words of the object are atomics (BEN-T2).
unsafe impl Send for Held {}

/// An object that a reader found, and its life at that time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    object: NonNull<u8>,
    size: usize,
    life: u64,
}

// SAFETY: the words of the object are atomics (BEN-T2), and any thread in the section may access it
// (BEN-T4).
unsafe impl Send for Found {}

/// An allocator, and the slots in which its objects are published.
#[derive(Debug)]
pub(super) struct Objects<'v, P: ReusePolicy> {
    alloc: MemAlloc<P>,
    slots: [AtomicPtr<u8>; SLOTS],
    uses_free_rcu: bool,
    verdict: &'v Verdict,
    gate: &'v Gate,
}

/// The ways to free an unpublished object.
#[derive(Clone, Copy, Debug)]
pub(super) enum FreeKind {
    /// As the policy says.
    Policy,
    /// After a grace period.
    Rcu,
    /// At once.
    Unshared,
}

impl<'v, P: ReusePolicy> Objects<'v, P> {
    /// Creates an allocator with the settings of a phase, and empty slots.
    pub(super) fn new(
        phase: &Phase,
        domain: &Domain,
        max_pending: Option<u64>,
        verdict: &'v Verdict,
        gate: &'v Gate,
    ) -> Result<Self, BuildError> {
        let mut builder = MemAlloc::builder().domain(domain.clone()).cpu_mode(phase.mode);
        // Otherwise an object could find words that an object of another size left (BEN-T2).
        builder = builder.keep_class(true);
        if let Some(bytes) = max_pending {
            builder = builder.max_pending(bytes);
        }
        let watermarks = Watermarks { low: 1, high: 3, batch: 1, reserve: 0 };
        builder = match phase.small {
            true => {
                let classes = SIZES.map(|size| Class { size, watermarks });
                builder.classes(ClassTable::with_watermarks(&classes)?)
            }
            false => builder.classes(ClassTable::new(&SIZES)?),
        };
        let slots = [const { AtomicPtr::new(ptr::null_mut()) }; SLOTS];
        Ok(Self {
            alloc: builder.build()?,
            slots,
            uses_free_rcu: phase.uses_free_rcu,
            verdict,
            gate,
        })
    }

    /// Returns the protection of published objects by sections of a flavour.
    pub(super) fn protection(&self, section: Section) -> Protection {
        match (section, P::KIND) {
            (Section::Rcu, PolicyKind::Immediate) if self.uses_free_rcu => Protection::Identity,
            (_, PolicyKind::Immediate) => Protection::Class,
            (Section::Rcu, _) | (_, PolicyKind::AfterTasksTraceGp) => Protection::Identity,
            (_, PolicyKind::AfterRcuGp) => Protection::Class,
            (_, _) => Protection::Nothing,
        }
    }

    /// Allocates an object for `owner`, which is not 0, of the size for slot number `slot`.
    pub(super) fn take(&self, slot: usize, owner: u64) -> Option<Held> {
        let size = SIZES[slot % SIZES.len()];
        match self.alloc.alloc(layout(size)) {
            Ok(object) => Some(self.taken(object.cast(), size, owner)),
            Err(_) => {
                self.verdict.report(Wrong::NoMemory, [size as u64, 0, 0]);
                None
            }
        }
    }

    /// Allocates an object without waiting; otherwise the same as [`take`](Self::take).
    /// Async-signal-safe.
    pub(super) fn take_nowait(&self, slot: usize, owner: u64) -> Option<Held> {
        let size = SIZES[slot % SIZES.len()];
        let object = self.alloc.alloc_nowait(layout(size)).ok()?;
        Some(self.taken(object.cast(), size, owner))
    }

    /// Sets the owner of a new object, and reports an error if it already has one.
    fn taken(&self, object: NonNull<u8>, size: usize, owner: u64) -> Held {
        let held = Held { object, size };
        let before = word(object, OWNER).swap(owner, Ordering::Relaxed);
        if before != 0 {
            self.verdict.report(Wrong::HandedOutTwice, [address(object), before, owner]);
        }
        held
    }

    /// Begins the next life of an object: writes its mark and pattern.
    pub(super) fn fill(&self, held: &Held) {
        let object = held.object;
        let life = word(object, LIFE).load(Ordering::Relaxed) + 1;
        word(object, LIFE).store(life, Ordering::Relaxed);
        word(object, MARK).store(MARKED, Ordering::Relaxed);
        for index in PATTERN..words(held.size) {
            word(object, index).store(pattern(object, life, index), Ordering::Relaxed);
        }
    }

    /// Frees an unpublished object.
    pub(super) fn free(&self, held: Held, owner: u64, kind: FreeKind) {
        let Held { object, size } = held;
        let found = word(object, OWNER).swap(0, Ordering::Relaxed);
        if found != owner {
            self.verdict.report(Wrong::Taken, [address(object), found, owner]);
        }
        // SAFETY: BEN-T3: it was allocated here with this layout, it has no other owner, and no
        // reader has seen it.
        unsafe {
            match kind {
                FreeKind::Policy => self.alloc.free(object, layout(size)),
                FreeKind::Rcu => self.alloc.free_rcu(object, layout(size)),
                FreeKind::Unshared => self.alloc.free_unshared(object, layout(size)),
            }
        }
    }

    /// Puts an object into a slot, and frees the one that was there.
    pub(super) fn publish(&self, slot: usize, held: Held) {
        self.replace(slot, held.object.as_ptr());
    }

    /// Empties a slot.
    pub(super) fn withdraw(&self, slot: usize) {
        self.replace(slot, ptr::null_mut());
    }

    /// Exchanges the object in a slot, and frees the old one.
    fn replace(&self, slot: usize, new: *mut u8) {
        // ORDERING: Release pairs with the Acquire in `find`: a reader sees the words of the new
        // object. Acquire pairs with the Release of the thread that published the old object.
        let old = self.slots[slot].swap(new, Ordering::AcqRel);
        let Some(old) = NonNull::new(old) else { return };
        let size = SIZES[slot % SIZES.len()];
        let owner = word(old, OWNER).swap(0, Ordering::Relaxed);
        if owner == 0 {
            self.verdict.report(Wrong::Taken, [address(old), 0, u64::MAX]);
        }
        // SAFETY: BEN-T3: the exchange removed it from its slot, so it is freed once. Readers
        // access it only under the protection that `protection` returns (BEN-T4).
        unsafe {
            match self.uses_free_rcu {
                true => self.alloc.free_rcu(old, layout(size)),
                false => self.alloc.free(old, layout(size)),
            }
        }
    }

    /// Returns the object in a slot. The caller is in a section that protects at least its class.
    pub(super) fn find(&self, slot: usize) -> Option<Found> {
        // ORDERING: see `replace`.
        let object = NonNull::new(self.slots[slot].load(Ordering::Acquire))?;
        let life = word(object, LIFE).load(Ordering::Relaxed);
        Some(Found { object, size: SIZES[slot % SIZES.len()], life })
    }

    /// Checks an object that was found earlier in the section, given its protection by the section.
    pub(super) fn check(&self, found: Found, protection: Protection) {
        let Found { object, size, life } = found;
        let mark = word(object, MARK).load(Ordering::Relaxed);
        if mark != MARKED {
            self.verdict.report(Wrong::NotAnObject, [address(object), mark, life]);
        }
        let has_identity = protection == Protection::Identity;
        let is_changed = |&index: &usize| {
            word(object, index).load(Ordering::Relaxed) != pattern(object, life, index)
        };
        let changed = (PATTERN..words(size)).filter(|_| has_identity).find(is_changed);
        let now = word(object, LIFE).load(Ordering::Relaxed);
        let age = now.wrapping_sub(life);
        self.verdict.count_age(has_identity, age);
        if has_identity && age != 0 {
            self.verdict.report(Wrong::TooOld, [address(object), life, now]);
        } else if let Some(index) = changed {
            self.verdict.report(Wrong::Changed, [address(object), index as u64, life]);
        }
    }

    /// Runs one of the operations that visit the caches of all CPUs: it trims, quiesces or reads
    /// the statistics.
    pub(super) fn maintain(&self, which: usize) {
        match which {
            0 => _ = self.alloc.trim(),
            1 => self.alloc.tend(),
            2 => _ = self.alloc.quiesce_timeout(Duration::from_millis(2)),
            3..8 => _ = self.alloc.quiesce_timeout(Duration::ZERO),
            _ => _ = self.alloc.stats(),
        }
    }

    /// Empties all slots, and reports an error if objects are missing. No other thread may be left.
    pub(super) fn drain(&self) {
        (0..SLOTS).for_each(|slot| self.withdraw(slot));
        if self.alloc.quiesce_timeout(super::END_TIMEOUT).is_err() {
            self.verdict.report(Wrong::Waits, [0; 3]);
        }
        let stats = self.alloc.stats();
        let left = [stats.live.objects, stats.pending.objects, stats.taken.objects];
        if left != [0; 3] {
            self.verdict.report(Wrong::Lost, left);
        }
    }

    /// Returns true until the phase ends. Loops check it between two frees, since each may wait for
    /// readers.
    pub(super) fn has_time(&self) -> bool {
        self.gate.is_open()
    }

    /// Returns the results, to add counts and errors.
    pub(super) fn verdict(&self) -> &'v Verdict {
        self.verdict
    }

    /// Allocates objects, frees them in every way and reads the statistics, in the child of a fork.
    /// Returns false if an allocation failed, or if the statistics count no object as taken.
    pub(super) fn use_in_child(&self, owner: u64) -> bool {
        let mut held: [Option<Held>; 64] = [const { None }; 64];
        for round in 0..1_000 {
            let new = self.alloc.alloc(layout(SIZES[round % 2])).ok();
            let new = new.map(|new| self.taken(new.cast(), SIZES[round % 2], owner));
            let place = &mut held[round * 7 % 64];
            if let Some(old) = std::mem::replace(place, new) {
                let kinds = [FreeKind::Policy, FreeKind::Rcu, FreeKind::Unshared];
                self.free(old, owner, kinds[round % kinds.len()]);
            }
        }
        let enough = held.iter().flatten().count() == 64;
        held.into_iter().flatten().for_each(|held| self.free(held, owner, FreeKind::Policy));
        enough && self.alloc.stats().taken.objects > 0
    }

    /// Adds to the count of checked objects.
    pub(super) fn count_reads(&self, reads: u64) {
        self.verdict.count(Count::Reads, reads);
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, align_of::<AtomicU64>()).unwrap_or(Layout::new::<[u64; 8]>())
}

const fn words(size: usize) -> usize {
    size / size_of::<u64>()
}

fn address(object: NonNull<u8>) -> u64 {
    object.addr().get() as u64
}

/// Returns a word of an object that the caller owns, or has found in its section.
fn word<'o>(object: NonNull<u8>, index: usize) -> &'o AtomicU64 {
    debug_assert!(index < words(SIZES[1]));
    // SAFETY: BEN-T2: objects are arrays of atomic words. They stay mapped while their allocator
    // lives, which outlives every access (BEN-T3, BEN-T4).
    unsafe { object.cast::<AtomicU64>().add(index).as_ref() }
}

/// Returns the value of a word of an object in one of its lives.
fn pattern(object: NonNull<u8>, life: u64, index: usize) -> u64 {
    let start = address(object) ^ life.rotate_left(32) ^ index as u64;
    start.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}
