//! `memory`: the bytes that a filled map holds without concurrent operations, per entry. The
//! overhead excludes the bytes of the keys and 8 for each value.
//!
//! For the trie it is all memory that its allocators took from the system, used or not, and its
//! table of hints; for a map that keeps its entries on the heap it is the blocks in use, not the
//! free memory that the heap keeps.

use super::map::OrderedMap;
use super::value::Drops;
use super::{Case, Setting, Value, check, filled};
use crate::measure::{Metric, NoReadings, Reading, Slice};

/// The case.
pub(super) struct Memory;

const CASE: &str = "memory";

impl Case for Memory {
    const NAMES: &'static [&'static str] = &[CASE];
    const TAKES_LOCKS: bool = false;
    /// It measures no time: a sample takes as long as filling a map.
    const SHARE: f64 = 0.5;

    fn threads(_wanted: &[usize]) -> Vec<usize> {
        vec![1]
    }

    fn run<V: Value, M: OrderedMap<V>>(
        setting: Setting<'_>,
        _slice: Slice,
    ) -> Result<Vec<Reading>, NoReadings> {
        let data = setting.data;
        let drops = Drops::begin();
        let map = filled::<V, M>(setting)?;
        map.quiesce()?;
        check::contents(&map, data, u64::from)?;
        let held = map.held_at_rest();
        drops.close(map, 0)?;
        let Some(held) = held.map(|bytes| bytes as f64) else { return Ok(Vec::new()) };
        let entries = data.keys.len();
        let payload = data.keys.total_bytes() + entries * size_of::<u64>();
        let each = |bytes: f64| bytes / entries as f64;
        Ok(vec![
            Reading::new(CASE, Metric::BytesPerEntry, each(held)),
            Reading::new(CASE, Metric::OverheadBytesPerEntry, each(held - payload as f64)),
        ])
    }
}
