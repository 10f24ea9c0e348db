//! Heaps with deliberate faults, each of which has to end the run; and the real heaps, which have
//! to pass the same checks.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::shape::{PartialShape, standings};

const NOTHING: u8 = 0;
/// It hands out its second object again as its third.
const TWICE: u8 = 1;
/// It reuses objects at once, and claims that it does not.
const HASTY: u8 = 2;
/// It miscounts.
const FORGETFUL: u8 = 3;

/// Objects that are never returned to the system, so that any fault is safe.
struct Faulty<const FAULT: u8> {
    free: Mutex<Vec<&'static [AtomicU64; 512]>>,
    given: Mutex<Vec<&'static [AtomicU64; 512]>>,
    freed: AtomicU64,
}

impl<const FAULT: u8> Heap for Faulty<FAULT> {
    fn build(_shape: &Shape) -> Result<Self, NoReadings> {
        Ok(Self { free: Mutex::default(), given: Mutex::default(), freed: AtomicU64::new(0) })
    }

    fn protects_identity(_sleeping: bool) -> bool {
        true
    }

    fn alloc(&self, _layout: Layout) -> Result<Option<NonNull<u8>>, WrongAnswer> {
        let mut given = self.given.lock().unwrap();
        let again = given.get(1).copied().filter(|_| FAULT == TWICE && given.len() == 2);
        let fresh = || Box::leak(Box::new([const { AtomicU64::new(0) }; 512])) as &'static _;
        let object = again.or_else(|| self.free.lock().unwrap().pop()).unwrap_or_else(fresh);
        given.push(object);
        Ok(Some(NonNull::from(object).cast()))
    }

    unsafe fn free(&self, place: NonNull<u8>, _layout: Layout) {
        self.freed.fetch_add(1, Ordering::Relaxed);
        if FAULT == HASTY {
            // SAFETY: every object is a leaked array.
            self.free.lock().unwrap().push(unsafe { place.cast().as_ref() });
        }
    }

    fn section<R>(&self, _sleeping: bool, read: impl FnOnce() -> R) -> R {
        read()
    }

    fn close(self) -> Result<(), WrongAnswer> {
        let (given, freed) = (self.given.lock().unwrap().len() as u64, self.freed.into_inner());
        let freed = if FAULT == FORGETFUL { freed - 1 } else { freed };
        (given == freed).then_some(()).ok_or_else(|| WrongAnswer("books".into()))
    }
}

fn shape(toml: &str) -> Shape {
    PartialShape::from_toml(toml).unwrap().complete().unwrap()
}

fn slice() -> Slice {
    Slice::new(Duration::from_millis(8), None)
}

fn put<H: Heap>(table: &Table<H>, slot: usize, number: u64) -> Result<(), WrongAnswer> {
    let new = table.alloc(slot, number)?;
    table.swap(slot, new).map(|_| ())
}

/// Takes an object out, frees it, and puts another one in.
fn replace<H: Heap>(table: &Table<H>) -> Result<(), WrongAnswer> {
    if let Some(old) = table.swap(0, None)? {
        table.free(old);
    }
    put(table, 0, 2)
}

/// Updates a few slots; during a read, the object is taken out and another one is put in its slot.
fn scene<H: Heap>() -> Result<(), WrongAnswer> {
    let shape = shape("[shape]\nlive_objects = 2\nthreads = \"1:0.5\"");
    let table = Table::<H>::new(&shape).unwrap();
    put(&table, 0, 0)?;
    put(&table, 1, 1)?;
    let mut inner = Ok(());
    table.look(0, || inner = replace(&table))?;
    inner?;
    table.close(Vec::new(), 3, 1)
}

#[track_caller]
fn fails<H: Heap>(what: &str) {
    let WrongAnswer(reason) = scene::<H>().unwrap_err();
    assert!(reason.contains(what), "{reason}");
}

#[test]
fn a_heap_without_a_fault_passes() {
    use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate};
    scene::<Faulty<NOTHING>>().unwrap();
    scene::<Memalloc<Immediate>>().unwrap();
    scene::<Memalloc<AfterRcuGp>>().unwrap();
    scene::<Memalloc<FreeAfterRcuGp>>().unwrap();
    scene::<Memalloc<AfterTasksTraceGp>>().unwrap();
}

#[test]
fn an_object_that_is_handed_out_twice_is_detected() {
    fails::<Faulty<TWICE>>("was handed out while another thread had it");
}

#[test]
fn an_object_reused_under_a_reader_is_detected() {
    fails::<Faulty<HASTY>>("reused during its section");
}

