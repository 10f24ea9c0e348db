//! `lookup-hit`: every thread looks up all keys, in random order, again and again. Every value
//! is compared with the number of its key.

use std::marker::PhantomData;

use super::check::{self, Findings};
use super::value::Drops;
use super::walk::Walk;
use super::{BATCH, Case, Family, OrderedMap, Setting, Value, View, filled};
use crate::measure::{Gate, Metric, Reading, Slice, Team, Worker, WrongAnswer};

/// The case.
pub(super) struct LookupHit;

const CASE: &str = "lookup-hit";

impl Case for LookupHit {
    const NAMES: &'static [&'static str] = &[CASE];

    fn run<F: Family, V: Value>(
        Setting { data, threads }: Setting<'_>,
        slice: Slice,
    ) -> Result<Vec<Reading>, WrongAnswer> {
        let drops = Drops::begin();
        let map = filled::<F, V>(data)?;
        let walks = Walk::spaced(&data.queries, 0..data.queries.len(), threads);
        let mut readers: Team<_> = walks.map(|walk| Reader::new(&map, walk)).collect();
        let shift = readers.run_for(slice, || {});

        let false_negatives = check::missed(readers.iter().map(Reader::findings))?;
        drops.close(map, 0)?;
        let mut readings = vec![
            Reading::new(CASE, Metric::OpsPerS, shift.per_second(shift.total())),
            Reading::new(CASE, Metric::FalseNegatives, false_negatives),
        ];
        readings.extend(shift.cpu_share(CASE));
        Ok(readings)
    }
}

/// Looks up keys that are always there and whose values never change.
pub(super) struct Reader<'r, V, M> {
    map: &'r M,
    walk: Walk<'r>,
    findings: Findings,
    /// Lookups, those of the warm-up among them.
    pub(super) lookups: u64,
    values: PhantomData<fn() -> V>,
}

impl<'r, V: Value, M: OrderedMap<V>> Reader<'r, V, M> {
    /// Looks up what lies on `walk`.
    pub(super) fn new(map: &'r M, walk: Walk<'r>) -> Self {
        Self { map, walk, findings: Findings::default(), lookups: 0, values: PhantomData }
    }

    /// What was wrong.
    pub(super) fn findings(&self) -> &Findings {
        &self.findings
    }
}

impl<V: Value, M: OrderedMap<V>> Worker for Reader<'_, V, M> {
    fn work(&mut self, gate: &Gate) -> u64 {
        let mut done = 0;
        loop {
            let view = self.map.pin();
            for _ in 0..BATCH {
                let (number, key) = self.walk.next();
                self.findings.check("looking up", key, view.get(key), Some(number.into()));
            }
            done += BATCH as u64;
            if !gate.is_open() {
                self.lookups += done;
                return done;
            }
        }
    }
}
