//! What a trie says it costs is what the process has resident for it. (Alone in its process: the system
//! knows only the sum of all.)
#![cfg(target_os = "linux")]
#![cfg(not(loom))]

use memalloc::{AfterRcuGp, Immediate};
use qptrie::QpTrie;
use std::fs;

/// Bytes of the process that are in memory.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("the system tells");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    // SAFETY: asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    pages.expect("a number of pages") * page
}

#[test]
fn memory_usage_is_what_the_process_has_resident() {
    const ENTRIES: u64 = 300_000;
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
    let (grown, told) = (resident() - before, trie.memory_usage().total_bytes());
    // The tables of processors that were never used are told of, and not touched; the heap's own
    // bookkeeping is not told of.
    let slack = told / 50 + (256 << 10);
    assert!(grown.abs_diff(told) < slack, "{grown} bytes more are resident, {told} are told of");
}
