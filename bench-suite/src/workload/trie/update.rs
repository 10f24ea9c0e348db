//! `update`: every thread overwrites the values of its own part of the keys, in random order,
//! repeatedly. Each write must return the value of the previous write, if the map returns it; at
//! the end every key has the value that was written last.

use std::marker::PhantomData;

use super::beside::beside_reader;
use super::check::{self, Findings};
use super::map::{OrderedMap, View};
use super::value::Drops;
use super::walk::{Walk, versioned};
use super::{BATCH, Case, Setting, Value, filled};
use crate::measure::{Gate, Metric, NoReadings, Reading, Slice, Team, Worker};

/// The case.
pub(super) struct Update;

const CASE: &str = "update";

impl Case for Update {
    const NAMES: &'static [&'static str] = &[CASE];

    fn run<V: Value, M: OrderedMap<V>>(
        setting: Setting<'_>,
        slice: Slice,
    ) -> Result<Vec<Reading>, NoReadings> {
        let Setting { data, threads, .. } = setting;
        let drops = Drops::begin();
        let map = filled::<V, M>(setting)?;
        let walks = Walk::parts(&data.queries, threads);
        let mut writers: Team<_> = walks.map(|walk| Writer::new(&map, walk)).collect();
        let throughput = beside_reader(&map, setting, || writers.run_for(slice, || {}))?;

        let false_negatives = check::missed(writers.iter().map(|writer| &writer.findings))?;
        let replaced = writers.iter().map(|writer| writer.replaced).sum();
        check::len(&map, data.keys.len())?;
        check::lookups(&map, &data.queries, |place, number| {
            let version = writers.iter().find_map(|writer| writer.walk.visits(place));
            versioned(number, version.unwrap_or(0))
        })?;
        drop(writers);
        drops.close(map, replaced)?;
        let mut readings = vec![
            Reading::new(CASE, Metric::OpsPerS, throughput.per_second(throughput.total())),
            Reading::new(CASE, Metric::FalseNegatives, false_negatives),
        ];
        readings.extend(throughput.cpu_share(CASE));
        Ok(readings)
    }
}

struct Writer<'r, V, M> {
    map: &'r M,
    walk: Walk<'r>,
    findings: Findings,
    replaced: u64,
    values: PhantomData<fn() -> V>,
}

impl<'r, V: Value, M: OrderedMap<V>> Writer<'r, V, M> {
    fn new(map: &'r M, walk: Walk<'r>) -> Self {
        Self { map, walk, findings: Findings::default(), replaced: 0, values: PhantomData }
    }
}

impl<V: Value, M: OrderedMap<V>> Worker for Writer<'_, V, M> {
    fn work(&mut self, gate: &Gate) -> u64 {
        let mut done = 0;
        loop {
            let view = self.map.pin();
            for _ in 0..BATCH {
                let version = self.walk.passes();
                let (number, key) = self.walk.next();
                let before = view.overwrite(key, versioned(number, version + 1));
                let right = Some(versioned(number, version));
                self.findings.check_before("overwriting", key, before, right);
            }
            done += BATCH as u64;
            if !gate.is_open() {
                self.replaced += done;
                return done;
            }
        }
    }
}
