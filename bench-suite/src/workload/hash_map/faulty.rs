//! Maps with deliberate faults, each of which has to end the run; and the real maps, which have to
//! pass the same checks.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate};

use super::map::{Keys, Map, Session, Task, compare, wrong_value};
use super::ours::{Batched, Callbacks, Elements, InBatches, Table};
use super::recycled::Recycling;
use super::threads::run;
use super::{htab_mem, map_perf};
use crate::measure::{Metric, NoReadings, Reading, Slice, WrongAnswer};
use crate::workload::reader::Reader;

/// The fault of a map: none.
const NOTHING: u8 = 0;
/// It loses some keys.
const FORGETFUL: u8 = 1;
/// It gives a key the value of another.
const CONFUSED: u8 = 2;
/// It keeps a deleted key.
const CLINGING: u8 = 3;
/// A reader finds a wrong value.
const TEARING: u8 = 4;

/// A map under a lock.
struct Faulty<const FAULT: u8> {
    map: Mutex<BTreeMap<u32, u64>>,
    tasks: Vec<Task>,
}

impl<const FAULT: u8> Map for Faulty<FAULT> {
    type Session<'m> = (&'m Self, Task);

    fn build(tasks: &[Task], _value_size: usize) -> Result<Self, NoReadings> {
        Ok(Self { map: Mutex::default(), tasks: tasks.to_vec() })
    }

    fn session(&self, thread: usize) -> (&Self, Task) {
        (self, self.tasks[thread])
    }

    fn close(self, keys: &[u32]) -> Result<(), WrongAnswer> {
        let map = self.map.into_inner().unwrap();
        compare(&map.keys().copied().collect::<Vec<_>>(), keys)?;
        match map.iter().find(|(key, stamp)| u64::from(**key) != **stamp) {
            Some((key, stamp)) => Err(wrong_value(*key, *stamp)),
            None => Ok(()),
        }
    }
}

impl<const FAULT: u8> Session for (&Faulty<FAULT>, Task) {
    fn run(&mut self, keys: Keys) -> Result<(), WrongAnswer> {
        let mut map = self.0.map.lock().unwrap();
        let is_fault = |fault, key: u32| FAULT == fault && key.is_multiple_of(7);
        let add = |map: &mut BTreeMap<u32, u64>, key: u32| {
            let stamp = if is_fault(CONFUSED, key) { key + 1 } else { key };
            let is_lost = is_fault(FORGETFUL, key);
            !is_lost && map.insert(key, stamp.into()).is_some()
        };
        let remove = |map: &mut BTreeMap<u32, u64>, key: u32| match is_fault(CLINGING, key) {
            true => map.contains_key(&key),
            false => map.remove(&key).is_some(),
        };
        let wrong = || Err(WrongAnswer("an operation failed".into()));
        let mut phase = |task: Task| {
            for key in keys.iter() {
                let is_right = match task {
                    Task::Overwrite => {
                        add(&mut map, key);
                        true
                    }
                    Task::Add => !add(&mut map, key),
                    Task::Delete => remove(&mut map, key),
                    Task::UpdateAndDelete => !add(&mut map, key) && remove(&mut map, key),
                    _ => true,
                };
                if !is_right {
                    return wrong();
                }
            }
            Ok(())
        };
        match self.1 {
            Task::AddAndDelete => phase(Task::Add).and_then(|()| phase(Task::Delete)),
            Task::Read if FAULT == TEARING => Err(wrong_value(1, 2)),
            task => phase(task),
        }
    }

    fn sit(&mut self, key: u32, meanwhile: impl FnOnce()) -> Result<(), WrongAnswer> {
        meanwhile();
        if FAULT == TEARING { Err(wrong_value(key, 0)) } else { Ok(()) }
    }
}

fn slice() -> Slice {
    Slice::new(Duration::from_millis(4), None)
}

fn setting(case: &'static str, value_size: usize, reader: Reader) -> htab_mem::Setting {
    htab_mem::Setting { case, value_size, reader, threads: 2 }
}

fn end<M: Map>(case: &'static str, reader: Reader) -> Result<(), NoReadings> {
    run::<M>(setting(case, 8, reader).plan(), slice()).map(|_| ())
}

#[track_caller]
fn fails<M: Map>(case: &'static str, what: &str) {
    let reason = end::<M>(case, Reader::None).unwrap_err().to_string();
    assert!(reason.contains(what), "{reason}");
}

