//! The parts of rivals that several benches share: their versions, and kovan's pointers.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::AtomicPtr;

/// Returns a rival's crate with its exact version from the lock file, as in "package 1.2.3".
pub(crate) fn version(package: &str) -> String {
    let mut locked = env!("BENCH_RIVALS").split(' ').filter_map(|entry| entry.split_once('='));
    let found = locked.find(|(name, _)| *name == package);
    format!("{package} {}", found.map_or("unknown", |(_, version)| version))
}

/// Returns a pointer as kovan's type, whose method protects the object. Before a pointer that it
/// returns is followed, the object's address has to be exposed.
#[inline]
pub(crate) fn as_kovan_has_it<T>(place: &AtomicPtr<T>) -> &kovan::Atomic<T> {
    const {
        assert!(size_of::<kovan::Atomic<T>>() == size_of::<AtomicPtr<T>>());
        assert!(align_of::<kovan::Atomic<T>>() == align_of::<AtomicPtr<T>>());
    };
    // SAFETY: kovan's pointer is one atomic word that holds only the address and fills the type, as
    // the pointer here does; both are only ever accessed atomically and as a whole. kovan makes a
    // pointer from an integer, which is valid because its users expose the provenance.
    unsafe { &*ptr::from_ref(place).cast() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        for package in ["libmimalloc-sys", "tikv-jemalloc-sys", "snmalloc-sys", "rpmalloc-sys"] {
            let version = version(package);
            let number = version.strip_prefix(package).unwrap().trim_start();
            assert!(number.starts_with(|first: char| first.is_ascii_digit()), "{version}");
        }
        assert_eq!(version("nobody"), "nobody unknown");
    }
}
