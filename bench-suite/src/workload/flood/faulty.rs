//! Subjects with deliberate faults, each of which has to end the run; and the real subjects, which
//! have to pass the same checks.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use memalloc::{AfterTasksTraceGp, FreeAfterRcuGp, Immediate};

use super::object::{Found, Object, PLACES, Slot};
use super::scheme::Session;
use super::slots::Section;
use super::*;
use crate::measure::{NoReadings, WrongAnswer};

/// The fault of a scheme: none.
const NOTHING: u8 = 0;
/// It hands out the last object once more.
const TWICE: u8 = 1;
/// It reuses objects at once, and claims that it does not.
const HASTY: u8 = 2;
/// It runs out of memory after a while.
const SHORT: u8 = 3;

/// Objects that are never returned to the system, so that any fault is safe.
struct Faulty<const FAULT: u8, const KEEPS: bool> {
    given: Mutex<Given>,
}

#[derive(Default)]
struct Given {
    free: Vec<&'static AtomicU64>,
    last: Option<&'static AtomicU64>,
    count: u64,
}

impl<const FAULT: u8, const KEEPS: bool> Scheme for Faulty<FAULT, KEEPS> {
    const PROTECTS_IDENTITY: bool = true;
    const KEEPS_BYTES: bool = KEEPS;

    type Session<'s> = &'s Self;

    fn build(_layout: Layout) -> Result<Self, NoReadings> {
        Ok(Self { given: Mutex::default() })
    }

    fn session(&self) -> &Self {
        self
    }

    fn close(self, _retired: u64) -> Result<(), WrongAnswer> {
        Ok(())
    }
}

impl<const FAULT: u8, const KEEPS: bool> Session for &Faulty<FAULT, KEEPS> {
    fn alloc(&mut self) -> Option<Object> {
        let mut given = self.given.lock().unwrap();
        given.count += 1;
        if FAULT == SHORT && given.count > 3 {
            return None;
        }
        let again = given.last.filter(|_| FAULT == TWICE && given.count == 2);
        let word = again.or_else(|| given.free.pop());
        let word = word.unwrap_or_else(|| Box::leak(Box::default()));
        given.last = Some(word);
        // SAFETY: the word is never freed; sharing it is the deliberate fault.
        Some(unsafe { Object::given_out(NonNull::from(word).cast()) })
    }

    unsafe fn retire(&mut self, object: Object) {
        if FAULT == HASTY {
            // SAFETY: every object is a leaked word.
            let word = unsafe { object.place().cast().as_ref() };
            self.given.lock().unwrap().free.push(word);
        }
    }

