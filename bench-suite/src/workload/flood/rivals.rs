//! The rivals: schemes of other crates, over mimalloc, which is called directly.
//!
//! Each sample has a collector of its own; dropping it runs all that still waits, so that what
//! was reclaimed can be compared with what was retired. Each thread counts what it reclaims by
//! itself, and adds it up once, when its session ends: nobody pays for a shared counter.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_epoch as epoch;
use haphazard::{HazardPointer, raw::Pointer};
use seize::Guard as _;

use super::object::{Found, Object, Slot};
use super::subject::{Session, Subject};
use super::{Reader, Setting};
use crate::measure::WrongAnswer;
use crate::workload::Competitor;
use crate::workload::rivals::version;

/// All of them; the ceiling only where nobody reads.
pub(super) fn competitors<'d>(setting: Setting) -> Vec<Competitor<'d>> {
    let mut ceiling = Vec::new();
    if setting.reader == Reader::None {
        ceiling.push(rival::<Malloc>(setting, "malloc", "libmimalloc-sys"));
    }
    let schemes = [
        rival::<Epoch>(setting, "crossbeam-epoch", "crossbeam-epoch"),
        rival::<Seize>(setting, "seize", "seize"),
        rival::<Haphazard>(setting, "haphazard", "haphazard"),
    ];
    ceiling.into_iter().chain(schemes).collect()
}

fn rival<'d, S: Subject + 'd>(
    setting: Setting,
    subject: &'static str,
    package: &str,
) -> Competitor<'d> {
    let mut competitor = setting.competitor::<S>(subject, None);
    competitor.params.insert("version".into(), version(package).into());
    competitor.params.insert("allocator".into(), "mimalloc".into());
    competitor
}

thread_local! {
    /// What this thread has reclaimed and not yet reported.
    static RECLAIMED: Cell<u64> = const { Cell::new(0) };
    /// What of it was live, or no object at all.
    static WRONG: Cell<u64> = const { Cell::new(0) };
}

/// Frees an object that was retired.
///
/// # Safety
///
/// The object came from [`Memory::alloc`], was retired once, and no reader can look at it.
#[inline]
unsafe fn reclaim(place: NonNull<AtomicU64>) {
    // SAFETY: by the caller's promise the object is not free yet.
    let stamp = unsafe { Found::new(place) }.stamp();
    if stamp.is_live() || !stamp.is_stamp() {
        WRONG.set(WRONG.get() + 1);
    }
    RECLAIMED.set(RECLAIMED.get() + 1);
    // SAFETY: it came from mimalloc, and is freed once.
    unsafe { libmimalloc_sys::mi_free(place.as_ptr().cast()) };
}

/// Where the objects of a rival come from, and how many came back.
#[derive(Debug)]
pub(super) struct Memory {
    size: usize,
    reclaimed: AtomicU64,
    wrong: AtomicU64,
}

impl Memory {
    fn new(layout: Layout) -> Self {
        let size = layout.size();
        Self { size, reclaimed: 0.into(), wrong: 0.into() }
    }

    #[inline]
    fn alloc(&self) -> Option<Object> {
        // SAFETY: any size may be asked for. Memory of eight bytes is aligned to eight, larger
        // memory at least so.
        let place = NonNull::new(unsafe { libmimalloc_sys::mi_malloc(self.size) })?;
        // SAFETY: it was just given out, and a stamp fits in.
        Some(unsafe { Object::given_out(place.cast()) })
    }

    /// Takes over what the calling thread has counted.
    fn report(&self) {
        self.reclaimed.fetch_add(RECLAIMED.take(), Ordering::Relaxed);
        self.wrong.fetch_add(WRONG.take(), Ordering::Relaxed);
    }

    /// Compares what was retired with what was reclaimed, once nothing waits any more.
    fn close(self, retired: u64) -> Result<(), WrongAnswer> {
        self.report();
        let (reclaimed, wrong) = (self.reclaimed.into_inner(), self.wrong.into_inner());
        if wrong > 0 {
            return Err(WrongAnswer(format!("{wrong} objects were reclaimed while in use")));
        }
        if reclaimed != retired {
            return Err(WrongAnswer(format!(
                "{retired} objects were retired and {reclaimed} reclaimed"
            )));
        }
        Ok(())
    }
}

