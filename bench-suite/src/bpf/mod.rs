//! The kernel's own hash map, for comparison: BPF maps and programs, through `bpf(2)` alone.
//!
//! It needs no compiler and no library: a program consists of a few loops around calls of the map's
//! helpers, and is assembled here. The kernel's test-run command runs it, on the CPU of the calling
//! thread.
//!
//! - BEN-K1: memory that the kernel accesses through a pointer in an attribute lives until the call
//!   returns, and is as large as the attribute or the map says.

mod assembler;
mod loops;
mod map;
mod memory_group;
mod syscall;

pub(crate) use loops::{Loops, Step};
pub(crate) use map::HashMap;
pub(crate) use memory_group::MemoryGroup;

use std::fmt;
use std::io;

/// The reason why the kernel can't be measured here.
#[derive(Debug)]
pub(crate) struct Refused {
    what: &'static str,
    error: io::Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

/// Returns whether programs can be loaded and run, by trying one that does nothing.
pub(crate) fn permitted() -> Result<(), Refused> {
    let map = HashMap::create(8, 1, false)?;
    Loops::load(&map, &[], 1)?.run(0, 1).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints a message and passes if the system does not permit it: the kernel's rows report it,
    /// too.
    fn map(prealloc: bool) -> Option<HashMap> {
        if let Err(refused) = permitted() {
            eprintln!("not tested here: {refused}");
            return None;
        }
        Some(HashMap::create(64, 1024, prealloc).unwrap())
    }

    #[test]
    fn loops_update_look_up_and_delete() {
        for prealloc in [false, true] {
            let Some(map) = map(prealloc) else { return };
            let add = Loops::load(&map, &[Step::Add], 1).unwrap();
            let update = Loops::load(&map, &[Step::Update, Step::LookUp], 2).unwrap();
            let delete = Loops::load(&map, &[Step::Delete], 1).unwrap();
            assert_eq!(add.run(1, 2).unwrap(), 0, "no key exists before");
            assert_eq!(add.run(1, 2).unwrap(), 64, "every key exists");
            assert_eq!(update.run(1, 2).unwrap(), 0);
            let keys: Vec<u32> = (0..64).map(|place| 1 + 2 * place).collect();
            assert_eq!(map.sorted_keys().unwrap(), keys);
            assert!(keys.iter().all(|&key| map.stamp(key).unwrap() == Some(key.into())));
            assert_eq!(map.stamp(2).unwrap(), None);
            assert_eq!(delete.run(1, 2).unwrap(), 0);
            assert_eq!(delete.run(1, 2).unwrap(), 64, "no key exists");
            assert!(map.sorted_keys().unwrap().is_empty());
        }
    }

    #[test]
    fn failed_lookups_are_counted() {
        let Some(map) = map(false) else { return };
        assert_eq!(Loops::load(&map, &[Step::LookUp], 3).unwrap().run(0, 1).unwrap(), 3 * 64);
    }

    #[test]
    fn the_error_of_the_kernel_is_reported() {
        let refused = HashMap::create(8, 0, false).unwrap_err().to_string();
        assert!(refused.starts_with("bpf(2), creating a map: "), "{refused}");
    }
}
