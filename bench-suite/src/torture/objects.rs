//! Objects that show what became of them: each says whose it is, how many lives it has had, and has a
//! pattern that follows from its address and its life.
//!
//! ```text
//!  word   | 0: owner | 1: life | 2: mark | 3 …: pattern
//! ```
//!
//! - BEN-T2: every word of an object is an atomic, and only ever accessed as one. Nothing but this file
//!   touches them, and the allocator leaves free objects alone, so that a free one has no owner: all of
//!   its words are 0, or what its last life left.
//! - BEN-T3: an object is freed by value ([`Held`]), by the thread that has it. One that was published was
//!   taken out of its slot before.
//! - BEN-T4: a reader looks at an object only as long as the section lasts in which it found it, and under
//!   a policy that keeps its class for such a section.
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

/// Slots in which readers find objects; the size of what is in one follows from its number.
pub(super) const SLOTS: usize = 16;

const OWNER: usize = 0;
const LIFE: usize = 1;
const MARK: usize = 2;
const PATTERN: usize = 3;

/// What word [`MARK`] of every object is, from its first life on.
const MARKED: u64 = 0x6f62_6a65_6374_2121;

/// What may be pending where little may be, in bytes.
pub(super) const LITTLE_PENDING: u64 = 64 << 10;

/// What a section of a reader keeps of an object that it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeps {
    /// Nothing: it must not be looked at.
    Nothing,
    /// Its class.
    Class,
    /// Itself.
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

/// An object that one thread has.
#[derive(Debug)]
pub(super) struct Held {
    object: NonNull<u8>,
    size: usize,
}

// SAFETY: it is the only holder of the object, whose words are atomics (BEN-T2).
unsafe impl Send for Held {}

/// An object that a reader found, and the life that it was in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    object: NonNull<u8>,
    size: usize,
    life: u64,
}

// SAFETY: as above; it is looked at inside a section, on whichever thread that is (BEN-T4).
unsafe impl Send for Found {}

/// An allocator, and slots in which its objects are published.
#[derive(Debug)]
pub(super) struct Objects<'v, P: ReusePolicy> {
    alloc: MemAlloc<P>,
    slots: [AtomicPtr<u8>; SLOTS],
    by_hand: bool,
    verdict: &'v Verdict,
    gate: &'v Gate,
}

/// How an object is freed that no reader has seen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// As the policy says.
    Policy,
    /// After a grace period.
    Rcu,
    /// At once.
    Unshared,
}

impl<'v, P: ReusePolicy> Objects<'v, P> {
    /// An allocator in the setting of a phase, and nothing in the slots.
    pub(super) fn new(
        phase: &Phase,
        domain: &Domain,
        max_pending: Option<u64>,
        verdict: &'v Verdict,
        gate: &'v Gate,
    ) -> Result<Self, BuildError> {
        let mut builder = MemAlloc::builder().domain(domain.clone()).cpu_mode(phase.mode);
        // Where an object of one size was, none of another finds what it left (BEN-T2).
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
        Ok(Self { alloc: builder.build()?, slots, by_hand: phase.by_hand, verdict, gate })
    }

    /// What a section of such a reader keeps.
    pub(super) fn keeps(&self, section: Section) -> Keeps {
        match (section, P::KIND) {
            (Section::Rcu, PolicyKind::Immediate) if self.by_hand => Keeps::Identity,
            (_, PolicyKind::Immediate) => Keeps::Class,
            (Section::Rcu, _) | (_, PolicyKind::AfterTasksTraceGp) => Keeps::Identity,
            (_, PolicyKind::AfterRcuGp) => Keeps::Class,
            (_, _) => Keeps::Nothing,
        }
    }

    /// An object for `owner`, which is not 0, of the size that slot number `slot` has.
    pub(super) fn take(&self, slot: usize, owner: u64) -> Option<Held> {
        let size = SIZES[slot % SIZES.len()];
        match self.alloc.alloc(layout(size)) {
            Ok(object) => Some(self.taken(object.cast(), size, owner)),
            Err(_) => {
                self.verdict.complain(Wrong::NoMemory, [size as u64, 0, 0]);
                None
            }
        }
    }

    /// The same of what is ready. Async-signal-safe.
    pub(super) fn take_nowait(&self, slot: usize, owner: u64) -> Option<Held> {
        let size = SIZES[slot % SIZES.len()];
        let object = self.alloc.alloc_nowait(layout(size)).ok()?;
        Some(self.taken(object.cast(), size, owner))
    }

    fn taken(&self, object: NonNull<u8>, size: usize, owner: u64) -> Held {
        let held = Held { object, size };
        let before = word(object, OWNER).swap(owner, Ordering::Relaxed);
        if before != 0 {
            self.verdict.complain(Wrong::HandedOutTwice, [address(object), before, owner]);
        }
        held
    }

    /// Begins the next life of an object.
    pub(super) fn fill(&self, held: &Held) {
        let object = held.object;
        let life = word(object, LIFE).load(Ordering::Relaxed) + 1;
        word(object, LIFE).store(life, Ordering::Relaxed);
        word(object, MARK).store(MARKED, Ordering::Relaxed);
        for index in PATTERN..words(held.size) {
            word(object, index).store(pattern(object, life, index), Ordering::Relaxed);
        }
    }

