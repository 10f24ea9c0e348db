//! The bench `qp-trie`: an ordered map whose branches are reused at once (its readers validate
//! what they read) or after a grace period (its readers just read).
//!
//! Values are 64-bit numbers and leaves are always reused after a grace period: only the policy
//! of the branches differs. Threads stay in one read section for [`BATCH`] operations, as a
//! program does that handles a batch of packets or a request, and look at the clock no more
//! often than that.

mod check;
#[cfg(test)]
mod faulty;
mod insert_delete;
mod lookup;
mod map;
mod memory;
mod mixed;
mod update;
mod value;
mod walk;

use std::marker::PhantomData;
use std::time::Duration;

use memalloc::{AfterRcuGp, Immediate, PolicyKind};

use super::{Competitor, Contest, Params, Selection, threads_in_words};
use crate::data::DataSet;
use crate::measure::{Entrant, Reading, Slice, WrongAnswer};
use map::{Family, OrderedMap, Qp, View};
use value::{Counted, Value};
use walk::Walk;

/// The name of the bench.
pub(crate) const BENCH: &str = "qp-trie";

/// The cases, in the order in which they run.
pub(crate) const CASES: &[&str] =
    &["lookup-hit", "update", "insert", "delete", mixed::CASE, "memory"];

/// The one case that needs two threads.
pub(crate) const NEEDS_TWO_THREADS: &str = mixed::CASE;

/// Operations in one read section.
const BATCH: usize = 64;

/// How long a rehearsal measures.
const REHEARSAL: Slice =
    Slice { measured: Duration::from_millis(10), warm_up: Duration::from_millis(1) };

/// What a case runs on.
#[derive(Clone, Copy, Debug)]
struct Setting<'d> {
    data: &'d DataSet,
    threads: usize,
}

/// A workload, over any map and any kind of value.
trait Case: 'static {
    /// The names under which its readings are filed.
    const NAMES: &'static [&'static str];

    /// The numbers of threads that it can run with, of those that are wanted.
    fn threads(wanted: &[usize]) -> Vec<usize> {
        wanted.to_vec()
    }

    /// How much of the time budget a sample takes.
    const SHARE: f64 = 4.0;

    /// Builds a map, works on it for about as long as `slice` says, checks it and drops it.
    fn run<F: Family, V: Value>(
        setting: Setting<'_>,
        slice: Slice,
    ) -> Result<Vec<Reading>, WrongAnswer>;
}

/// The contests of the bench.
pub(crate) fn contests<'d>(data: &'d [DataSet], selection: &Selection) -> Vec<Contest<'d>> {
    let mut contests = Vec::new();
    for set in data {
        add::<lookup::LookupHit>(&mut contests, set, selection);
        add::<update::Update>(&mut contests, set, selection);
        add::<insert_delete::InsertDelete>(&mut contests, set, selection);
        add::<mixed::Mixed>(&mut contests, set, selection);
        add::<memory::Memory>(&mut contests, set, selection);
    }
    contests
}

fn add<'d, C: Case>(contests: &mut Vec<Contest<'d>>, data: &'d DataSet, selection: &Selection) {
    if !C::NAMES.iter().any(|case| selection.wants(case)) {
        return;
    }
    for threads in C::threads(&selection.threads) {
        let setting = Setting { data, threads };
        let competitors = selection.policies.iter().filter_map(|&policy| match policy {
            PolicyKind::Immediate => Some(competitor::<C, Qp<Immediate>>(setting)),
            PolicyKind::AfterRcuGp => Some(competitor::<C, Qp<AfterRcuGp>>(setting)),
            _ => None,
        });
        contests.push(Contest {
            bench: BENCH,
            title: format!(
                "{}, {}, {}",
                C::NAMES.join(" and "),
                data.name,
                threads_in_words(threads)
            ),
            threads,
            share: C::SHARE,
            competitors: competitors.collect(),
        });
    }
}

fn competitor<'d, C: Case, F: Family>(setting: Setting<'d>) -> Competitor<'d> {
    let mut params = Params::new();
    params.insert("data".into(), setting.data.name.to_string().into());
    params.insert("source".into(), setting.data.source.clone().into());
    params.insert("entries".into(), setting.data.keys.len().into());
    params.insert("reader".into(), F::READER.into());
    let entrant = Box::new(Player::<C, F> { setting, played: PhantomData });
    Competitor { subject: F::SUBJECT, policy: F::POLICY, params, apart: false, entrant }
}

/// Plays a case on one kind of map.
struct Player<'d, C, F> {
    setting: Setting<'d>,
    played: PhantomData<(C, F)>,
}

impl<C: Case, F: Family> Entrant for Player<'_, C, F> {
    /// Runs the case with values that count their drops: plain numbers, which the samples use,
    /// need no drop, and a map rightly spends no time on it.
    fn rehearse(&mut self) -> Result<(), WrongAnswer> {
        C::run::<F, Counted>(self.setting, REHEARSAL).map(drop)
    }

    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, WrongAnswer> {
        C::run::<F, u64>(self.setting, slice)
    }
}

/// A map with every key of the data set, each with its number as value.
fn filled<F: Family, V: Value>(data: &DataSet) -> Result<F::Map<V>, WrongAnswer> {
    let map = F::Map::<V>::build()?;
    let mut walk = Walk::through(&data.arrivals, 0..data.arrivals.len());
    while walk.passes() == 0 {
        let view = map.pin();
        for _ in 0..BATCH.min(walk.left()) {
            let (number, key) = walk.next();
            check::same("inserting", key, view.insert(key, number.into())?, None)?;
        }
    }
    check::len(&map, data.keys.len())?;
    Ok(map)
}
