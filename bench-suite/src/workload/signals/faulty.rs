//! Heaps that are wrong on purpose: every fault has to end the run.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use memalloc::MemAlloc;

use super::heap::Way;
use super::hold::Hold;
use super::*;

/// What is wrong with a heap.
const NOTHING: u8 = 0;
/// Now and then it gives out what somebody has.
const TWICE: u8 = 1;
/// Now and then it loses what it is given back.
const LOSES: u8 = 2;
/// After a while it has no more.
const SHORT: u8 = 3;

/// How often "now and then" is, and how long "a while": short enough for the shortest run.
const NOW_AND_THEN: u64 = 50;

/// A right heap that is made wrong.
struct Faulty<const FAULT: u8> {
    alloc: MemAlloc<Immediate>,
    /// What was given out last.
    last: AtomicPtr<AtomicU64>,
    turns: AtomicU64,
}

impl<const FAULT: u8> Faulty<FAULT> {
    fn build() -> Self {
        Self {
            alloc: heap::build(CpuMode::best()).unwrap(),
            last: AtomicPtr::new(ptr::null_mut()),
            turns: AtomicU64::new(0),
        }
    }

    fn strikes(&self, fault: u8) -> bool {
        FAULT == fault && self.turns.fetch_add(1, Ordering::Relaxed) % NOW_AND_THEN == 7
    }

    /// What was given out last, if somebody still has it.
    fn again(&self) -> Option<NonNull<u8>> {
        let last = NonNull::new(self.last.load(Ordering::Relaxed))?;
        // SAFETY: the object is mapped as long as the heap lives, and begins with a word that is
        // only ever accessed atomically.
        let is_held = unsafe { last.as_ref() }.load(Ordering::Relaxed) != 0;
        is_held.then_some(last.cast())
    }

    fn remember(&self, place: NonNull<u8>) -> NonNull<u8> {
        self.last.store(place.cast().as_ptr(), Ordering::Relaxed);
        place
    }
}

impl<const FAULT: u8> Heap for Faulty<FAULT> {
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        if FAULT == SHORT && self.turns.fetch_add(1, Ordering::Relaxed) > NOW_AND_THEN {
            return None;
        }
        let again = self.strikes(TWICE).then(|| self.again()).flatten();
        again.or_else(|| Heap::alloc(&self.alloc, layout).map(|place| self.remember(place)))
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

    fn chore(&self, number: u64) {
        self.alloc.chore(number);
    }

    fn close(self) -> Result<u64, WrongAnswer> {
        self.alloc.close()
    }
}

fn setting(mode: CpuMode) -> Setting {
    Setting { mode, rate_hz: 10_000, threads: 2 }
}

fn slice() -> Slice {
    Slice { measured: Duration::from_millis(4), warm_up: Duration::ZERO }
}

#[track_caller]
fn fails<const FAULT: u8>(what: &str) {
    let end = run(setting(CpuMode::best()), Faulty::<FAULT>::build(), slice());
    let WrongAnswer(reason) = end.unwrap_err();
    assert!(reason.contains(what), "{reason}");
}

#[test]
fn a_heap_without_a_fault_passes() {
    run(setting(CpuMode::best()), Faulty::<NOTHING>::build(), slice()).unwrap();
}

#[test]
fn objects_that_are_lost_or_given_out_twice_or_not_served_end_the_run() {
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
fn a_hold_gives_everything_back() {
    let heap = heap::build::<AfterRcuGp>(CpuMode::best()).unwrap();
    let mut hold = Hold::<16>::new(1);
    for _ in 0..1000 {
        hold.turn_over(&heap, Heap::alloc);
    }
    hold.empty(&heap);
    assert_eq!((hold.asked, hold.refused, hold.duplicated), (1000, 0, 0));
    assert_eq!(heap.close(), Ok(0));
}
