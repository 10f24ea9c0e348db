//! The kernel's own hash map, for scale: maps and programs of BPF, by `bpf(2)` alone.
//!
//! No compiler and no library: a program is a handful of loops around calls of the map's helpers, and is
//! assembled here. It is run by the kernel's test-run command, on the CPU of the thread that asks.
//!
//! - INV-B1: what the kernel reads or writes through a pointer in an attribute lives until the call
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

/// Why the kernel can't be measured here.
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

/// Whether programs can be loaded and run: tries with one that does nothing.
pub(crate) fn permitted() -> Result<(), Refused> {
    let map = HashMap::create(8, 1, false)?;
    Loops::load(&map, &[], 1)?.run(0, 1).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says so and passes where the system does not permit it: then the rows of the kernel say so too.
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
            assert_eq!(add.run(1, 2).unwrap(), 0, "all are new");
            assert_eq!(add.run(1, 2).unwrap(), 64, "none is new");
            assert_eq!(update.run(1, 2).unwrap(), 0);
            let keys: Vec<u32> = (0..64).map(|place| 1 + 2 * place).collect();
            assert_eq!(map.sorted_keys().unwrap(), keys);
            assert!(keys.iter().all(|&key| map.stamp(key).unwrap() == Some(key.into())));
            assert_eq!(map.stamp(2).unwrap(), None);
            assert_eq!(delete.run(1, 2).unwrap(), 0);
            assert_eq!(delete.run(1, 2).unwrap(), 64, "nothing is left");
            assert!(map.sorted_keys().unwrap().is_empty());
        }
    }

    #[test]
    fn a_lookup_that_finds_nothing_is_counted() {
        let Some(map) = map(false) else { return };
        assert_eq!(Loops::load(&map, &[Step::LookUp], 3).unwrap().run(0, 1).unwrap(), 3 * 64);
    }

    #[test]
    fn what_the_kernel_refuses_is_told() {
        let refused = HashMap::create(8, 0, false).unwrap_err().to_string();
        assert!(refused.starts_with("bpf(2), a hash map: "), "{refused}");
    }
}
