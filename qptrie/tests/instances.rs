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

/// Under `ulimit -v` a trie takes only the addresses that it uses, and says when there are no more.
#[test]
#[cfg_attr(poison, ignore = "AddressSanitizer reserves terabytes of addresses")]
fn a_trie_works_under_an_address_limit_beside_a_large_vector() {
    const MIB: u64 = 1 << 20;
    let size = || {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux provides it");
        let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    };
    let work = |limit: u64| {
        let most = size() + limit;
        let limits = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: affects only the child.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limits) }, 0);
        let trie = QpTrie::<u64>::new().expect("a trie");
        let beside = vec![7_u8; 100 << 20];
        let view = trie.pin();
        (0..100_000_u64).all(|number| view.insert(&number.to_be_bytes(), number).is_ok())
            && (0..100_000_u64).all(|number| view.get(&number.to_be_bytes()) == Some(&number))
            && beside.iter().all(|&byte| byte == 7)
    };
    for limit in [300 * MIB, 1_000 * MIB, 2_700 * MIB, 5_400 * MIB] {
        // SAFETY: the child has one thread, whose allocator glibc repairs, and ends with `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let works = std::panic::catch_unwind(|| work(limit)).unwrap_or(false);
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!works)) };
        }
        let mut status = -1;
        // SAFETY: a place for the answer.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "{limit} bytes");
    }
}
