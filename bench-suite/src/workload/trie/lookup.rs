//! `lookup-hit` and `lookup-miss`: every thread looks up all keys, in random order, repeatedly; or
//! as many keys that do not exist, each one byte away from an existing key. Every answer is
//! compared with the expected one.

use std::marker::PhantomData;

use super::check::{self, Findings};
use super::map::{OrderedMap, View};
use super::value::Drops;
use super::walk::Walk;
use super::{BATCH, Case, Setting, Value, filled};
use crate::data::Stream;
use crate::measure::{Gate, Metric, Reading, Slice, Team, Worker, WrongAnswer};

/// Lookups of existing keys.
pub(super) struct LookupHit;

/// Lookups of keys that do not exist.
pub(super) struct LookupMiss;

/// The number of keys in a batched lookup, for maps that have one.
const AT_ONCE: usize = 16;

const _: () = assert!(BATCH.is_multiple_of(AT_ONCE));

impl Case for LookupHit {
    const NAMES: &'static [&'static str] = &["lookup-hit"];
    const LOOKS_UP_ONLY: bool = true;

    fn run<V: Value, M: OrderedMap<V>>(
        setting: Setting<'_>,
        slice: Slice,
    ) -> Result<Vec<Reading>, WrongAnswer> {
        run::<V, M, true>(Self::NAMES[0], setting, &setting.data.queries, slice)
    }
}

impl Case for LookupMiss {
    const NAMES: &'static [&'static str] = &["lookup-miss"];
    const LOOKS_UP_ONLY: bool = true;

    fn run<V: Value, M: OrderedMap<V>>(
        setting: Setting<'_>,
        slice: Slice,
    ) -> Result<Vec<Reading>, WrongAnswer> {
        run::<V, M, false>(Self::NAMES[0], setting, setting.data.absent(), slice)
    }
}

fn run<V: Value, M: OrderedMap<V>, const PRESENT: bool>(
    case: &'static str,
    Setting { data, threads }: Setting<'_>,
    queries: &Stream,
    slice: Slice,
) -> Result<Vec<Reading>, WrongAnswer> {
    let drops = Drops::begin();
    let map = filled::<V, M>(data)?;
    let walks = Walk::spaced(queries, 0..queries.len(), threads);
    let mut readers: Team<_> = walks.map(|walk| Reader::<_, _, PRESENT>::new(&map, walk)).collect();
    let throughput = readers.run_for(slice, || {})?;

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

/// Looks up keys that always exist and whose values never change, or keys that never exist.
pub(super) struct Reader<'r, V, M, const PRESENT: bool = true> {
    map: &'r M,
    walk: Walk<'r>,
    findings: Findings,
    /// Lookups, including those of the warm-up.
    pub(super) lookups: u64,
    values: PhantomData<fn() -> V>,
}

impl<'r, V: Value, M: OrderedMap<V>, const PRESENT: bool> Reader<'r, V, M, PRESENT> {
    /// Creates a reader of the keys on `walk`.
    pub(super) fn new(map: &'r M, walk: Walk<'r>) -> Self {
        Self { map, walk, findings: Findings::default(), lookups: 0, values: PhantomData }
    }

    /// Returns the faults.
    pub(super) fn findings(&self) -> &Findings {
        &self.findings
    }

    #[inline]
    fn one(&mut self, view: &M::View<'r>) {
        let (number, key) = self.walk.next();
        self.check(number, key, view.get(key));
    }

    #[inline]
    fn many(&mut self, view: &M::View<'r>) {
        let asked: [_; AT_ONCE] = std::array::from_fn(|_| self.walk.next());
        let found = view.get_many(asked.map(|(_, key)| key));
        for ((number, key), found) in asked.into_iter().zip(found) {
            self.check(number, key, found);
        }
    }

    #[inline]
    fn check(&mut self, number: u32, key: &[u8], found: Option<u64>) {
        let right = PRESENT.then_some(number.into());
        self.findings.check("looking up", key, found, right);
    }
}

impl<V: Value, M: OrderedMap<V>, const PRESENT: bool> Worker for Reader<'_, V, M, PRESENT> {
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
