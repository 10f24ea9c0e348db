//! The limit on memory that waits for a grace period, and the report of the reader that delays it.
#![cfg(not(loom))]

mod common;

use common::{Setup, in_every_setup};
use memalloc::ReusePolicy;
use memalloc::backing::{FailOnDemand, System};
use memalloc::rcu::{Domain, StallReport};
use qptrie::QpTrie;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MAX_PENDING: u64 = 1024 * KIB;
const KEYS: u64 = 1000;

/// A leaf with this value takes 256 bytes.
type Value = [u64; 28];

fn overwrite<B: ReusePolicy>(trie: &QpTrie<Value, B>, round: u64) {
    let key = (round % KEYS).to_be_bytes();
    trie.pin().insert(&key, [round; 28]).expect("memory");
}

/// A change is made inside a section of the trie, where no thread blocks. The thread blocks after
/// the section, pending memory stays within the bound, and the stalled reader is reported once.
fn pending_memory_stays_bounded_and_the_reader_is_reported<B: ReusePolicy>(setup: Setup) {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let domain =
        Domain::builder().barrier_kind(setup.barrier).stall_after(Duration::from_millis(1));
    let domain = domain.stall_handler(move |report: &StallReport| {
        let _ = tell.lock().expect("never poisoned").send((*report, report.reader.thread_name()));
    });
    let domain = domain.build().expect("a supported kind");
    let trie = setup.builder::<Value, B>().domain(domain.clone()).max_pending(MAX_PENDING);
    let trie = trie.build().expect("a trie");
    (0..KEYS).for_each(|round| overwrite(&trie, round));

    let (tell_inside, inside) = channel();
    let (stay, leave) = channel::<()>();
    thread::scope(|scope| {
        let inner = &domain;
        let sit = move || {
            let guard = inner.pin();
            tell_inside.send(()).expect("the main thread waits");
            let _ = leave.recv();
            drop(guard);
        };
        thread::Builder::new()
            .name("sitter".to_owned())
            .spawn_scoped(scope, sit)
            .expect("a thread");
        inside.recv().expect("the reader enters");
        let _stay = stay;
        // Each millisecond of stall allows a sixteenth of the bound more.
        let (start, mut round) = (std::time::Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(20) || round < 2 * MAX_PENDING / 256 {
            (0..100).for_each(|more| overwrite(&trie, round + more));
            round += 100;
            let leaves = trie.memory_usage().leaves;
            let stalls = start.elapsed().as_millis() as u64 + 1;
            let cpus = thread::available_parallelism().map_or(1, usize::from) as u64;
            let most = MAX_PENDING + stalls * (MAX_PENDING / 16) + 2 * cpus * 64 * KIB;
            assert!(leaves.pending.bytes <= most, "{} of {most} bytes", leaves.pending.bytes);
        }
        let (report, name) = told.try_recv().expect("a report");
        assert_eq!(name.as_deref(), Some("sitter"), "{report}");
        assert!(told.try_recv().is_err(), "reported once");
    });
}

/// The allocators use the same settings: no memory that the backing refuses, none beyond the range.
fn a_trie_uses_the_backing_and_the_range_of_its_builder<B: ReusePolicy>(setup: Setup) {
    let backing = Arc::new(FailOnDemand::new(System));
    let builder = setup.builder::<Value, B>().backing(backing.clone()).range_bytes(16 << 20);
    let trie = builder.build().expect("a trie");
    let fails = |key: u64| trie.pin().insert(&key.to_be_bytes(), [key; 28]).is_err();
    backing.fail(..);
    assert!(fails(0), "the backing refuses");
    backing.fail(0..0);
    assert!((0..1 << 20).any(fails), "a range of 16 MiB");
    assert!(trie.memory_usage().leaves.backing_bytes <= 16 << 20);
}

/// Another thread made the guard, so this thread can't know of it. If the drop waited, the test
/// would hang.
fn dropping_a_trie_never_waits_for_a_guard<B: ReusePolicy>(setup: Setup) {
    let domain = setup.domain();
    let moved = thread::scope(|scope| scope.spawn(|| domain.pin_trace()).join()).expect("a guard");
    for used in [false, true] {
        let builder = QpTrie::<Arc<()>, B>::builder().cpu_mode(setup.cpu_mode);
        let trie = builder.domain(domain.clone()).build().expect("a trie");
        let value = Arc::new(());
        if used {
            (0..3).for_each(|_| _ = trie.pin().insert(b"key", value.clone()).expect("memory"));
        }
        drop(trie);
        assert!(Arc::strong_count(&value) <= 3, "what was in it is dropped");
    }
    drop(moved);
    drop(domain);
}

in_every_setup![
    dropping_a_trie_never_waits_for_a_guard,
    pending_memory_stays_bounded_and_the_reader_is_reported,
    a_trie_uses_the_backing_and_the_range_of_its_builder,
];