/// Reports when a session ends. It has to be the last field, so that what the others reclaim
/// when they are dropped is counted.
#[derive(Debug)]
pub(super) struct Tally<'s>(&'s Memory);

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.0.report();
    }
}

/// No protection: an object is freed at once. Nobody may read: the ceiling.
#[derive(Debug)]
pub(super) struct Malloc(Memory);

impl Subject for Malloc {
    const PROTECTS_IDENTITY: bool = false;
    const KEEPS_BYTES: bool = false;

    type Session<'s> = Tally<'s>;

    fn build(layout: Layout) -> Result<Self, WrongAnswer> {
        Ok(Self(Memory::new(layout)))
    }

    fn session(&self) -> Tally<'_> {
        Tally(&self.0)
    }

    fn close(self, retired: u64) -> Result<(), WrongAnswer> {
        self.0.close(retired)
    }
}

impl Session for Tally<'_> {
    #[inline]
    fn alloc(&mut self) -> Option<Object> {
        self.0.alloc()
    }

    #[inline]
    unsafe fn retire(&mut self, object: Object) {
        // SAFETY: INV-F1, by the caller's promise; and no reader ever looks: see `read`.
        unsafe { reclaim(object.place().cast()) };
    }

    /// Finds nothing: what is there may be free by now.
    unsafe fn read(&mut self, _slot: &Slot, look: impl FnOnce(Option<Found<'_>>)) {
        look(None);
    }
}

/// crossbeam-epoch, with a local handle for each thread.
#[derive(Debug)]
pub(super) struct Epoch {
    collector: epoch::Collector,
    memory: Memory,
}

/// See [`Epoch`].
#[derive(Debug)]
pub(super) struct EpochSession<'s> {
    handle: epoch::LocalHandle,
    tally: Tally<'s>,
}

impl Subject for Epoch {
    const PROTECTS_IDENTITY: bool = true;
    const KEEPS_BYTES: bool = false;

    type Session<'s> = EpochSession<'s>;

    fn build(layout: Layout) -> Result<Self, WrongAnswer> {
        let memory = Memory::new(layout);
        Ok(Self { collector: epoch::Collector::new(), memory })
    }

    fn session(&self) -> EpochSession<'_> {
        EpochSession { handle: self.collector.register(), tally: Tally(&self.memory) }
    }

    fn close(self, retired: u64) -> Result<(), WrongAnswer> {
        drop(self.collector);
        self.memory.close(retired)
    }
}

impl Session for EpochSession<'_> {
    #[inline]
    fn alloc(&mut self) -> Option<Object> {
        self.tally.0.alloc()
    }

    #[inline]
    unsafe fn retire(&mut self, object: Object) {
        let place = object.place().cast();
        // SAFETY: INV-F1, by the caller's promise: the object was taken out and is retired once.
        // The closure runs when all readers that could have found it have left.
        unsafe { self.handle.pin().defer_unchecked(move || reclaim(place)) };
    }

    #[inline]
    unsafe fn read(&mut self, slot: &Slot, look: impl FnOnce(Option<Found<'_>>)) {
        let _section = self.handle.pin();
        // SAFETY: INV-F2: loaded from a slot inside the section, which keeps the object.
        look(slot.find().map(|place| unsafe { Found::new(place) }));
    }
}

/// seize, with its guards for the current thread.
#[derive(Debug)]
pub(super) struct Seize {
    collector: seize::Collector,
    memory: Memory,
}

/// See [`Seize`].
#[derive(Debug)]
pub(super) struct SeizeSession<'s> {
    collector: &'s seize::Collector,
    tally: Tally<'s>,
}

impl Subject for Seize {
    const PROTECTS_IDENTITY: bool = true;
    const KEEPS_BYTES: bool = false;

    type Session<'s> = SeizeSession<'s>;

    fn build(layout: Layout) -> Result<Self, WrongAnswer> {
        let memory = Memory::new(layout);
        Ok(Self { collector: seize::Collector::new(), memory })
    }

    fn session(&self) -> SeizeSession<'_> {
        SeizeSession { collector: &self.collector, tally: Tally(&self.memory) }
    }

    fn close(self, retired: u64) -> Result<(), WrongAnswer> {
        drop(self.collector);
        self.memory.close(retired)
    }
}

