//! A hash map of the kernel.

use std::fs;
use std::fs::File;
use std::os::fd::AsRawFd as _;

use super::Refused;
use super::syscall::{self, MapKind};

/// `BPF_F_NO_PREALLOC`: elements come from `bpf_mem_alloc`, one by one.
const NO_PREALLOC: u32 = 1;

/// A hash map with keys of 4 bytes and values of one size.
#[derive(Debug)]
pub(crate) struct HashMap {
    file: File,
    value_size: usize,
}

impl HashMap {
    /// Creates a map with or without preallocated elements.
    pub(crate) fn create(
        value_size: usize,
        max_entries: u32,
        prealloc: bool,
    ) -> Result<Self, Refused> {
        let flags = if prealloc { 0 } else { NO_PREALLOC };
        let file = syscall::create_map(MapKind::Hash, value_size as u32, max_entries, flags)?;
        Ok(Self { file, value_size })
    }

    /// Returns the bytes of a value.
    pub(super) fn value_size(&self) -> usize {
        self.value_size
    }

    /// Returns the file descriptor, by which programs refer to the map.
    pub(super) fn descriptor(&self) -> i32 {
        self.file.as_raw_fd()
    }

    /// Returns the first 8 bytes of the value of a key; `None` if the key does not exist.
    pub(crate) fn stamp(&self, key: u32) -> Result<Option<u64>, Refused> {
        let mut value = vec![0; self.value_size];
        let found = syscall::look_up(&self.file, key, &mut value)?;
        let stamp = value.first_chunk().map_or(0, |first| u64::from_ne_bytes(*first));
        Ok(found.then_some(stamp))
    }

    /// Returns all keys; the map must not change during the call.
    pub(crate) fn sorted_keys(&self) -> Result<Vec<u32>, Refused> {
        let mut keys: Vec<u32> = Vec::new();
        while let Some(next) = syscall::next_key(&self.file, keys.last().copied())? {
            keys.push(next);
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// Returns the bytes of the map according to the kernel: buckets and live elements, without
    /// pending elements and caches.
    pub(crate) fn live_bytes(&self) -> Option<u64> {
        let path = format!("/proc/self/fdinfo/{}", self.descriptor());
        let info = fs::read_to_string(path).ok()?;
        info.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
    }
}
