//! The memory usage that a trie reports equals the resident memory of the process. (The only test
//! in its process, because the system reports only the total.)
#![cfg(target_os = "linux")]
#![cfg(not(loom))]

use memalloc::{AfterRcuGp, Immediate};
use qptrie::QpTrie;
use std::fs;

/// Returns the resident memory of the process, in bytes, counted page by page.
fn resident() -> u64 {
    let all = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux provides it");
    let line = all.lines().find_map(|line| line.strip_prefix("Rss:")).expect("an Rss line");
    let kib = line.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a number") << 10
}

#[test]
fn memory_usage_equals_the_resident_memory_of_the_process() {
    const ENTRIES: u64 = 300_000;
    // The system may be configured to use huge pages by default; part of one may be untouched.
    // SAFETY: the call takes numbers, and affects only this process.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }, 0);
    // Allocate what is needed once per process: the domain, and the numbers of this thread.
    let small: QpTrie<u64, Immediate, AfterRcuGp> = QpTrie::new().expect("a trie");
    small.pin().insert(b"key", 0).expect("memory");
    let trie: QpTrie<u64, Immediate, AfterRcuGp> = QpTrie::new().expect("a trie");
    let before = resident();
    for number in 0..ENTRIES {
        let key = format!("{:x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        trie.pin().insert(key.as_bytes(), number).expect("memory");
    }
    trie.quiesce().expect("outside of read sections");
    let (grown, told) = (resident() - before, trie.memory_usage());
    // The report includes the tables of processors that were never used, which are untouched; it
    // excludes the heap's own bookkeeping.
    let slack = told.slab_bytes() / 100;
    let range = told.slab_bytes() - slack..told.total_bytes() + slack;
    assert!(range.contains(&grown), "{grown} bytes more are resident, told of are {range:?}");
}