    unsafe fn read(&mut self, slot: &Slot, look: impl FnOnce(Option<Found<'_>>)) {
        // SAFETY: objects are never freed.
        look(slot.find().map(|place| unsafe { Found::new(place) }));
    }
}

/// Puts a few objects, takes one out and puts others in during a read, and closes.
fn scene<S: Scheme>() -> Result<(), WrongAnswer> {
    let table = SlotTable::new(S::build(Layout::new::<u64>()).unwrap(), 1);
    let (mut writes, mut reads) = Default::default();
    let mut writer = table.access(0, &mut writes);
    let mut reader = table.access(0, &mut reads);
    writer.put(0);
    writer.put(1);
    reader.read(Section::Short, 0, 0, || {
        writer.take(0);
        writer.put(2);
        writer.put(2);
    });
    drop((writer, reader));
    table.close([writes, reads].into_iter())
}

#[track_caller]
fn fails<S: Scheme>(what: &str) {
    let WrongAnswer(reason) = scene::<S>().unwrap_err();
    assert!(reason.contains(what), "{reason}");
}

#[test]
fn a_scheme_without_a_fault_passes() {
    scene::<Faulty<NOTHING, true>>().unwrap();
    scene::<Faulty<NOTHING, false>>().unwrap();
    scene::<Memalloc<Immediate>>().unwrap();
    scene::<Memalloc<AfterRcuGp>>().unwrap();
    scene::<Memalloc<FreeAfterRcuGp>>().unwrap();
    scene::<Memalloc<AfterTasksTraceGp>>().unwrap();
}

#[test]
fn an_object_that_is_handed_out_twice_is_detected() {
    fails::<Faulty<TWICE, true>>("was handed out while it was in use");
    fails::<Faulty<TWICE, false>>("was in use elsewhere");
}

#[test]
fn an_object_reused_under_a_reader_is_detected() {
    fails::<Faulty<HASTY, true>>("reused during its section");
}

#[test]
fn exhausted_memory_is_detected() {
    fails::<Faulty<SHORT, true>>("an allocation failed");
}

#[test]
fn a_lost_object_is_detected() {
    let scheme = Memalloc::<AfterRcuGp>::build(Layout::new::<[u64; 32]>()).unwrap();
    let lost = scheme.session().alloc();
    assert!(lost.is_some());
    let WrongAnswer(reason) = scheme.close(0).unwrap_err();
    assert!(reason.contains("1 object (256 bytes) was never freed"), "{reason}");
}

#[test]
fn a_fault_ends_every_role() {
    for case in CASES {
        let setting = Setting { case, size: 8, reader: Reader::None, threads: 2 };
        let end = run::<Faulty<SHORT, true>>(setting, slice());
        assert_eq!(end.unwrap_err().to_string(), "an allocation failed", "{case}");
    }
}

#[test]
fn every_case_and_reader_runs_under_every_policy() {
    for case in CASES {
        for reader in Reader::USUAL.into_iter().chain([Reader::Sleep(1)]) {
            let setting = Setting { case, size: 8, reader, threads: 2 };
            for readings in [
                run::<Memalloc<Immediate>>(setting, slice()).unwrap(),
                run::<Memalloc<AfterRcuGp>>(setting, slice()).unwrap(),
                run::<Memalloc<FreeAfterRcuGp>>(setting, slice()).unwrap(),
                run::<Memalloc<AfterTasksTraceGp>>(setting, slice()).unwrap(),
            ] {
                let names: Vec<_> = readings.iter().map(|reading| reading.metric).collect();
                assert_eq!(names[0], Metric::OpsPerS, "{setting:?}");
                // In a short sample, one thread of a pair may wait for the other all the time.
                assert!(readings[0].value > 0.0 || *case == NEEDS_PAIRS, "{setting:?}");
                assert_eq!(names.contains(&Metric::LookupsPerS), reader == Reader::Busy);
                assert!(names.contains(&Metric::MemPeakBytes), "{setting:?}");
            }
        }
    }
}

/// One test for all rivals: kovan's counters are global, so only one scheme may run at a time.
#[cfg(feature = "rivals")]
#[test]
fn rivals_pass_and_their_counts_are_checked() {
    use super::rivals::{AS_MADE, Epoch, Haphazard, Kovan, Seize};

    fn passes<S: Scheme>() {
        scene::<S>().unwrap();
        for case in CASES {
            for reader in Reader::USUAL {
                let setting = Setting { case, size: 8, reader, threads: 2 };
                run::<S>(setting, slice()).unwrap_or_else(|wrong| panic!("{setting:?}: {wrong:?}"));
            }
        }
        let WrongAnswer(reason) = S::build(Layout::new::<u64>()).unwrap().close(1).unwrap_err();
        assert_eq!(reason, "1 objects were retired and 0 reclaimed");
    }

    passes::<Epoch>();
    passes::<Seize<AS_MADE>>();
    passes::<Seize<4096>>();
    passes::<Haphazard>();
    passes::<Kovan>();
}

#[test]
fn threads_of_a_pair_share_a_lane() {
    let tasks = |case, threads| Setting { case, size: 8, reader: Reader::None, threads }.tasks();
    use Task::{Adds, Deletes, Overwrites};
    assert_eq!(tasks(ADD_DEL, 4), [(Adds, 0), (Deletes, 0), (Adds, 1), (Deletes, 1)]);
    assert_eq!(tasks(OVERWRITE, 2), [(Overwrites, 0), (Overwrites, 1)]);
    assert_eq!(PLACES, 64, "the size of the kernel's batches");
}

fn slice() -> Slice {
    Slice::new(Duration::from_millis(4), None)
}
