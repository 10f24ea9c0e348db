//! The bench `qp-trie`: an ordered map whose branches are reused at once (its readers validate what
//! they read) or after a grace period (its readers just read).
//!
//! Values are 64-bit numbers. Leaves are reused after a grace period, and only the policy of the
//! branches differs, except for the reader `copied`. Threads stay in one read section for [`BATCH`]
//! operations, like a program that handles a batch of packets or a request, and read the clock no
//! more often than that.

mod beside;
mod btree;
mod check;
#[cfg(test)]
mod faulty;
mod insert_delete;
mod lookup;
mod map;
mod memory;
mod mixed;
mod ordered;
mod ours;
mod questions;
#[cfg(feature = "rivals")]
mod rivals;
mod update;
mod value;
mod walk;

use std::marker::PhantomData;
use std::time::Duration;

use qptrie::Hints;

use super::reader::Reader as ConcurrentReader;
use super::{OnWrong, Params, Selection, Subject, Workload, threads_in_words};
use crate::data::DataSet;
use crate::measure::{NoReadings, Reading, Sampler, Slice, available_cpus};
use map::{OrderedMap, View};
pub(crate) use ours::Reader;
use ours::{Batched, Family, Plain, SubtreeLock, Validated};
use value::{Counted, Value};
use walk::Walk;

/// The name of the bench.
pub(crate) const BENCH: &str = "qp-trie";

/// The cases, in the order in which they run.
pub(crate) const CASES: &[&str] = &[
    "lookup-hit",
    "lookup-miss",
    "lookup-half",
    "update",
    "insert",
    "delete",
    mixed::CASE,
    "iterate",
    "seek",
    "memory",
];

/// The parameter of records that names the concurrent reader: `reader` names the trie's own.
pub(crate) const CONCURRENT_READER: &str = "concurrent_reader";

/// The only case that needs two threads.
pub(crate) const NEEDS_TWO_THREADS: &str = mixed::CASE;

/// Operations in one read section.
const BATCH: usize = 64;

/// The duration of a rehearsal.
const REHEARSAL: Slice =
    Slice { measured: Duration::from_millis(10), warm_up: Duration::from_millis(1), turn: None };

/// The turns of a trie are longer by this factor: there is more to bring back into the caches after
/// the other samples' turns.
const LONGER: u32 = 3;

/// With more bytes of keys and entries, samples do not take turns, because the maps of a round are
/// in memory at once.
const MOST_BYTES: usize = 128 << 20;

/// About the bytes of an entry beside its key.
const BYTES_AN_ENTRY: usize = 48;

/// The input of a case.
#[derive(Clone, Copy, Debug)]
struct Setting<'d> {
    data: &'d DataSet,
    threads: usize,
    /// Whether the trie keeps hints.
    hints: Hints,
    /// The reader beside the threads that are measured.
    concurrent: ConcurrentReader,
}

impl Setting<'_> {
    fn slice(&self, slice: Slice) -> Slice {
        let keys = &self.data.keys;
        if keys.total_bytes() + keys.len() * BYTES_AN_ENTRY > MOST_BYTES {
            return slice.whole();
        }
        if self.concurrent.has_thread() {
            return slice.whole();
        }
        Slice { turn: slice.turn.map(|turn| turn * LONGER), ..slice }
    }
}

/// A workload, generic over the map and the kind of value.
trait Case: 'static {
    /// The case names in its readings.
    const NAMES: &'static [&'static str];

    /// Returns those of the selected numbers of threads with which it can run.
    fn threads(wanted: &[usize]) -> Vec<usize> {
        wanted.to_vec()
    }

    /// The time of a sample relative to samples of other cases.
    const SHARE: f64 = 4.0;

    /// True if the case only looks up keys, so that lookups can be batched.
    const LOOKS_UP_ONLY: bool = false;

    /// True if a lock for each first byte makes a difference to the case.
    const TAKES_LOCKS: bool = true;

    /// True if the case needs an ordered map.
    const NEEDS_ORDER: bool = false;

    /// Builds a map, works on it for about the time of `slice`, checks it and drops it.
    fn run<V: Value, M: OrderedMap<V>>(
        setting: Setting<'_>,
        slice: Slice,
    ) -> Result<Vec<Reading>, NoReadings>;
}

/// The subjects to measure.
#[derive(Clone, Debug)]
pub(crate) struct Lineup {
    /// The readers of the trie.
    pub(crate) readers: Vec<Reader>,
    /// The settings of the trie's hints; each reader is measured with each.
    pub(crate) hints: Vec<Hints>,
    /// The concurrent readers; each case is measured beside each.
    pub(crate) concurrent: Vec<ConcurrentReader>,
    /// Set to measure other maps: the standard library's, and the rivals if they are selected.
    pub(crate) others: bool,
}