#[test]
fn a_map_without_a_fault_passes() {
    for case in htab_mem::CASES {
        for reader in Reader::USUAL {
            end::<Faulty<NOTHING>>(case, reader).unwrap();
        }
    }
}

#[test]
fn a_lost_key_is_detected() {
    fails::<Faulty<FORGETFUL>>("overwrite", "and should have 128");
    fails::<Faulty<FORGETFUL>>("batch-add-batch-del", "failed");
    fails::<Faulty<FORGETFUL>>("add-del-on-diff-cpu", "");
}

#[test]
fn the_value_of_another_key_is_detected() {
    fails::<Faulty<CONFUSED>>("overwrite", "the value of key 0 is that of 1");
}

#[test]
fn a_key_that_survives_its_deletion_is_detected() {
    fails::<Faulty<CLINGING>>("batch-add-batch-del", "failed");
}

#[test]
fn a_wrong_value_in_a_read_section_is_detected() {
    for reader in [Reader::Idle, Reader::Busy, Reader::Stall(1)] {
        let reason = end::<Faulty<TEARING>>("no-op", reader).unwrap_err().to_string();
        assert!(reason.contains("the value of key"), "{reader}: {reason}");
    }
}

#[test]
fn an_element_that_is_never_freed_is_detected() {
    let shape = hash_table::Shape::new(16, 1).unwrap();
    let (elements, memory) = InBatches::<AfterRcuGp>::build(shape).unwrap();
    let table = hash_table::HashTable::new(shape, memory);
    table.update(7, &[7]).unwrap();
    // A table that is never dropped frees nothing.
    std::mem::forget(table);
    let WrongAnswer(reason) = elements.close().unwrap_err();
    assert!(reason.contains("has not run after a barrier"), "{reason}");
}

#[test]
fn every_case_reader_and_size_runs_under_every_policy() {
    fn passes<M: Map>(is_for_sitting_readers: bool) {
        for case in htab_mem::CASES {
            for reader in Reader::USUAL {
                if reader.sits() && !is_for_sitting_readers {
                    continue;
                }
                let sizes = if reader == Reader::None { &[8, 4096][..] } else { &[64] };
                for &value_size in sizes {
                    let setting = setting(case, value_size, reader);
                    let outcome = run::<M>(setting.plan(), slice())
                        .unwrap_or_else(|wrong| panic!("{setting:?}: {wrong:?}"));
                    let readings = outcome.readings(case, reader);
                    let has = |metric| readings.iter().any(|one| one.metric == metric);
                    assert_eq!(readings[0].metric, Metric::OpsPerS);
                    // In a short sample, one thread of a pair may wait for the other all the time.
                    let is_pair = *case == htab_mem::NEEDS_PAIRS;
                    assert!(readings[0].value > 0.0 || is_pair, "{setting:?}");
                    assert_eq!(has(Metric::LookupsPerS), reader == Reader::Busy);
                    assert!(has(Metric::MemPeakBytes) || !cfg!(target_os = "linux"));
                }
            }
        }
    }
    passes::<Batched<Immediate>>(true);
    passes::<Batched<AfterRcuGp>>(true);
    passes::<Batched<FreeAfterRcuGp>>(true);
    passes::<Batched<AfterTasksTraceGp>>(true);
    passes::<Callbacks<false>>(false);
    passes::<Callbacks<true>>(false);
    #[cfg(target_os = "linux")]
    if super::kernel_is_left_out().is_none() {
        passes::<super::kernel::Kernel<false>>(false);
        passes::<super::kernel::Kernel<true>>(false);
    }
}

#[test]
fn the_table_alone_runs_without_an_allocator() {
    use super::threads::Plan;

    let (task, reader) = (Task::UpdateAndDelete, Reader::None);
    let plan = Plan { task, threads: 2, value_size: 8, reader };
    assert!(run::<Table<Recycling>>(plan, slice()).unwrap().ops_per_s() > 0.0);
}

#[test]
fn shares_add_up_and_are_never_below_zero() {
    let values = |all, immediate, alone| {
        map_perf::shares(all, immediate, alone).map(|Reading { value, .. }| value)
    };
    assert_eq!(values(1.0, 2.0, 4.0), [0.25, 0.25, 0.5]);
    assert_eq!(values(2.0, 2.0, 4.0), [0.5, 0.5, 0.0], "immediate reuse has no grace periods");
    assert_eq!(values(3.0, 2.0, 4.0), [0.75, 0.75, 0.0], "noise");
}
