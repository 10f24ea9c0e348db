//! A worker tends an idle trie. Each test waits for an effect of the worker, and fails if there is
//! none after a minute.
#![cfg(not(loom))]

mod common;

use common::{Setup, in_every_setup};
use memalloc::backing::{FailOnDemand, System};
use memalloc::{ReusePolicy, Worker};
use qptrie::{Hints, QpTrie};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

/// Waits until `is_so` returns true.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "not after a minute: {what}");
        thread::sleep(INTERVAL / 4);
    }
}

/// A value that counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Entries are removed inside a section, so their values are pending; then the trie is idle. Values
/// in the caches of CPUs stay there: far less than half.
fn values_are_dropped_while_the_program_is_idle<B: ReusePolicy>(setup: Setup) {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let entries = 2_000 * cpus;
    let trie = Arc::new(setup.trie::<Counted, B>());
    let worker = Worker::every(INTERVAL).tend_with(&trie, QpTrie::tend).start().expect("a thread");
    let dropped = Arc::new(AtomicUsize::new(0));
    let view = trie.pin();
    for number in 0..entries {
        assert!(view.insert(&number.to_be_bytes(), Counted(dropped.clone())).is_ok());
    }
    view.clear();
    assert_eq!(dropped.load(Ordering::Relaxed), 0, "a reader is inside");
    drop(view);
    until("most values are dropped", || dropped.load(Ordering::Relaxed) > entries / 2);
    drop(worker);
}

/// The worker does not keep the trie alive.
fn a_worker_does_not_keep_a_trie_alive<B: ReusePolicy>(setup: Setup) {
    let backing = Arc::new(FailOnDemand::new(System));
    let builder = setup.builder::<u64, B>().backing(backing.clone()).range_bytes(16 << 20);
    let trie = Arc::new(builder.build().expect("a trie"));
    let worker = Worker::every(INTERVAL).tend_with(&trie, QpTrie::tend).start().expect("a thread");
    trie.pin().insert("key", 1).expect("memory");
    drop(trie);
    until("the trie is dropped", || Arc::strong_count(&backing) == 1);
    drop(worker);
}

/// `trim` does not wait for readers. Here it returns all memory except that in the caches of CPUs.
fn trimming_returns_memory<B: ReusePolicy>(setup: Setup) {
    let trie = setup.builder::<u64, B>().hints(Hints::On).build().expect("a trie");
    let entries = 50_000_u64;
    for number in 0..entries {
        trie.pin().insert(&number.to_be_bytes(), number).expect("memory");
    }
    let full = trie.backing_bytes();
    trie.pin().clear();
    trie.domain().synchronize().expect("outside of read sections");
    let mut released = 0;
    until("most memory is returned", || {
        trie.tend();
        released += trie.trim().released_bytes;
        trie.backing_bytes() < full / 2
    });
    assert!(released > 0 && trie.is_empty());
    trie.pin().insert("key", 1).expect("memory");
    assert_eq!(trie.pin().get("key"), Some(&1));
}

in_every_setup![
    values_are_dropped_while_the_program_is_idle,
    a_worker_does_not_keep_a_trie_alive,
    trimming_returns_memory,
];
