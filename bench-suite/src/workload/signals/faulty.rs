//! Heaps with deliberate faults, each of which has to end the run.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, MemAlloc};

use super::heap::Way;
use super::held_objects::HeldObjects;
use super::*;

/// The fault of a heap: none.
const NOTHING: u8 = 0;
/// It sometimes hands out an object that is in use.
const TWICE: u8 = 1;
/// It sometimes loses a freed object.
const LOSES: u8 = 2;
/// It runs out of memory after a while.
const SHORT: u8 = 3;

/// The period of a fault, in calls: short enough for the shortest run.
const NOW_AND_THEN: u64 = 50;

/// The largest layout that is used.
const TAKEN: Layout = Layout::new::<[u64; 512]>();

/// A correct heap with an added fault.
struct Faulty<const FAULT: u8> {
    alloc: MemAlloc<Immediate>,
    /// An object that is held for the whole run. (Only such an object can be handed out twice
    /// without further faults: the owner of any other one may free it.)
    taken: AtomicPtr<u8>,
    turns: AtomicU64,
}

impl<const FAULT: u8> Faulty<FAULT> {
    fn build() -> Self {
        let alloc = heap::build(CpuMode::best()).unwrap();
        let taken = Heap::alloc(&alloc, TAKEN).unwrap();
        // SAFETY: the object is held here, and begins with a word that is only ever accessed
        // atomically.
        unsafe { taken.cast::<AtomicU64>().as_ref() }.store(u64::MAX, Ordering::Relaxed);
        Self { alloc, taken: AtomicPtr::new(taken.as_ptr()), turns: AtomicU64::new(0) }
    }

    fn strikes(&self, fault: u8) -> bool {
        FAULT == fault && self.turns.fetch_add(1, Ordering::Relaxed) % NOW_AND_THEN == 7
    }
}

impl<const FAULT: u8> Heap for Faulty<FAULT> {
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        if FAULT == SHORT && self.turns.fetch_add(1, Ordering::Relaxed) > NOW_AND_THEN {
            return None;
        }
        if self.strikes(TWICE) {
            return NonNull::new(self.taken.load(Ordering::Relaxed));
        }
        Heap::alloc(&self.alloc, layout)
    }

    fn alloc_nowait(&self, layout: Layout) -> Option<NonNull<u8>> {
        Heap::alloc_nowait(&self.alloc, layout)
    }

    unsafe fn free(&self, place: NonNull<u8>, layout: Layout, way: Way) {
        if !self.strikes(LOSES) {
            // SAFETY: the caller's promise.
            unsafe { Heap::free(&self.alloc, place, layout, way) };
        }
    }

    fn slow_call(&self, number: u64) {
        self.alloc.slow_call(number);
    }

    fn close(self) -> Result<u64, WrongAnswer> {
        let taken = NonNull::new(self.taken.load(Ordering::Relaxed)).unwrap();
        // SAFETY: it came from here with this layout, and a side that got it again noticed.
        unsafe { Heap::free(&self.alloc, taken, TAKEN, Way::Plain) };
        self.alloc.close()
    }
}

fn setting(mode: CpuMode) -> Setting {
    Setting { mode, rate_hz: 10_000, threads: 2 }
}

fn slice() -> Slice {
    Slice::new(Duration::from_millis(4), Some(Duration::ZERO))
}

#[track_caller]
fn fails<const FAULT: u8>(what: &str) {
    let end = run(setting(CpuMode::best()), Faulty::<FAULT>::build(), slice());
    let reason = end.unwrap_err().to_string();
    assert!(reason.contains(what), "{reason}");
}

#[test]
fn a_heap_without_a_fault_passes() {
    run(setting(CpuMode::best()), Faulty::<NOTHING>::build(), slice()).unwrap();
}

#[test]
fn lost_objects_duplicated_objects_and_failed_allocations_end_the_run() {
    fails::<LOSES>("objects lost, 0 handed out twice");
    fails::<TWICE>("handed out twice");
    fails::<SHORT>("allocations failed");
}

#[test]
fn every_cpu_mode_and_policy_runs_and_loses_nothing() {
    for &mode in CpuMode::ALL.iter().filter(|mode| mode.is_supported()) {
        for readings in [
            run(setting(mode), heap::build::<Immediate>(mode).unwrap(), slice()).unwrap(),
            run(setting(mode), heap::build::<AfterRcuGp>(mode).unwrap(), slice()).unwrap(),
            run(setting(mode), heap::build::<FreeAfterRcuGp>(mode).unwrap(), slice()).unwrap(),
            run(setting(mode), heap::build::<AfterTasksTraceGp>(mode).unwrap(), slice()).unwrap(),
        ] {
            let value = |metric| {
                let reading = readings.iter().find(|reading| reading.metric == metric);
                reading.map(|reading| reading.value)
            };
            assert!(value(Metric::OpsPerS).is_some_and(|speed| speed > 0.0), "{mode}");
            assert_eq!(value(Metric::Lost), Some(0.0), "{mode}");
            assert_eq!(value(Metric::Duplicated), Some(0.0), "{mode}");
        }
    }
}

#[test]
fn every_held_object_is_freed() {
    let heap = heap::build::<AfterRcuGp>(CpuMode::best()).unwrap();
    let mut objects = HeldObjects::<16>::new(1);
    for _ in 0..1000 {
        objects.turn_over(&heap, Heap::alloc);
    }
    objects.empty(&heap);
    assert_eq!((objects.asked, objects.refused, objects.duplicated), (1000, 0, 0));
    assert_eq!(heap.close(), Ok(0));
}
