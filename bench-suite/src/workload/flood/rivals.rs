//! The rivals: schemes of other crates, over mimalloc, which is called directly.
//!
//! Each sample has a separate collector; dropping it reclaims everything that is still pending, so
//! that the number of reclaimed objects can be compared with the number retired. kovan has one
//! collector for the whole process, which is flushed instead; each sample has a separate process.
//! Each thread counts privately what it reclaims, and adds the count to the total once, when its
//! session ends: no subject pays for a shared counter.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_epoch as epoch;
use haphazard::{HazardPointer, raw::Pointer};
use kovan::{Reclaimable, RetiredNode};
use seize::Guard as _;

use super::object::{Found, Object, Slot};
use super::scheme::{Scheme, Session};
use super::{Reader, Setting};
use crate::measure::{NoReadings, WrongAnswer};
use crate::workload::Subject;
use crate::workload::rivals::{as_kovan_has_it, version};

/// Returns all rivals; `Malloc`, the upper bound of speed, only without readers.
pub(super) fn subjects<'d>(setting: Setting) -> Vec<Subject<'d>> {
    let mut ceiling = Vec::new();
    if setting.reader == Reader::None {
        ceiling.push(rival::<Malloc>(setting, "malloc", "libmimalloc-sys"));
    }
    let schemes = [
        rival::<Epoch>(setting, "crossbeam-epoch", "crossbeam-epoch"),
        rival::<Seize<AS_MADE>>(setting, "seize", "seize"),
        rival::<Seize<4096>>(setting, "seize-4096", "seize"),
        rival::<Haphazard>(setting, "haphazard", "haphazard"),
        with_header(rival::<Kovan>(setting, "kovan", "kovan")),
    ];
    ceiling.into_iter().chain(schemes).collect()
}

