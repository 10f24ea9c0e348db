//! Describes one slab: its class, its shard, and a bitmap of the objects that are in it.

use super::arena::SLAB_UNITS;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Slab {
    pub(super) class: usize,
    /// The shard that last carved from it.
    pub(super) shard: usize,
    /// Divides by the units of an object: see `index_of`.
    pub(super) reciprocal: u64,
    /// A set bit: the object is in the slab.
    pub(super) inside: Vec<u64>,
    /// The number of set bits.
    pub(super) count: u32,
    /// The index of this slab in its list of `State::partial`, while `count > 0` and it has a
    /// class.
    pub(super) listed_at: usize,
    /// Bytes from the start of the slab that have been carved since it got its memory.
    pub(super) touched: usize,
    /// The time at which it last returned its memory.
    pub(super) released_at: Duration,
}

impl Slab {
    /// Takes out the lowest `count` objects, which must be there, and gives the number of each to
    /// `receive`.
    pub(super) fn take_lowest(&mut self, count: u32, mut receive: impl FnMut(u32)) {
        self.count -= count;
        let mut left = count;
        for (word, bits) in (0..).zip(&mut self.inside) {
            while *bits != 0 && left > 0 {
                let bit = bits.trailing_zeros();
                *bits &= *bits - 1;
                left -= 1;
                receive(word * 64 + bit);
            }
            if left == 0 {
                return;
            }
        }
    }

    /// Returns the number of words in the bitmap of a slab with objects of `units` units.
    pub(super) fn words(units: u32) -> usize {
        (SLAB_UNITS / units).div_ceil(64) as usize
    }

    /// Makes room for a bitmap of `words` words. Returns `false` if there is no memory.
    pub(super) fn make_room(&mut self, words: usize) -> bool {
        self.inside.clear();
        self.inside.try_reserve_exact(words).is_ok()
    }

    /// Returns the number of the object that begins `units` units behind the start of the slab.
    /// Exact: the reciprocal is too large by less than 2^-32 of a unit, and there are at most 4096
    /// units.
    pub(super) fn index_of(&self, units: u32) -> u32 {
        ((u64::from(units) * self.reciprocal) >> 32) as u32
    }
}

pub(super) const fn reciprocal(units: u32) -> u64 {
    (1_u64 << 32).div_ceil(units as u64)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_object_knows_its_number_whatever_its_size() {
        for units in 1..=256 {
            let slab = Slab { reciprocal: reciprocal(units), ..Slab::default() };
            for index in 0..SLAB_UNITS / units {
                assert_eq!(slab.index_of(index * units), index, "{units} units");
            }
        }
    }
}
