//! Values, and the counting of their drops.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::map::OrderedMap;
use crate::measure::WrongAnswer;

/// A value: a number that identifies its key.
pub(super) trait Value: Send + Sync + 'static {
    /// True if constructions and drops of values are counted.
    const COUNTED: bool;

    /// Creates a value with a number.
    fn new(number: u64) -> Self;

    /// Returns the number.
    fn number(&self) -> u64;
}

/// The value of the samples, which needs no drop.
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

/// The value of rehearsals, which counts its construction and its drop. Rehearsals run one after
/// the other; two concurrent ones would count each other's values.
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

/// Compares the drops with the values that a workload took out of a map.
#[derive(Debug)]
pub(super) struct Drops<V> {
    made: u64,
    dropped: u64,
    values: PhantomData<V>,
}

impl<V: Value> Drops<V> {
    /// Starts to count.
    pub(super) fn begin() -> Self {
        Self { made: MADE.load(Relaxed), dropped: DROPPED.load(Relaxed), values: PhantomData }
    }

    /// Drops the map, after `given_up` values were replaced or removed: those must have been
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
                "{dropped} values were dropped {when}, expected {expected}"
            )));
        }
        Ok(())
    }
}
