//! Thousands of tries in one process: an unused trie costs very little.
#![cfg(all(target_os = "linux", target_pointer_width = "64", not(loom)))]

use qptrie::QpTrie;
use std::time::{Duration, Instant};

const MANY: usize = 10_000;

/// Returns the resident anonymous memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux provides it");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("such a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

#[test]
fn ten_thousand_tries_cost_little_until_they_are_used() {
    let build = || QpTrie::<u64>::new().expect("a trie");
    drop(build());
    let mut tries = Vec::with_capacity(MANY);
    let (before, begun) = (resident(), Instant::now());
    tries.extend((0..MANY).map(|_| build()));
    let took = begun.elapsed() / MANY as u32;
    let each = (resident() - before) / MANY as u64;
    println!("{each} bytes and {took:?} each");
    assert!(each < 8 << 10, "{each} bytes each");
    // Thirty times the usual time; other processes may slow this down.
    assert!(took < Duration::from_millis(1), "{took:?}");
    for (number, trie) in (0..).zip(&tries).step_by(97) {
        trie.pin().insert(b"key", number).expect("memory");
    }
    for (number, trie) in (0..).zip(&tries) {
        let expected = (number % 97 == 0).then_some(number);
        assert_eq!(trie.pin().get(b"key").copied(), expected);
    }
}
