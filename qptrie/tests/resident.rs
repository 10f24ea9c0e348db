//! What a trie says it costs is what the process has resident for it. (Alone in its process: the system
//! knows only the sum of all.)
#![cfg(target_os = "linux")]
#![cfg(not(loom))]

use memalloc::{AfterRcuGp, Immediate};
use qptrie::QpTrie;
use std::fs;

/// Bytes of the process that are in memory, counted page by page.
fn resident() -> u64 {
    let all = fs::read_to_string("/proc/self/smaps_rollup").expect("the system tells");
    let line = all.lines().find_map(|line| line.strip_prefix("Rss:")).expect("among others");
    let kib = line.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a number") << 10
}

#[test]
fn memory_usage_equals_the_resident_memory_of_the_process() {
    const ENTRIES: u64 = 300_000;
    // A system may be set to give huge pages unasked, of which a part may be untouched.
    // SAFETY: takes numbers, and concerns this process only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) }, 0);
    // Some of what everybody needs once: the domain, this thread's numbers.
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
    // The tables of processors that were never used are told of, and not touched; the heap's own
    // bookkeeping is not told of.
    let slack = told.slab_bytes() / 100;
    let range = told.slab_bytes() - slack..told.total_bytes() + slack;
    assert!(range.contains(&grown), "{grown} bytes more are resident, told of are {range:?}");
}
