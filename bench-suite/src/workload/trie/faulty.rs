//! Workloads on maps with deliberate faults, each of which has to end the run.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::insert_delete::InsertDelete;
use super::lookup::{LookupHalf, LookupHit, LookupMiss};
use super::map::Before;
use super::memory::Memory;
use super::mixed::Mixed;
use super::ordered::{Iterate, Seek};
use super::update::Update;
use super::*;
use crate::data::DataName;
use crate::measure::WrongAnswer;

/// The fault of a map: none.
const NOTHING: u8 = 0;
/// A lookup sometimes misses a key.
const MISSES: u8 = 1;
/// A removal sometimes leaves the key in the map.
const KEEPS: u8 = 2;
/// An overwritten value sometimes comes back.
const REVERTS: u8 = 3;
/// Replaced and removed values are never dropped.
const LEAKS: u8 = 4;
/// Scans go backwards.
const BACKWARDS: u8 = 5;
/// The length is one too large.
const MISCOUNTS: u8 = 6;
/// A lookup sometimes finds a key that does not exist.
const INVENTS: u8 = 7;
/// A seek sometimes skips an entry.
const SKIPS: u8 = 8;

/// The period of a fault, in operations: often enough for the shortest run.
const NOW_AND_THEN: u64 = 20;

struct Locked<V, const FAULT: u8> {
    entries: Mutex<BTreeMap<Vec<u8>, V>>,
    operations: AtomicU64,
}

impl<V, const FAULT: u8> Locked<V, FAULT> {
    fn strikes(&self, fault: u8) -> bool {
        FAULT == fault && self.operations.fetch_add(1, Relaxed) % NOW_AND_THEN == NOW_AND_THEN - 1
    }
}

impl<V: Value, const FAULT: u8> OrderedMap<V> for Locked<V, FAULT> {
    type View<'m> = &'m Self;

    fn build(_hints: Hints) -> Result<Self, NoReadings> {
        Ok(Self { entries: Mutex::default(), operations: AtomicU64::new(0) })
    }

    fn pin(&self) -> &Self {
        self
    }

    fn len(&self) -> u64 {
        self.entries.lock().unwrap().len() as u64 + u64::from(FAULT == MISCOUNTS)
    }

    fn quiesce(&self) -> Result<(), WrongAnswer> {
        Ok(())
    }

    fn held_at_rest(&self) -> Option<u64> {
        Some(1000)
    }
}

impl<V: Value, const FAULT: u8> View for &Locked<V, FAULT> {
    fn get(&self, key: &[u8]) -> Option<u64> {
        let found = self.entries.lock().unwrap().get(key).map(V::number);
        found.filter(|_| !self.strikes(MISSES)).or_else(|| self.strikes(INVENTS).then_some(0))
    }

    fn insert(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer> {
        let before = self.entries.lock().unwrap().insert(key.to_vec(), V::new(number));
        let given_back = before.as_ref().map(V::number);
        match before {
            Some(before) if self.strikes(REVERTS) => {
                self.entries.lock().unwrap().insert(key.to_vec(), before);
            }
            Some(before) if FAULT == LEAKS => std::mem::forget(before),
            _ => {}
        }
        Ok(Before::Was(given_back))
    }

    fn remove(&self, key: &[u8]) -> Option<u64> {
        let value = self.entries.lock().unwrap().remove(key)?;
        let number = value.number();
        if self.strikes(KEEPS) {
            self.entries.lock().unwrap().insert(key.to_vec(), value);
        } else if FAULT == LEAKS {
            std::mem::forget(value);
        }
        Some(number)
    }

    fn scan(&self, mut each: impl FnMut(&[u8], u64)) {
        let entries = self.entries.lock().unwrap();
        let mut all: Vec<_> = entries.iter().collect();
        if FAULT == BACKWARDS {
            all.reverse();
        }
        all.into_iter().for_each(|(key, value)| each(key, value.number()));
    }

    fn after(&self, key: &[u8]) -> Option<u64> {
        let entries = self.entries.lock().unwrap();
        let mut later = entries.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded));
        if self.strikes(SKIPS) {
            later.next();
        }
        later.next().map(|(_, value)| value.number())
    }
}

fn run<C: Case, const FAULT: u8, V: Value>() -> Result<Vec<Reading>, String> {
    run_beside::<C, FAULT, V>(ConcurrentReader::None)
}

fn run_beside<C: Case, const FAULT: u8, V: Value>(
    concurrent: ConcurrentReader,
) -> Result<Vec<Reading>, String> {
    let data = DataSet::load(&DataName::Random, 1).unwrap();
    let setting = Setting { data: &data, threads: 2, hints: Hints::default(), concurrent };
    C::run::<V, Locked<V, FAULT>>(setting, REHEARSAL).map_err(|wrong| wrong.to_string())
}

#[track_caller]
fn ends<C: Case, const FAULT: u8>(because: &str) {
    let reason = run::<C, FAULT, u64>().expect_err("the fault went unnoticed");
    assert!(reason.contains(because), "{reason}");
}

