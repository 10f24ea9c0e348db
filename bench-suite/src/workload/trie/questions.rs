//! The keys that a reader looks up, each with the answer that is right.

use super::walk::Walk;

/// An endless sequence of keys, each with its value if it exists.
pub(super) trait Questions<'d>: Send {
    /// Returns the next key and the right answer.
    fn next(&mut self) -> (&'d [u8], Option<u64>);
}

/// Keys that exist, with their numbers as values.
pub(super) struct Present<'d>(pub(super) Walk<'d>);

/// Keys that do not exist.
pub(super) struct Absent<'d>(pub(super) Walk<'d>);

/// Keys of both kinds. A random bit selects the kind of each, so that the processor cannot predict
/// it.
pub(super) struct Half<'d> {
    present: Present<'d>,
    absent: Absent<'d>,
    random: fastrand::Rng,
    bits: u64,
    /// The number of bits that are left.
    left: u32,
}

impl<'d> Half<'d> {
    /// Creates questions from two walks, with a seed for the random bits.
    pub(super) fn new(present: Walk<'d>, absent: Walk<'d>, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { present: Present(present), absent: Absent(absent), random, bits: 0, left: 0 }
    }

    #[inline]
    fn bit(&mut self) -> bool {
        if self.left == 0 {
            (self.bits, self.left) = (self.random.u64(..), u64::BITS);
        }
        self.left -= 1;
        self.bits >> self.left & 1 != 0
    }
}

impl<'d> Questions<'d> for Present<'d> {
    #[inline]
    fn next(&mut self) -> (&'d [u8], Option<u64>) {
        let (number, key) = self.0.next();
        (key, Some(number.into()))
    }
}

impl<'d> Questions<'d> for Absent<'d> {
    #[inline]
    fn next(&mut self) -> (&'d [u8], Option<u64>) {
        (self.0.next().1, None)
    }
}

impl<'d> Questions<'d> for Half<'d> {
    #[inline]
    fn next(&mut self) -> (&'d [u8], Option<u64>) {
        if self.bit() { self.present.next() } else { self.absent.next() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::data::{DataName, DataSet};

    #[test]
    fn half_of_the_keys_exist() {
        let set = DataSet::load(&DataName::Random, 1).unwrap();
        let [present, absent] =
            [&set.queries, set.absent()].map(|keys| Walk::through(keys, 0..keys.len()));
        let mut half = Half::new(present, absent, 1);
        let keys: HashSet<&[u8]> = set.keys.iter().collect();
        let mut exist = 0;
        for _ in 0..10_000 {
            let (key, right) = half.next();
            assert_eq!(keys.contains(key), right.is_some());
            exist += u32::from(right.is_some());
        }
        assert!((4_500..5_500).contains(&exist), "{exist} of 10000");
    }
}