fn rival<'d, S: Scheme + 'd>(setting: Setting, name: &'static str, package: &str) -> Subject<'d> {
    let mut subject = setting.subject::<S>(name, None);
    subject.params.insert("version".into(), version(package).into());
    subject.params.insert("allocator".into(), "mimalloc".into());
    subject
}

/// Notes in the record that each block is larger than the object.
fn with_header(mut subject: Subject<'_>) -> Subject<'_> {
    let header = format!("{} B header", size_of::<Node>());
    subject.params.insert("header".into(), header.into());
    subject
}

thread_local! {
    /// Objects that this thread has reclaimed and not yet reported.
    static RECLAIMED: Cell<u64> = const { Cell::new(0) };
    /// Those of them that were live, or not a valid object.
    static WRONG: Cell<u64> = const { Cell::new(0) };
}

/// Frees a retired object.
///
/// # Safety
///
/// The object came from [`Memory::alloc`], was retired once, and no reader can read it.
#[inline]
unsafe fn reclaim(place: NonNull<AtomicU64>) {
    // SAFETY: by the caller's promise the object is not free yet.
    unsafe { count(place) };
    // SAFETY: it came from mimalloc, and is freed once.
    unsafe { libmimalloc_sys::mi_free(place.as_ptr().cast()) };
}

/// Counts an object that is about to be freed.
///
/// # Safety
///
/// The object was retired, and is not free yet.
#[inline]
unsafe fn count(place: NonNull<AtomicU64>) {
    // SAFETY: by the caller's promise.
    let stamp = unsafe { Found::new(place) }.stamp();
    if stamp.is_live() || !stamp.is_stamp() {
        WRONG.set(WRONG.get() + 1);
    }
    RECLAIMED.set(RECLAIMED.get() + 1);
}

/// The counts that threads have reported.
#[derive(Debug)]
struct Counts {
    reclaimed: AtomicU64,
    wrong: AtomicU64,
}

impl Counts {
    const fn new() -> Self {
        Self { reclaimed: AtomicU64::new(0), wrong: AtomicU64::new(0) }
    }

    /// Adds the counts of the calling thread.
    fn report(&self) {
        self.reclaimed.fetch_add(RECLAIMED.take(), Ordering::Relaxed);
        self.wrong.fetch_add(WRONG.take(), Ordering::Relaxed);
    }

    /// Moves the counts of `other` here.
    fn take_over(&self, other: &Self) {
        self.reclaimed.fetch_add(other.reclaimed.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        self.wrong.fetch_add(other.wrong.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The source of a rival's objects, and the counts of those reclaimed.
#[derive(Debug)]
pub(super) struct Memory {
    size: usize,
    counts: Counts,
}

impl Memory {
    fn new(layout: Layout) -> Self {
        Self { size: layout.size(), counts: Counts::new() }
    }

    #[inline]
    fn alloc(&self) -> Option<Object> {
        // SAFETY: it was just handed out, and a stamp fits in.
        Some(unsafe { Object::given_out(self.block()?) })
    }

    /// Returns a block of mimalloc, aligned to 8.
    #[inline]
    fn block(&self) -> Option<NonNull<u8>> {
        // SAFETY: every size is allowed. Memory of 8 bytes is aligned to 8, larger memory at least
        // so.
        NonNull::new(unsafe { libmimalloc_sys::mi_malloc(self.size) }.cast())
    }

    /// Adds the counts of the calling thread.
    fn report(&self) {
        self.counts.report();
    }

    /// Compares the number of retired objects with that of reclaimed ones; nothing may be pending.
    fn close(self, retired: u64) -> Result<(), WrongAnswer> {
        self.report();
        let Counts { reclaimed, wrong } = self.counts;
        let (reclaimed, wrong) = (reclaimed.into_inner(), wrong.into_inner());
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

/// Reports the counts when a session ends. It has to be the last field, so that objects reclaimed
/// by dropping the other fields are counted.
#[derive(Debug)]
pub(super) struct Tally<'s>(&'s Memory);

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.0.report();
    }
}

/// No protection: an object is freed at once, and readers are not allowed. The upper bound of
/// speed.
#[derive(Debug)]
pub(super) struct Malloc(Memory);

impl Scheme for Malloc {
    const PROTECTS_IDENTITY: bool = false;
    const KEEPS_BYTES: bool = false;

    type Session<'s> = Tally<'s>;

    fn build(layout: Layout) -> Result<Self, NoReadings> {
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
        // SAFETY: BEN-F1, by the caller's promise; and no reader reads: see `read`.
        unsafe { reclaim(object.place().cast()) };
    }

    /// Finds nothing: the object in the slot may be free already.
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

impl Scheme for Epoch {
    const PROTECTS_IDENTITY: bool = true;
    const KEEPS_BYTES: bool = false;

    type Session<'s> = EpochSession<'s>;

    fn build(layout: Layout) -> Result<Self, NoReadings> {
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
        // SAFETY: BEN-F1, by the caller's promise: the object was taken out and is retired once.
        // The closure runs when all readers that could have found it have left.
        unsafe { self.handle.pin().defer_unchecked(move || reclaim(place)) };
    }

    #[inline]
    unsafe fn read(&mut self, slot: &Slot, look: impl FnOnce(Option<Found<'_>>)) {
        let _section = self.handle.pin();
        // SAFETY: BEN-F2: loaded from a slot inside the section, which keeps the object.
        look(slot.find().map(|place| unsafe { Found::new(place) }));
    }
}

/// The batch size of seize by default.
pub(super) const AS_MADE: usize = 0;

/// seize, with its guards for the current thread, and with batches of `BATCH` objects.
#[derive(Debug)]
pub(super) struct Seize<const BATCH: usize> {
    collector: seize::Collector,
    memory: Memory,
}

/// See [`Seize`].
#[derive(Debug)]
pub(super) struct SeizeSession<'s> {
    collector: &'s seize::Collector,
    tally: Tally<'s>,
}

impl<const BATCH: usize> Scheme for Seize<BATCH> {
    const PROTECTS_IDENTITY: bool = true;
    const KEEPS_BYTES: bool = false;

    type Session<'s> = SeizeSession<'s>;

    fn build(layout: Layout) -> Result<Self, NoReadings> {
        let memory = Memory::new(layout);
        let collector = seize::Collector::new();
        let collector = if BATCH == AS_MADE { collector } else { collector.batch_size(BATCH) };
        Ok(Self { collector, memory })
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
        // SAFETY: BEN-F1, by the caller's promise: the object was taken out and is retired once.
        // `reclaim` gets the pointer that was retired, when no reader can read it.
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
        // SAFETY: BEN-F2: loaded from a slot inside the section, which keeps the object.
        look(NonNull::new(place).map(|place| unsafe { Found::new(place) }));
    }
}

/// haphazard, with one hazard pointer for each thread.
pub(super) struct Haphazard {
    domain: haphazard::Domain<Family>,
    memory: Memory,
}

/// Type tag of the domain: an object found in one domain is never retired in another, since each
/// field has separate slots.
#[derive(Debug)]
pub(super) struct Family;

/// See [`Haphazard`].
pub(super) struct HaphazardSession<'s> {
    domain: &'s haphazard::Domain<Family>,
    pointer: HazardPointer<'s, Family>,
    tally: Tally<'s>,
}

/// Frees an object when haphazard drops it.
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
        // SAFETY: made once, of a retired object that no reader can read any more.
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

impl Scheme for Haphazard {
    const PROTECTS_IDENTITY: bool = true;
    const KEEPS_BYTES: bool = false;

    type Session<'s> = HaphazardSession<'s>;

    fn build(layout: Layout) -> Result<Self, NoReadings> {
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
        // SAFETY: BEN-F1, by the caller's promise: the object was taken out and is retired once, in
        // the domain of all hazard pointers that are used with these slots.
        unsafe { self.domain.retire_ptr::<AtomicU64, LetGo>(place) };
    }

    #[inline]
    unsafe fn read(&mut self, slot: &Slot, look: impl FnOnce(Option<Found<'_>>)) {
        let found = self.pointer.protect_ptr(slot.pointer());
        // SAFETY: BEN-F2: the hazard pointer keeps the object until it is reset.
        look(found.map(|(place, _)| unsafe { Found::new(place) }));
        self.pointer.reset_protection();
    }
}

/// kovan, whose collector is global: only one of these may exist at a time.
#[derive(Debug)]
pub(super) struct Kovan(Memory);

/// See [`Kovan`].
#[derive(Debug)]
pub(super) struct KovanSession<'s>(Tally<'s>);

/// The header that kovan requires at the start of each block. The object is behind it, in the same
/// block, and slots hold the address of the object.
#[repr(C)]
pub(super) struct Node(RetiredNode);

thread_local! {
    /// True if a session will report what this thread reclaims.
    static IN_SESSION: Cell<bool> = const { Cell::new(false) };
}

/// Counts of objects reclaimed outside sessions: a thread that exits frees all that it still can.
static OUTSIDE: Counts = Counts::new();

/// The most flushes at the end. One flush takes over the rest of all threads that had one number,
/// and numbers are reused: there are at most as many as concurrent threads.
const FLUSHES: usize = 1 << 12;

// SAFETY: the node begins with kovan's header, in the C layout.
unsafe impl Reclaimable for Node {
    fn retired_node(&self) -> &RetiredNode {
        &self.0
    }

    fn retired_node_mut(&mut self) -> &mut RetiredNode {
        &mut self.0
    }

    #[inline]
    unsafe fn dealloc(node: *mut Self) {
        // SAFETY: the object is behind its node. kovan calls this once for each retired object,
        // when no reader can read it any more.
        unsafe { count(NonNull::new_unchecked(node.add(1).cast())) };
        if !IN_SESSION.get() {
            OUTSIDE.report();
        }
        // SAFETY: the block begins with the node, came from mimalloc, and is freed once.
        unsafe { libmimalloc_sys::mi_free(node.cast()) };
    }
}

impl Scheme for Kovan {
    const PROTECTS_IDENTITY: bool = true;
    const KEEPS_BYTES: bool = false;

    type Session<'s> = KovanSession<'s>;

    fn build(layout: Layout) -> Result<Self, NoReadings> {
        let (block, _) = Layout::new::<Node>()
            .extend(layout)
            .map_err(|error| WrongAnswer(format!("{} bytes: {error}", layout.size())))?;
        Ok(Self(Memory::new(block)))
    }

    fn session(&self) -> KovanSession<'_> {
        IN_SESSION.set(true);
        KovanSession(Tally(&self.0))
    }

    /// All sections have ended and the threads have exited: a flush reclaims what they could not
    /// free.
    fn close(self, retired: u64) -> Result<(), WrongAnswer> {
        for _ in 0..FLUSHES {
            kovan::flush();
            self.0.report();
            self.0.counts.take_over(&OUTSIDE);
            if self.0.counts.reclaimed.load(Ordering::Relaxed) >= retired {
                break;
            }
        }
        self.0.close(retired)
    }
}

impl Drop for KovanSession<'_> {
    /// Hands in the incomplete batch, so that this thread blocks no other from then on.
    fn drop(&mut self) {
        kovan::flush();
        IN_SESSION.set(false);
    }
}

impl Session for KovanSession<'_> {
    /// Allocates in a section, as kovan's own swap requires one: in it a thread observes new
    /// epochs, and releases what waits for it. A thread that only adds objects would otherwise do
    /// neither, and with objects that were born in an old epoch everything waits for it.
    #[inline]
    fn alloc(&mut self) -> Option<Object> {
        let block = self.0.0.block()?;
        let _section = kovan::pin();
        let node = block.cast::<Node>();
        // SAFETY: the block was just handed out, for a node and an object behind it.
        let place = unsafe {
            node.write(Node(RetiredNode::new()));
            node.add(1)
        };
        place.as_ptr().expose_provenance();
        // SAFETY: as above; a stamp fits in.
        Some(unsafe { Object::given_out(place.cast()) })
    }

    /// Retires without a section: nothing is read.
    #[inline]
    unsafe fn retire(&mut self, object: Object) {
        // SAFETY: the object is behind its node.
        let node = unsafe { object.place().cast::<Node>().sub(1) };
        // SAFETY: BEN-F1, by the caller's promise: the object was taken out and is retired once.
        unsafe { kovan::retire_reclaimable(node.as_ptr()) };
    }

    #[inline]
    unsafe fn read(&mut self, slot: &Slot, look: impl FnOnce(Option<Found<'_>>)) {
        let section = kovan::pin();
        // ORDERING: Acquire, as in `Slot::find`.
        let place = as_kovan_has_it(slot.pointer()).load(Ordering::Acquire, &section).as_raw();
        // SAFETY: BEN-F2: loaded from a slot inside the section, which keeps the object.
        look(NonNull::new(place).map(|place| unsafe { Found::new(place) }));
    }
}
