//! `memory`: what a map that is filled and at rest holds from the system, by its entries. The
//! overhead is what is left without the bytes of the keys and eight for each value.

use super::value::Drops;
use super::{Case, Family, OrderedMap, Setting, Value, check, filled};
use crate::measure::{Metric, Reading, Slice, WrongAnswer};

/// The case.
pub(super) struct Memory;

const CASE: &str = "memory";

impl Case for Memory {
    const NAMES: &'static [&'static str] = &[CASE];
    /// It measures no time, and takes what filling a map takes.
    const SHARE: f64 = 0.5;

    fn threads(_wanted: &[usize]) -> Vec<usize> {
        vec![1]
    }

    fn run<F: Family, V: Value>(
        Setting { data, .. }: Setting<'_>,
        _slice: Slice,
    ) -> Result<Vec<Reading>, WrongAnswer> {
        let drops = Drops::begin();
        let map = filled::<F, V>(data)?;
        map.quiesce()?;
        check::contents(&map, data, u64::from)?;
        let held = map.held_bytes() as f64;
        drops.close(map, 0)?;
        let entries = data.keys.len();
        let payload = data.keys.total_bytes() + entries * size_of::<u64>();
        let each = |bytes: f64| bytes / entries as f64;
        Ok(vec![
            Reading::new(CASE, Metric::BytesPerEntry, each(held)),
            Reading::new(CASE, Metric::OverheadBytesPerEntry, each(held - payload as f64)),
        ])
    }
}
