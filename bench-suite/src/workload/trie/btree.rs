//! The standard library's ordered map behind its lock. The lock is taken for each operation, and
//! once for a scan.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use qptrie::Hints;

use super::map::{Before, OrderedMap, View};
use crate::measure::{NoReadings, WrongAnswer};
use crate::workload::malloc_usage;

/// A map behind a reader-writer lock.
pub(super) struct LockedBTree {
    entries: RwLock<BTreeMap<Box<[u8]>, u64>>,
    heap_before: Option<u64>,
}

impl LockedBTree {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Box<[u8]>, u64>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Box<[u8]>, u64>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OrderedMap<u64> for LockedBTree {
    type View<'m> = &'m Self;

    fn build(_hints: Hints) -> Result<Self, NoReadings> {
        let heap_before = malloc_usage::bytes_in_use();
        Ok(Self { entries: RwLock::default(), heap_before })
    }

    fn pin(&self) -> &Self {
        self
    }

    fn len(&self) -> u64 {
        self.read().len() as u64
    }

    fn quiesce(&self) -> Result<(), WrongAnswer> {
        Ok(())
    }

    fn held_at_rest(&self) -> Option<u64> {
        malloc_usage::grown_since(self.heap_before)
    }
}

impl View for &LockedBTree {
    #[inline]
    fn get(&self, key: &[u8]) -> Option<u64> {
        self.read().get(key).copied()
    }

    #[inline]
    fn insert(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer> {
        Ok(Before::Was(self.write().insert(key.into(), number)))
    }

    #[inline]
    fn overwrite(&self, key: &[u8], number: u64) -> Result<Before, WrongAnswer> {
        let before = self.write().get_mut(key).map(|value| std::mem::replace(value, number));
        Ok(Before::Was(before))
    }

    #[inline]
    fn remove(&self, key: &[u8]) -> Option<u64> {
        self.write().remove(key)
    }

    fn scan(&self, mut each: impl FnMut(&[u8], u64)) {
        self.read().iter().for_each(|(key, &value)| each(key, value));
    }

    #[inline]
    fn after(&self, key: &[u8]) -> Option<u64> {
        let bounds = (Bound::Excluded(key), Bound::Unbounded);
        self.read().range::<[u8], _>(bounds).next().map(|(_, &value)| value)
    }
}