    /// Frees an object that no reader has seen.
    pub(super) fn free(&self, held: Held, owner: u64, way: Way) {
        let Held { object, size } = held;
        let found = word(object, OWNER).swap(0, Ordering::Relaxed);
        if found != owner {
            self.verdict.complain(Wrong::Taken, [address(object), found, owner]);
        }
        // SAFETY: BEN-T3: it was allocated here with this layout, nobody else has it, and no reader.
        unsafe {
            match way {
                Way::Policy => self.alloc.free(object, layout(size)),
                Way::Rcu => self.alloc.free_rcu(object, layout(size)),
                Way::Unshared => self.alloc.free_unshared(object, layout(size)),
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

    fn replace(&self, slot: usize, new: *mut u8) {
        // ORDERING: Release pairs with the Acquire in `find`: a reader sees what was written into the object;
        // Acquire where another thread published the old one.
        let old = self.slots[slot].swap(new, Ordering::AcqRel);
        let Some(old) = NonNull::new(old) else { return };
        let size = SIZES[slot % SIZES.len()];
        let owner = word(old, OWNER).swap(0, Ordering::Relaxed);
        if owner == 0 {
            self.verdict.complain(Wrong::Taken, [address(old), 0, u64::MAX]);
        }
        // SAFETY: BEN-T3: the exchange took it out of its slot, so it is freed once. Readers keep what
        // `keeps` says.
        unsafe {
            match self.by_hand {
                true => self.alloc.free_rcu(old, layout(size)),
                false => self.alloc.free(old, layout(size)),
            }
        }
    }

    /// The object in a slot. The caller is inside a section that keeps at least its class.
    pub(super) fn find(&self, slot: usize) -> Option<Found> {
        // ORDERING: see `replace`.
        let object = NonNull::new(self.slots[slot].load(Ordering::Acquire))?;
        let life = word(object, LIFE).load(Ordering::Relaxed);
        Some(Found { object, size: SIZES[slot % SIZES.len()], life })
    }

    /// Looks at an object that was found earlier in the section, which `keeps` this of it.
    pub(super) fn check(&self, found: Found, keeps: Keeps) {
        let Found { object, size, life } = found;
        let mark = word(object, MARK).load(Ordering::Relaxed);
        if mark != MARKED {
            self.verdict.complain(Wrong::NotAnObject, [address(object), mark, life]);
        }
        let has_identity = keeps == Keeps::Identity;
        let is_changed = |&index: &usize| {
            word(object, index).load(Ordering::Relaxed) != pattern(object, life, index)
        };
        let changed = (PATTERN..words(size)).filter(|_| has_identity).find(is_changed);
        let now = word(object, LIFE).load(Ordering::Relaxed);
        let age = now.wrapping_sub(life);
        self.verdict.saw_age(has_identity, age);
        if has_identity && age != 0 {
            self.verdict.complain(Wrong::TooOld, [address(object), life, now]);
        } else if let Some(index) = changed {
            self.verdict.complain(Wrong::Changed, [address(object), index as u64, life]);
        }
    }

    /// Looks into all caches, or returns what nobody needs: what only other CPUs do to a cache.
    pub(super) fn look_around(&self, which: usize) {
        match which {
            0 => _ = self.alloc.trim(),
            1 => self.alloc.tend(),
            2 => _ = self.alloc.quiesce_timeout(Duration::from_millis(2)),
            3..8 => _ = self.alloc.quiesce_timeout(Duration::ZERO),
            _ => _ = self.alloc.stats(),
        }
    }

    /// Empties all slots, and says whether everything came back. No other thread is left.
    pub(super) fn drain(&self) {
        (0..SLOTS).for_each(|slot| self.withdraw(slot));
        if self.alloc.quiesce_timeout(super::PATIENCE).is_err() {
            self.verdict.complain(Wrong::Waits, [0; 3]);
        }
        let stats = self.alloc.stats();
        let left = [stats.live.objects, stats.pending.objects, stats.taken.objects];
        if left != [0; 3] {
            self.verdict.complain(Wrong::Lost, left);
        }
    }

    /// Whether there is time left. A free may wait for readers, so it is asked between two frees.
    pub(super) fn go_on(&self) -> bool {
        self.gate.is_open()
    }

    /// Where amounts and complaints go.
    pub(super) fn verdict(&self) -> &'v Verdict {
        self.verdict
    }

    /// What the child of a fork does: allocates and frees in every way, and counts.
    pub(super) fn live_on(&self, owner: u64) -> bool {
        let mut held: [Option<Held>; 64] = [const { None }; 64];
        for round in 0..1_000 {
            let new = self.alloc.alloc(layout(SIZES[round % 2])).ok();
            let new = new.map(|new| self.taken(new.cast(), SIZES[round % 2], owner));
            let place = &mut held[round * 7 % 64];
            if let Some(old) = std::mem::replace(place, new) {
                let ways = [Way::Policy, Way::Rcu, Way::Unshared];
                self.free(old, owner, ways[round % ways.len()]);
            }
        }
        let enough = held.iter().flatten().count() == 64;
        held.into_iter().flatten().for_each(|held| self.free(held, owner, Way::Policy));
        enough && self.alloc.stats().taken.objects > 0
    }

    /// Objects that were checked.
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

/// A word of an object that the caller has, or has found in its section.
fn word<'o>(object: NonNull<u8>, index: usize) -> &'o AtomicU64 {
    debug_assert!(index < words(SIZES[1]));
    // SAFETY: BEN-T2: objects are arrays of atomic words, mapped as long as their allocator lives, which
    // outlives every use (BEN-T3, BEN-T4).
    unsafe { object.cast::<AtomicU64>().add(index).as_ref() }
}

/// What a word of an object is in one of its lives.
fn pattern(object: NonNull<u8>, life: u64, index: usize) -> u64 {
    let start = address(object) ^ life.rotate_left(32) ^ index as u64;
    start.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}