/// Returns the workloads of the bench.
pub(crate) fn workloads<'d>(
    data: &'d [DataSet],
    selection: &Selection,
    lineup: &Lineup,
) -> Vec<Workload<'d>> {
    let mut workloads = Vec::new();
    for set in data {
        let mut list = TrieWorkloads { data: set, selection, lineup, workloads: &mut workloads };
        list.add::<lookup::LookupHit>();
        list.add::<lookup::LookupMiss>();
        list.add::<lookup::LookupHalf>();
        list.add::<update::Update>();
        list.add::<insert_delete::InsertDelete>();
        list.add::<mixed::Mixed>();
        list.add::<ordered::Iterate>();
        list.add::<ordered::Seek>();
        list.add::<memory::Memory>();
    }
    workloads
}

/// Returns one line for each rival that does not support the keys.
pub(crate) fn left_out(data: &[DataSet], selection: &Selection) -> String {
    let mut remarks = String::new();
    for set in data.iter().filter(|_| selection.rivals) {
        remarks.extend(rivals_that_refuse(set));
    }
    remarks
}

/// Collects the workloads for a set of keys.
struct TrieWorkloads<'d, 'c> {
    data: &'d DataSet,
    selection: &'c Selection,
    lineup: &'c Lineup,
    workloads: &'c mut Vec<Workload<'d>>,
}

impl<'d> TrieWorkloads<'d, '_> {
    fn add<C: Case>(&mut self) {
        if !C::NAMES.iter().any(|case| self.selection.wants(case)) {
            return;
        }
        let (data, cases) = (self.data, C::NAMES.join(" and "));
        for &reader in &self.lineup.concurrent {
            for threads in C::threads(&self.selection.threads) {
                let subjects = self.subjects::<C>(threads, reader);
                let threads_in_words = threads_in_words(threads);
                let sits = reader.sits().then(|| reader.share());
                self.workloads.push(Workload {
                    bench: BENCH,
                    title: format!("{cases}, {}, {threads_in_words}, reader {reader}", data.name),
                    keys: Some(data),
                    threads,
                    share: sits.map_or(C::SHARE, |share| share.max(C::SHARE)),
                    looks_up_only: C::LOOKS_UP_ONLY,
                    shortest: reader.shortest_sample(),
                    subjects,
                });
            }
        }
    }

    fn subjects<C: Case>(&self, threads: usize, concurrent: ConcurrentReader) -> Vec<Subject<'d>> {
        let with = |hints| Setting { data: self.data, threads, hints, concurrent };
        let mut subjects = Vec::new();
        for policy in &self.selection.policies {
            let of_policy = self.lineup.readers.iter().filter(|one| one.policy() == *policy);
            for reader in of_policy {
                let settings = self.lineup.hints.iter().map(|&hints| with(hints));
                subjects.extend(settings.filter_map(|setting| trie_read_by::<C>(*reader, setting)));
            }
        }
        let setting = with(Hints::Off);
        if self.lineup.others {
            let version = "std".to_owned();
            subjects.extend(guest::<C, btree::LockedBTree>("rwlock-btreemap", version, setting));
            if self.selection.rivals {
                subjects.extend(rivals::<C>(setting));
            }
        }
        subjects
    }
}

/// Returns the trie with a reader, if the reader makes a difference to the case.
fn trie_read_by<'d, C: Case>(reader: Reader, setting: Setting<'d>) -> Option<Subject<'d>> {
    match reader {
        Reader::Validated => Some(ours::<C, Validated>(setting)),
        Reader::Plain => Some(ours::<C, Plain>(setting)),
        Reader::Batched => C::LOOKS_UP_ONLY.then(|| ours::<C, Batched>(setting)),
        Reader::Copied => Some(copied::<C>(setting)),
        Reader::SubtreeLock => C::TAKES_LOCKS.then(|| ours::<C, SubtreeLock>(setting)),
    }
}

#[cfg(feature = "rivals")]
fn rivals<'d, C: Case>(setting: Setting<'d>) -> Vec<Subject<'d>> {
    rivals::subjects::<C>(setting)
}

/// This build has no rivals: the command line has refused `--rivals`.
#[cfg(not(feature = "rivals"))]
fn rivals<'d, C: Case>(_setting: Setting<'d>) -> Vec<Subject<'d>> {
    Vec::new()
}

