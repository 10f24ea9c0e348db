//! Values, and the counting of their drops.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::map::OrderedMap;
use crate::measure::WrongAnswer;

/// What a map is filled with: a number, which says whose value it is.
pub(super) trait Value: Send + Sync + 'static {
    /// Whether values count how many of them were made and dropped.
    const COUNTED: bool;

    /// A value with a number.
    fn new(number: u64) -> Self;

    /// Its number.
    fn number(&self) -> u64;
}

/// What is measured: a value that needs no drop.
impl Value for u64 {
    const COUNTED: bool = false;

    #[inline]
    fn new(number: u64) -> Self {
        number
    }

    #[inline]
    fn number(&self) -> u64 {
        *self
    }
}

/// What rehearsals use: a value that leaves a trace when it is made and when it is dropped.
/// Rehearsals follow each other; two at once would count each other's values.
pub(super) struct Counted(u64);

static MADE: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

impl Value for Counted {
    const COUNTED: bool = true;

    fn new(number: u64) -> Self {
        MADE.fetch_add(1, Relaxed);
        Self(number)
    }

    fn number(&self) -> u64 {
        self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Relaxed);
    }
}

/// Compares drops with what a workload took out of a map.
#[derive(Debug)]
pub(super) struct Drops<V> {
    made: u64,
    dropped: u64,
    values: PhantomData<V>,
}

impl<V: Value> Drops<V> {
    /// Begins to count.
    pub(super) fn begin() -> Self {
        Self { made: MADE.load(Relaxed), dropped: DROPPED.load(Relaxed), values: PhantomData }
    }

    /// Gives the map up, after `given_up` values were replaced or removed: these must have been
    /// dropped once nothing is pending, and all others with the map.
    pub(super) fn close<M: OrderedMap<V>>(self, map: M, given_up: u64) -> Result<(), WrongAnswer> {
        map.quiesce()?;
        self.expect("while the map lives", given_up)?;
        drop(map);
        self.expect("with the map", MADE.load(Relaxed) - self.made)
    }

    fn expect(&self, when: &str, expected: u64) -> Result<(), WrongAnswer> {
        let dropped = DROPPED.load(Relaxed) - self.dropped;
        if V::COUNTED && dropped != expected {
            return Err(WrongAnswer(format!(
                "{dropped} values were dropped {when}, expected were {expected}"
            )));
        }
        Ok(())
    }
}
