//! `iterate` and `seek`: operations of ordered maps only. In `iterate` every thread visits all
//! entries, from the first to the last, repeatedly; an operation is one entry. In `seek` every
//! thread finds the entry that follows an existing key, for all keys in random order.
//!
//! The values of the map are the positions of their keys in the order, so the right value proves
//! the right position without comparing the key, which would cost more than the answer. The keys
//! themselves are compared once, after the measurement.

use std::hint::black_box;
use std::marker::PhantomData;

use super::beside::beside_reader;
use super::check::{self, Findings};
use super::map::{OrderedMap, View};
use super::value::Drops;
use super::walk::Walk;
use super::{BATCH, Case, Setting, Value, filled};
use crate::measure::{
    Gate, Metric, NoReadings, Reading, Slice, Team, Throughput, Worker, WrongAnswer,
};

/// Iterates from the first entry to the last.
pub(super) struct Iterate;

/// Finds the entry that follows a key.
pub(super) struct Seek;

impl Case for Iterate {
    const NAMES: &'static [&'static str] = &["iterate"];
    const TAKES_LOCKS: bool = false;
    const NEEDS_ORDER: bool = true;

    fn run<V: Value, M: OrderedMap<V>>(
        setting: Setting<'_>,
        slice: Slice,
    ) -> Result<Vec<Reading>, NoReadings> {
        let Setting { data, threads, .. } = setting;
        let drops = Drops::begin();
        let map = filled::<V, M>(setting)?;
        let len = data.keys.len() as u64;
        let mut goers: Team<_> = (0..threads).map(|_| Goer::new(&map, len)).collect();
        let throughput = beside_reader(&map, setting, || goers.run_for(slice, || {}))?;
        check::missed(goers.iter().map(|goer| &goer.findings))?;
        drop(goers);
        check::contents(&map, data, u64::from)?;
        drops.close(map, 0)?;
        Ok(readings(Self::NAMES[0], &throughput))
    }
}

impl Case for Seek {
    const NAMES: &'static [&'static str] = &["seek"];
    const NEEDS_ORDER: bool = true;

    fn run<V: Value, M: OrderedMap<V>>(
        setting: Setting<'_>,
        slice: Slice,
    ) -> Result<Vec<Reading>, NoReadings> {
        let Setting { data, threads, .. } = setting;
        let drops = Drops::begin();
        let map = filled::<V, M>(setting)?;
        let last = data.keys.len() as u64 - 1;
        let walks = Walk::spaced(&data.queries, 0..data.queries.len(), threads);
        let mut seekers: Team<_> = walks.map(|walk| Seeker::new(&map, walk, last)).collect();
        let throughput = beside_reader(&map, setting, || seekers.run_for(slice, || {}))?;
        check::missed(seekers.iter().map(|seeker| &seeker.findings))?;
        drop(seekers);
        check::contents(&map, data, u64::from)?;
        drops.close(map, 0)?;
        Ok(readings(Self::NAMES[0], &throughput))
    }
}

fn readings(case: &'static str, throughput: &Throughput) -> Vec<Reading> {
    let mut readings =
        vec![Reading::new(case, Metric::OpsPerS, throughput.per_second(throughput.total()))];
    readings.extend(throughput.cpu_share(case));
    readings
}

struct Goer<'r, V, M> {
    map: &'r M,
    len: u64,
    findings: Findings,
    values: PhantomData<fn() -> V>,
}

impl<'r, V: Value, M: OrderedMap<V>> Goer<'r, V, M> {
    fn new(map: &'r M, len: u64) -> Self {
        Self { map, len, findings: Findings::default(), values: PhantomData }
    }
}

impl<V: Value, M: OrderedMap<V>> Worker for Goer<'_, V, M> {
    fn work(&mut self, gate: &Gate) -> u64 {
        let mut done = 0;
        loop {
            let (mut seen, mut in_place) = (0, true);
            self.map.pin().scan(|key, value| {
                in_place &= value == seen;
                seen += 1;
                black_box(key.last().copied());
            });
            done += seen;
            if seen != self.len || !in_place {
                self.findings.keep(out_of_order(seen, self.len));
            }
            if !gate.is_open() {
                return done;
            }
        }
    }
}

#[cold]
fn out_of_order(seen: u64, right: u64) -> WrongAnswer {
    WrongAnswer(format!(
        "wrong answer: a scan returned {seen} of {right} entries, or not in the order of their keys"
    ))
}

struct Seeker<'r, V, M> {
    map: &'r M,
    walk: Walk<'r>,
    /// The number of the last key, which no key follows.
    last: u64,
    findings: Findings,
    values: PhantomData<fn() -> V>,
}

impl<'r, V: Value, M: OrderedMap<V>> Seeker<'r, V, M> {
    fn new(map: &'r M, walk: Walk<'r>, last: u64) -> Self {
        Self { map, walk, last, findings: Findings::default(), values: PhantomData }
    }
}

impl<V: Value, M: OrderedMap<V>> Worker for Seeker<'_, V, M> {
    fn work(&mut self, gate: &Gate) -> u64 {
        let mut done = 0;
        loop {
            let view = self.map.pin();
            for _ in 0..BATCH {
                let (number, key) = self.walk.next();
                let number = u64::from(number);
                let right = (number != self.last).then_some(number + 1);
                self.findings.check("seeking past", key, view.after(key), right);
            }
            done += BATCH as u64;
            if !gate.is_open() {
                return done;
            }
        }
    }
}
