//! `insert` and `delete`: all threads together fill an empty map, each with its part of the keys,
//! and then empty it again, each removing other keys than it inserted. The two orders differ, so
//! objects are not freed in the order in which they were allocated.
//!
//! The first pass is not measured: it takes the memory from the system.

use std::marker::PhantomData;
use std::time::Instant;

use super::beside::beside_reader;
use super::check::{self, Findings};
use super::map::{OrderedMap, View};
use super::value::Drops;
use super::walk::{Walk, versioned};
use super::{BATCH, Case, Setting, Value};
use crate::data::Stream;
use crate::measure::{Gate, Metric, NoReadings, Reading, Slice, Team, Throughput, Worker};

/// The two cases.
pub(super) struct InsertDelete;

impl Case for InsertDelete {
    const NAMES: &'static [&'static str] = &["insert", "delete"];
    const SHARE: f64 = 6.0;

    fn run<V: Value, M: OrderedMap<V>>(
        setting: Setting<'_>,
        slice: Slice,
    ) -> Result<Vec<Reading>, NoReadings> {
        let Setting { data, threads, hints, .. } = setting;
        let drops = Drops::begin();
        let map = M::build(hints)?;
        let mut version = 0;
        let mut turn = |totals: &mut [Total; 2]| -> Result<(), NoReadings> {
            for (change, total) in [Change::Insert, Change::Delete].into_iter().zip(totals) {
                let (stream, len) = match change {
                    Change::Insert => (&data.queries, data.keys.len()),
                    Change::Delete => (&data.arrivals, 0),
                };
                let one = pass::<V, _>(&map, change, stream, threads, version)?;
                total.throughput += one.throughput;
                total.false_negatives += one.false_negatives;
                check::len(&map, len)?;
                if version == 0 && len > 0 {
                    check::contents(&map, data, |number| versioned(number, version))?;
                }
            }
            version += 1;
            Ok(())
        };
        let totals = beside_reader(&map, setting, || {
            turn(&mut Default::default())?;
            let mut totals: [Total; 2] = Default::default();
            let begun = Instant::now();
            while totals[0].throughput.total() == 0 || begun.elapsed() < slice.measured {
                turn(&mut totals)?;
            }
            Ok(totals)
        })?;
        drops.close(map, version * data.keys.len() as u64)?;
        let readings = Self::NAMES.iter().zip(totals).map(|(case, total)| total.readings(case));
        Ok(readings.flatten().collect())
    }
}

#[derive(Clone, Copy)]
enum Change {
    Insert,
    Delete,
}

/// The totals of one case, over all passes.
#[derive(Default)]
struct Total {
    throughput: Throughput,
    false_negatives: f64,
}

impl Total {
    fn readings(&self, case: &'static str) -> Vec<Reading> {
        let per_second = self.throughput.per_second(self.throughput.total());
        let mut readings = vec![
            Reading::new(case, Metric::OpsPerS, per_second),
            Reading::new(case, Metric::FalseNegatives, self.false_negatives),
        ];
        readings.extend(self.throughput.cpu_share(case));
        readings
    }
}

/// Inserts, or deletes, every key once.
fn pass<V: Value, M: OrderedMap<V>>(
    map: &M,
    change: Change,
    stream: &Stream,
    threads: usize,
    version: u64,
) -> Result<Total, NoReadings> {
    let walks = Walk::parts(stream, threads);
    let mut writers: Team<_> = walks
        .map(|walk| Writer {
            map,
            walk,
            change,
            version,
            findings: Findings::default(),
            values: PhantomData,
        })
        .collect();
    let throughput = writers.run_to_completion()?;
    let false_negatives = check::missed(writers.iter().map(|writer| &writer.findings))?;
    Ok(Total { throughput, false_negatives })
}

struct Writer<'r, V, M> {
    map: &'r M,
    walk: Walk<'r>,
    change: Change,
    version: u64,
    findings: Findings,
    values: PhantomData<fn() -> V>,
}

impl<V: Value, M: OrderedMap<V>> Worker for Writer<'_, V, M> {
    fn work(&mut self, _gate: &Gate) -> u64 {
        let mut done = 0;
        while self.walk.passes() == 0 {
            let view = self.map.pin();
            let batch = BATCH.min(self.walk.left());
            for _ in 0..batch {
                let (number, key) = self.walk.next();
                let value = versioned(number, self.version);
                match self.change {
                    Change::Insert => {
                        let before = view.insert(key, value);
                        self.findings.check_before("inserting", key, before, None);
                    }
                    Change::Delete => {
                        self.findings.check("deleting", key, view.remove(key), Some(value));
                    }
                }
            }
            done += batch as u64;
        }
        done
    }
}