#[test]
fn a_map_without_a_fault_passes() {
    assert_eq!(run::<LookupHit, NOTHING, u64>().unwrap()[1].value, 0.0);
    assert!(run::<LookupMiss, NOTHING, u64>().is_ok());
    assert!(run::<LookupHalf, NOTHING, u64>().is_ok());
    assert!(run::<Iterate, NOTHING, u64>().is_ok());
    assert!(run::<Seek, NOTHING, u64>().is_ok());
    assert!(run::<Update, NOTHING, u64>().is_ok());
    assert!(run::<InsertDelete, NOTHING, u64>().is_ok());
    assert!(run::<Mixed, NOTHING, u64>().is_ok());
    assert!(run::<Memory, NOTHING, u64>().is_ok());
}

#[test]
fn every_case_runs_beside_every_concurrent_reader() {
    for reader in ConcurrentReader::USUAL {
        assert!(run_beside::<LookupHit, NOTHING, u64>(reader).is_ok(), "{reader}");
        assert!(run_beside::<Update, NOTHING, u64>(reader).is_ok(), "{reader}");
        assert!(run_beside::<InsertDelete, NOTHING, u64>(reader).is_ok(), "{reader}");
        assert!(run_beside::<Mixed, NOTHING, u64>(reader).is_ok(), "{reader}");
        assert!(run_beside::<Iterate, NOTHING, u64>(reader).is_ok(), "{reader}");
        assert!(run_beside::<Seek, NOTHING, u64>(reader).is_ok(), "{reader}");
    }
}

#[test]
fn samples_are_longer_than_the_case_needs_only_beside_a_reader_that_sits() {
    let data = [DataSet::load(&DataName::Random, 1).unwrap()];
    let selection = Selection {
        cases: Memory::NAMES.to_vec(),
        threads: vec![1],
        policies: Vec::new(),
        rivals: false,
        seed: 1,
    };
    let concurrent = ConcurrentReader::USUAL.to_vec();
    let lineup = Lineup { readers: Vec::new(), hints: Vec::new(), concurrent, others: false };
    let shares: Vec<f64> =
        workloads(&data, &selection, &lineup).iter().map(|one| one.share).collect();
    assert_eq!(shares, [Memory::SHARE, Memory::SHARE, Memory::SHARE, 4.0]);
}

/// Nothing else looks up keys in this case.
#[test]
fn the_value_of_another_key_found_by_a_concurrent_reader_ends_the_run() {
    let end = run_beside::<InsertDelete, INVENTS, u64>(ConcurrentReader::Busy);
    let reason = end.expect_err("the fault went unnoticed");
    assert!(reason.contains("a concurrent reader looked up key"), "{reason}");
    assert!(run::<InsertDelete, INVENTS, u64>().is_ok());
}

#[test]
fn a_missed_key_ends_the_run() {
    ends::<LookupHit, MISSES>("found nothing, expected the value");
    ends::<LookupHalf, MISSES>("found nothing, expected the value");
    ends::<Mixed, MISSES>("found nothing, expected the value");
    ends::<Update, MISSES>("found nothing, expected the value");
}

#[test]
fn a_key_that_stays_after_its_removal_ends_the_run() {
    ends::<InsertDelete, KEEPS>("entries instead of 0");
    ends::<Mixed, KEEPS>("expected nothing");
}

#[test]
fn a_value_that_comes_back_ends_the_run() {
    ends::<Update, REVERTS>("expected the value");
}

#[test]
fn a_scan_out_of_order_ends_the_run() {
    ends::<InsertDelete, BACKWARDS>("scanning");
    ends::<Memory, BACKWARDS>("scanning");
    ends::<Iterate, BACKWARDS>("not in the order of their keys");
}

#[test]
fn a_found_key_that_does_not_exist_ends_the_run() {
    ends::<LookupMiss, INVENTS>("expected nothing");
    ends::<LookupHalf, INVENTS>("expected nothing");
}

#[test]
fn a_seek_that_skips_an_entry_ends_the_run() {
    ends::<Seek, SKIPS>("seeking past");
}

#[test]
fn a_wrong_length_ends_the_run() {
    ends::<LookupHit, MISCOUNTS>("reports 16377 entries instead of 16376");
}

/// One test for all cases, because the counters of drops are global.
#[test]
fn a_value_that_is_never_dropped_ends_the_rehearsal() {
    assert!(run::<Update, NOTHING, Counted>().is_ok());
    assert!(run::<InsertDelete, NOTHING, Counted>().is_ok());
    assert!(run::<Mixed, NOTHING, Counted>().is_ok());
    for leak in [
        run::<Update, LEAKS, Counted>(),
        run::<InsertDelete, LEAKS, Counted>(),
        run::<Mixed, LEAKS, Counted>(),
    ] {
        let reason = leak.expect_err("the leak went unnoticed");
        assert!(reason.contains("values were dropped while the map lives"), "{reason}");
    }
}
