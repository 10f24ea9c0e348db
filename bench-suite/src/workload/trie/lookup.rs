//! `lookup-hit`, `lookup-miss` and `lookup-half`: every thread looks up all keys, in random order,
//! repeatedly; or as many keys that do not exist, each one byte away from an existing key; or both,
//! one of them at random for each lookup. Every answer is compared with the expected one.

use std::marker::PhantomData;

use super::beside::beside_reader;
use super::check::{self, Findings};
use super::map::{OrderedMap, View};
use super::questions::{Absent, Half, Present, Questions};
use super::value::Drops;
use super::walk::Walk;
use super::{BATCH, Case, Setting, Value, filled};
use crate::measure::{Gate, Metric, NoReadings, Reading, Slice, Team, Worker};

/// Lookups of existing keys.
pub(super) struct LookupHit;

/// Lookups of keys that do not exist.
pub(super) struct LookupMiss;

/// Lookups of existing keys and of keys that do not exist, half of each.
pub(super) struct LookupHalf;

/// The number of keys in a batched lookup, for maps that have one.
const AT_ONCE: usize = 16;

const _: () = assert!(BATCH.is_multiple_of(AT_ONCE));

impl Case for LookupHit {
    const NAMES: &'static [&'static str] = &["lookup-hit"];
    const LOOKS_UP_ONLY: bool = true;

    fn run<V: Value, M: OrderedMap<V>>(
        setting: Setting<'_>,
        slice: Slice,
    ) -> Result<Vec<Reading>, NoReadings> {
        let queries = &setting.data.queries;
        let walks = Walk::spaced(queries, 0..queries.len(), setting.threads);
        run::<V, M, _>(Self::NAMES[0], setting, walks.map(Present), slice)
    }
}

impl Case for LookupMiss {
    const NAMES: &'static [&'static str] = &["lookup-miss"];
    const LOOKS_UP_ONLY: bool = true;

    fn run<V: Value, M: OrderedMap<V>>(
        setting: Setting<'_>,
        slice: Slice,
    ) -> Result<Vec<Reading>, NoReadings> {
        let queries = setting.data.absent();
        let walks = Walk::spaced(queries, 0..queries.len(), setting.threads);
        run::<V, M, _>(Self::NAMES[0], setting, walks.map(Absent), slice)
    }
}

impl Case for LookupHalf {
    const NAMES: &'static [&'static str] = &["lookup-half"];
    const LOOKS_UP_ONLY: bool = true;

    fn run<V: Value, M: OrderedMap<V>>(
        setting: Setting<'_>,
        slice: Slice,
    ) -> Result<Vec<Reading>, NoReadings> {
        let [present, absent] = [&setting.data.queries, setting.data.absent()]
            .map(|queries| Walk::spaced(queries, 0..queries.len(), setting.threads));
        let both = (0..).zip(present.zip(absent));
        let halves = both.map(|(seed, (present, absent))| Half::new(present, absent, seed));
        run::<V, M, _>(Self::NAMES[0], setting, halves, slice)
    }
}

/// Runs a thread for each of `questions`.
fn run<'d, V: Value, M: OrderedMap<V>, Q: Questions<'d>>(
    case: &'static str,
    setting: Setting<'d>,
    questions: impl Iterator<Item = Q>,
    slice: Slice,
) -> Result<Vec<Reading>, NoReadings> {
    let drops = Drops::begin();
    let map = filled::<V, M>(setting)?;
    let mut readers: Team<_> = questions.map(|questions| Reader::new(&map, questions)).collect();
    let throughput = beside_reader(&map, setting, || readers.run_for(slice, || {}))?;

    let false_negatives = check::missed(readers.iter().map(Reader::findings))?;
    drop(readers);
    drops.close(map, 0)?;
    let mut readings = vec![
        Reading::new(case, Metric::OpsPerS, throughput.per_second(throughput.total())),
        Reading::new(case, Metric::FalseNegatives, false_negatives),
    ];
    readings.extend(throughput.cpu_share(case));
    Ok(readings)
}

/// Looks up keys that always exist and whose values never change, or that never exist.
pub(super) struct Reader<'r, 'd, V, M, Q> {
    map: &'r M,
    questions: Q,
    findings: Findings,
    /// Lookups, including those of the warm-up.
    pub(super) lookups: u64,
    keys: PhantomData<&'d [u8]>,
    values: PhantomData<fn() -> V>,
}

impl<'r, 'd, V: Value, M: OrderedMap<V>, Q: Questions<'d>> Reader<'r, 'd, V, M, Q> {
    /// Creates a reader that asks `questions`.
    pub(super) fn new(map: &'r M, questions: Q) -> Self {
        let findings = Findings::default();
        Self { map, questions, findings, lookups: 0, keys: PhantomData, values: PhantomData }
    }

    /// Returns the faults.
    pub(super) fn findings(&self) -> &Findings {
        &self.findings
    }

    #[inline]
    fn one(&mut self, view: &M::View<'r>) {
        let (key, right) = self.questions.next();
        self.findings.check("looking up", key, view.get(key), right);
    }

    #[inline]
    fn many(&mut self, view: &M::View<'r>) {
        let asked: [_; AT_ONCE] = std::array::from_fn(|_| self.questions.next());
        let found = view.get_many(asked.map(|(key, _)| key));
        for ((key, right), found) in asked.into_iter().zip(found) {
            self.findings.check("looking up", key, found, right);
        }
    }
}

impl<'d, V: Value, M: OrderedMap<V>, Q: Questions<'d>> Worker for Reader<'_, 'd, V, M, Q> {
    fn work(&mut self, gate: &Gate) -> u64 {
        let mut done = 0;
        loop {
            let view = self.map.pin();
            match M::AT_ONCE {
                true => (0..BATCH / AT_ONCE).for_each(|_| self.many(&view)),
                false => (0..BATCH).for_each(|_| self.one(&view)),
            }
            done += BATCH as u64;
            if !gate.is_open() {
                self.lookups += done;
                return done;
            }
        }
    }
}