#[test]
fn a_lost_object_is_detected() {
    fails::<Faulty<FORGETFUL>>("books");
    let shape = shape("[shape]\nlive_objects = 2\nthreads = \"1:0.5\"");
    let table = Table::<Faulty<NOTHING>>::new(&shape).unwrap();
    let WrongAnswer(reason) = table.close(Vec::new(), 1, 0).unwrap_err();
    assert_eq!(reason, "1 objects were put in and 0 came out");
}

#[test]
fn a_fault_ends_the_sample() {
    let shape = shape("[shape]\nlive_objects = 64\nthreads = \"2:1\"");
    let reason = run::<Faulty<TWICE>>(&shape, 1, slice()).unwrap_err().to_string();
    assert!(reason.contains("another thread"), "{reason}");
}

#[test]
fn every_kind_of_shape_runs_under_every_policy() {
    let shapes = [
        "[shape]\nlive_objects = 1000\nsizes = \"8,64:3,4096\"\nthreads = \"1:0.1,1:1\"",
        "[correct]\nsleep = true\n[shape]\nthreads = \"2:0.5\"\nother_cpu_frees = 0.5",
        "[shape]\nlive_objects = 100\nstall_ms = 1.0\nbudget_mib = 2\nthreads = \"3:0.5\"",
        "[correct]\nsignals = \"alloc\"\n[shape]\nfrees_per_s = 20000",
    ];
    for toml in shapes {
        let shape = shape(toml);
        let standings = standings(&shape.demands);
        // Readers that rely on validation check no identity; readers that need more than a policy
        // guarantees are excluded.
        for kind in standings
            .iter()
            .map(|standing| standing.policy)
            .filter(|&policy| !(shape.demands.sleep && policy == PolicyKind::FreeAfterRcuGp))
        {
            let readings = with_policy!(kind, P => run::<Memalloc<P>>(&shape, 1, slice()));
            let readings = readings.unwrap().unwrap_or_else(|wrong| panic!("{toml}: {wrong}"));
            let of = |metric| readings.iter().find(|reading| reading.metric == metric).unwrap();
            assert!(of(Metric::OpsPerS).value > 0.0, "{toml}");
            assert_eq!(of(Metric::RefusedShare).value, 0.0, "{toml}");
            if cfg!(target_os = "linux") {
                // Only that it is measured: it is the peak of the whole process, in which other
                // tests free memory.
                of(Metric::MemPeakBytes);
            }
        }
    }
}

#[test]
fn an_exhausted_budget_refuses_updates_without_a_fault() {
    let shape = shape(
        "[shape]\nlive_objects = 240\nsizes = \"4096\"\nthreads = \"2:1\"\nbudget_mib = 1\n\
         stall_ms = 20.0",
    );
    let slice = Slice { measured: Duration::from_millis(60), ..slice() };
    let readings = run::<Memalloc<memalloc::AfterRcuGp>>(&shape, 1, slice).unwrap();
    let share = readings.iter().find(|reading| reading.metric == Metric::RefusedShare);
    // A refusal may block until the reader leaves its section, so there may be few or none.
    assert!((0.0..=1.0).contains(&share.unwrap().value));
}

#[test]
fn frees_that_are_handed_over_happen_on_the_other_thread() {
    let shape = shape("[shape]\nlive_objects = 64\nthreads = \"2:1\"\nother_cpu_frees = 1");
    let table = Table::<Faulty<NOTHING>>::new(&shape).unwrap();
    let (send, take) = sync_channel(INBOX);
    let (own, inbox) = sync_channel(INBOX);
    let part = parts(&shape).swap_remove(0);
    let mut team: Team<_> =
        [ShapedThread::new(&table, part, Some(inbox), send, 1)].into_iter().collect();
    team.run_for(slice(), || ()).unwrap();
    drop(own);
    assert!(take.try_iter().count() > 0);
}

#[test]
fn updates_keep_to_their_pace() {
    let shape = shape("[shape]\nlive_objects = 64\nthreads = \"1:1\"\nfrees_per_s = 1000");
    let slice = Slice::new(Duration::from_millis(100), Some(Duration::ZERO));
    let readings = run::<Faulty<NOTHING>>(&shape, 1, slice).unwrap();
    let speed = readings.iter().find(|reading| reading.metric == Metric::UpdatesPerS).unwrap();
    // Never faster; how much slower depends on the machine.
    assert!(speed.value > 0.0 && speed.value < 1200.0, "{}", speed.value);
}