impl Session for SeizeSession<'_> {
    #[inline]
    fn alloc(&mut self) -> Option<Object> {
        self.tally.0.alloc()
    }

    #[inline]
    unsafe fn retire(&mut self, object: Object) {
        // SAFETY: INV-F1, by the caller's promise: the object was taken out and is retired once.
        // `reclaim` gets the pointer that was retired, when no reader can look at it.
        unsafe {
            self.collector.retire(object.place().cast().as_ptr(), |place, _| {
                reclaim(NonNull::new_unchecked(place));
            });
        }
    }

    #[inline]
    unsafe fn read(&mut self, slot: &Slot, look: impl FnOnce(Option<Found<'_>>)) {
        let section = self.collector.enter();
        // ORDERING: Acquire, as in `Slot::find`.
        let place = section.protect(slot.pointer(), Ordering::Acquire);
        // SAFETY: INV-F2: loaded from a slot inside the section, which keeps the object.
        look(NonNull::new(place).map(|place| unsafe { Found::new(place) }));
    }
}

/// haphazard, with one hazard pointer for each thread.
pub(super) struct Haphazard {
    domain: haphazard::Domain<Family>,
    memory: Memory,
}

/// What was found in one domain is not retired in another: each field has slots of its own.
#[derive(Debug)]
pub(super) struct Family;

/// See [`Haphazard`].
pub(super) struct HaphazardSession<'s> {
    domain: &'s haphazard::Domain<Family>,
    pointer: HazardPointer<'s, Family>,
    tally: Tally<'s>,
}

/// Frees an object when haphazard lets it go.
struct LetGo(NonNull<AtomicU64>);

impl Deref for LetGo {
    type Target = AtomicU64;

    fn deref(&self) -> &AtomicU64 {
        // SAFETY: the object is freed when this is dropped, and not before.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for LetGo {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: made of a retired object that no reader can look at any more, once.
        unsafe { reclaim(self.0) };
    }
}

// SAFETY: the pointer is that of one object, valid until this is dropped.
unsafe impl Pointer<AtomicU64> for LetGo {
    fn into_raw(self) -> *mut AtomicU64 {
        ManuallyDrop::new(self).0.as_ptr()
    }

    unsafe fn from_raw(place: *mut AtomicU64) -> Self {
        // SAFETY: by the caller's promise it is the pointer that was retired, which is not null.
        Self(unsafe { NonNull::new_unchecked(place) })
    }
}

impl Subject for Haphazard {
    const PROTECTS_IDENTITY: bool = true;
    const KEEPS_BYTES: bool = false;

    type Session<'s> = HaphazardSession<'s>;

    fn build(layout: Layout) -> Result<Self, WrongAnswer> {
        let memory = Memory::new(layout);
        Ok(Self { domain: haphazard::Domain::new(&Family), memory })
    }

    fn session(&self) -> HaphazardSession<'_> {
        HaphazardSession {
            domain: &self.domain,
            pointer: HazardPointer::new_in_domain(&self.domain),
            tally: Tally(&self.memory),
        }
    }

    fn close(self, retired: u64) -> Result<(), WrongAnswer> {
        drop(self.domain);
        self.memory.close(retired)
    }
}

impl Session for HaphazardSession<'_> {
    #[inline]
    fn alloc(&mut self) -> Option<Object> {
        self.tally.0.alloc()
    }

    #[inline]
    unsafe fn retire(&mut self, object: Object) {
        let place = object.place().cast().as_ptr();
        // SAFETY: INV-F1, by the caller's promise: the object was taken out and is retired once,
        // in the domain of all hazard pointers that are used with these slots.
        unsafe { self.domain.retire_ptr::<AtomicU64, LetGo>(place) };
    }

    #[inline]
    unsafe fn read(&mut self, slot: &Slot, look: impl FnOnce(Option<Found<'_>>)) {
        let found = self.pointer.protect_ptr(slot.pointer());
        // SAFETY: INV-F2: the hazard pointer keeps the object until it is reset.
        look(found.map(|(place, _)| unsafe { Found::new(place) }));
        self.pointer.reset_protection();
    }
}
