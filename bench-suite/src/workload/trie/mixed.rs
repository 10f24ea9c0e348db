//! `mixed`: readers look up one half of the keys, which always exist, while one writer removes and
//! reinserts the keys of the other half. Memory freed at one place of the map is used at another at
//! once, if the policy allows it: the hardest test for readers that are on a branch while it is
//! reused.
//!
//! The writer removes a key, then inserts the one that it removed [`AWAY`] removals ago, so the map
//! keeps its size. Memory is read every few milliseconds.

use std::marker::PhantomData;
use std::ops::Range;

use super::beside::beside_reader;
use super::check::{self, Findings};
use super::lookup::Reader;
use super::map::{OrderedMap, View};
use super::questions::Present;
use super::value::Drops;
use super::walk::{Walk, versioned};
use super::{BATCH, Case, Setting, Value, filled};
use crate::data::Stream;
use crate::measure::{Gate, HeldBytes, Metric, NoReadings, Reading, Slice, Team, Worker};

/// The name of the case.
pub(super) const CASE: &str = "mixed";

/// The number of keys that the writer keeps out of the map.
const AWAY: u64 = 1024;

/// The case.
pub(super) struct Mixed;

impl Case for Mixed {
    const NAMES: &'static [&'static str] = &[CASE];

    fn threads(wanted: &[usize]) -> Vec<usize> {
        wanted.iter().copied().filter(|&threads| threads >= 2).collect()
    }

    fn run<V: Value, M: OrderedMap<V>>(
        setting: Setting<'_>,
        slice: Slice,
    ) -> Result<Vec<Reading>, NoReadings> {
        let Setting { data, threads, .. } = setting;
        let drops = Drops::begin();
        let map = filled::<V, M>(setting)?;
        let half = data.queries.len() / 2;
        let stays = Walk::spaced(&data.queries, 0..half, threads - 1);
        let readers = stays.map(|walk| MixedThread::Reads(Reader::new(&map, Present(walk))));
        let writer =
            MixedThread::Writes(Writer::new(&map, &data.queries, half..data.queries.len()));
        let mut team: Team<_> = readers.chain([writer]).collect();
        let mut held = HeldBytes::default();
        let watch = || {
            if let Some(bytes) = map.held_now() {
                held.note(bytes);
            }
        };
        let throughput = beside_reader(&map, setting, || team.run_for(slice, watch))?;

        let false_negatives = check::missed(team.iter().map(MixedThread::findings))?;
        let (mut lookups, mut removed) = (0, 0);
        for thread in team.iter_mut() {
            match thread {
                MixedThread::Reads(reader) => lookups += reader.lookups,
                MixedThread::Writes(writer) => {
                    writer.bring_back_all();
                    check::missed([&writer.findings])?;
                    removed = writer.removed;
                    check::len(&map, data.keys.len())?;
                    check::lookups(&map, &data.queries, |place, number| {
                        versioned(number, writer.removals_of(place))
                    })?;
                }
            }
        }
        let retries = map.retries().map(|retries| retries as f64 / lookups.max(1) as f64);
        drop(team);
        drops.close(map, removed)?;
        let (updates, lookups) = throughput.operations().split_last().unwrap_or((&0, &[]));
        let mut readings = vec![
            Reading::new(CASE, Metric::LookupsPerS, throughput.per_second(lookups.iter().sum())),
            Reading::new(CASE, Metric::UpdatesPerS, throughput.per_second(*updates)),
            Reading::new(CASE, Metric::FalseNegatives, false_negatives),
        ];
        readings.extend(retries.map(|each| Reading::new(CASE, Metric::RetriesPerLookup, each)));
        readings.extend(held.readings(CASE));
        readings.extend(throughput.cpu_share(CASE));
        Ok(readings)
    }
}

/// The task of a thread.
enum MixedThread<'r, V, M> {
    Reads(Reader<'r, 'r, V, M, Present<'r>>),
    Writes(Writer<'r, V, M>),
}

impl<V: Value, M: OrderedMap<V>> MixedThread<'_, V, M> {
    fn findings(&self) -> &Findings {
        match self {
            Self::Reads(reader) => reader.findings(),
            Self::Writes(writer) => &writer.findings,
        }
    }
}

impl<V: Value, M: OrderedMap<V>> Worker for MixedThread<'_, V, M> {
    fn work(&mut self, gate: &Gate) -> u64 {
        match self {
            Self::Reads(reader) => reader.work(gate),
            Self::Writes(writer) => writer.work(gate),
        }
    }
}

struct Writer<'r, V, M> {
    map: &'r M,
    stream: &'r Stream,
    /// The places in the stream of the keys that are removed and reinserted.
    part: Range<usize>,
    away: u64,
    removed: u64,
    brought_back: u64,
    findings: Findings,
    values: PhantomData<fn() -> V>,
}

impl<'r, V: Value, M: OrderedMap<V>> Writer<'r, V, M> {
    fn new(map: &'r M, stream: &'r Stream, part: Range<usize>) -> Self {
        let away = AWAY.min(part.len() as u64 / 2);
        Self {
            map,
            stream,
            part,
            away,
            removed: 0,
            brought_back: 0,
            findings: Findings::default(),
            values: PhantomData,
        }
    }

    /// Returns the key of the `turn`th removal or insertion: its number, the key, and how often it
    /// was removed before.
    fn key(&self, turn: u64) -> (u32, &'r [u8], u64) {
        let len = self.part.len() as u64;
        let (number, key) = self.stream.get(self.part.start + (turn % len) as usize);
        (number, key, turn / len)
    }

    fn take_out<W: View>(&mut self, view: &W) {
        let (number, key, version) = self.key(self.removed);
        let right = Some(versioned(number, version));
        self.findings.check("deleting", key, view.remove(key), right);
        self.removed += 1;
    }

    fn bring_back<W: View>(&mut self, view: &W) {
        let (number, key, version) = self.key(self.brought_back);
        let before = view.insert(key, versioned(number, version + 1));
        self.findings.check_before("inserting", key, before, None);
        self.brought_back += 1;
    }

    fn bring_back_all(&mut self) {
        while self.brought_back < self.removed {
            self.bring_back(&self.map.pin());
        }
    }

    /// Returns how often the key at a place of the stream has been removed.
    fn removals_of(&self, place: usize) -> u64 {
        let Some(place) = place.checked_sub(self.part.start) else { return 0 };
        let len = self.part.len() as u64;
        self.removed / len + u64::from((place as u64) < self.removed % len)
    }
}

impl<V: Value, M: OrderedMap<V>> Worker for Writer<'_, V, M> {
    fn work(&mut self, gate: &Gate) -> u64 {
        let before = self.removed + self.brought_back;
        loop {
            let view = self.map.pin();
            for _ in 0..BATCH / 2 {
                self.take_out(&view);
                if self.removed - self.brought_back > self.away {
                    self.bring_back(&view);
                }
            }
            if !gate.is_open() {
                return self.removed + self.brought_back - before;
            }
        }
    }
}