#[cfg(feature = "rivals")]
fn rivals_that_refuse(data: &DataSet) -> Option<String> {
    rivals::that_refuse(data)
}

/// This build has no rivals.
#[cfg(not(feature = "rivals"))]
fn rivals_that_refuse(_data: &DataSet) -> Option<String> {
    None
}

fn ours<'d, C: Case, F: Family>(setting: Setting<'d>) -> Subject<'d> {
    read_by(F::READER, setting, Box::new(Ours::<C, F> { setting, played: PhantomData }))
}

/// Returns the trie with copied values, which cannot count their drops.
fn copied<'d, C: Case>(setting: Setting<'d>) -> Subject<'d> {
    let sampler = Guest::<C, ours::Copied> { setting, played: PhantomData };
    read_by(Reader::Copied, setting, Box::new(sampler))
}

fn read_by<'d>(
    reader: Reader,
    setting: Setting<'d>,
    sampler: Box<dyn Sampler + 'd>,
) -> Subject<'d> {
    let mut params = setting.params();
    params.insert("reader".into(), reader.name().into());
    params.insert("hints".into(), hints_in_words(setting.hints).into());
    Subject {
        name: "qptrie",
        policy: Some(reader.policy()),
        params,
        on_wrong: OnWrong::EndTheRun,
        sampler,
    }
}

/// Returns a map of another crate, if it supports the case.
fn guest<'d, C: Case, M: OrderedMap<u64> + 'static>(
    name: &'static str,
    version: String,
    setting: Setting<'d>,
) -> Option<Subject<'d>> {
    if C::NEEDS_ORDER && !M::ORDERED {
        return None;
    }
    let mut params = setting.params();
    params.insert("version".into(), version.into());
    Some(Subject {
        name,
        policy: None,
        params,
        on_wrong: OnWrong::Withdraw(C::NAMES),
        sampler: Box::new(Guest::<C, M> { setting, played: PhantomData }),
    })
}

impl Setting<'_> {
    fn params(&self) -> Params {
        let mut params = Params::new();
        params.insert("data".into(), self.data.name.to_string().into());
        params.insert("source".into(), self.data.source.clone().into());
        params.insert("entries".into(), self.data.keys.len().into());
        params.insert(CONCURRENT_READER.into(), self.concurrent.to_string().into());
        let at_work = self.threads + usize::from(self.concurrent.wants_cpu());
        params.insert("oversubscribed".into(), (at_work > available_cpus()).into());
        params
    }
}

/// Returns the setting of hints as in records and on the command line.
pub(crate) fn hints_in_words(hints: Hints) -> &'static str {
    if hints == Hints::On { "on" } else { "off" }
}

/// Runs a case on the trie.
struct Ours<'d, C, F> {
    setting: Setting<'d>,
    played: PhantomData<(C, F)>,
}

impl<C: Case, F: Family> Sampler for Ours<'_, C, F> {
    /// Runs the case with values that count their drops: the plain numbers of the samples need no
    /// drop, and a map correctly spends no time on it.
    fn rehearse(&mut self) -> Result<(), NoReadings> {
        C::run::<Counted, F::Map<Counted>>(self.setting, REHEARSAL).map(drop)
    }

    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, NoReadings> {
        C::run::<u64, F::Map<u64>>(self.setting, self.setting.slice(slice))
    }
}

/// Runs a case on a map without counted values.
struct Guest<'d, C, M> {
    setting: Setting<'d>,
    played: PhantomData<fn() -> (C, M)>,
}

impl<C: Case, M: OrderedMap<u64>> Sampler for Guest<'_, C, M> {
    /// All checks are part of the samples.
    fn rehearse(&mut self) -> Result<(), NoReadings> {
        Ok(())
    }

    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, NoReadings> {
        C::run::<u64, M>(self.setting, self.setting.slice(slice))
    }
}

/// Builds a map with every key of the data set, each with its number as value.
fn filled<V: Value, M: OrderedMap<V>>(setting: Setting<'_>) -> Result<M, NoReadings> {
    let Setting { data, hints, .. } = setting;
    let map = M::build(hints)?;
    let mut findings = check::Findings::default();
    let mut walk = Walk::through(&data.arrivals, 0..data.arrivals.len());
    while walk.passes() == 0 {
        let view = map.pin();
        for _ in 0..BATCH.min(walk.left()) {
            let (number, key) = walk.next();
            findings.check_before("inserting", key, view.insert(key, number.into()), None);
        }
    }
    check::missed([&findings])?;
    check::len(&map, data.keys.len())?;
    Ok(map)
}
