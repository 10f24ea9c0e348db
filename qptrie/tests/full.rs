//! `Full` is returned only by a full trie: with as many keys as `max_entries`, no insertion fails.
#![cfg(not(loom))]

#[path = "common/keys.rs"]
#[allow(dead_code, reason = "keys are numbers here")]
mod keys;

use keys::Dice;
use memalloc::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, ReusePolicy};
use qptrie::{InsertErrorKind, QpTrie, Update};
use std::sync::Barrier;
use std::thread;

/// The number of threads and keys of the kernel's test of maps.
const THREADS: usize = 32;
const KEYS: usize = 64;

/// Threads insert, replace and remove random keys; there are as many keys as entries are allowed.
fn nothing_is_refused<B: ReusePolicy, L: ReusePolicy>(operations: u64) {
    let trie = QpTrie::<u64, B, L>::builder().max_entries(KEYS as u64).build().expect("a trie");
    let all_there = Barrier::new(THREADS);
    let work = |thread: usize| {
        let mut dice = Dice::new(thread as u64);
        let mut balance = 0_i64;
        all_there.wait();
        for number in 0..operations {
            let view = trie.pin();
            let key = (dice.roll(KEYS) as u64).to_be_bytes();
            let policies = (B::KIND, L::KIND);
            match dice.roll(4) {
                0 => {
                    let old = view.insert_copied(&key, number);
                    balance += i64::from(old.expect("there is room for every key").is_none());
                }
                1 => match view.update_copied(&key, number, Update::NoExist) {
                    Ok(_) => balance += 1,
                    Err(error) => assert_eq!(error.kind(), InsertErrorKind::Exists, "{policies:?}"),
                },
                2 => {
                    if let Err(error) = view.update_copied(&key, number, Update::Exist) {
                        assert_eq!(error.kind(), InsertErrorKind::NotFound, "{policies:?}");
                    }
                }
                _ => balance -= i64::from(view.remove_copied(&key).is_some()),
            }
            assert!(trie.len() <= KEYS, "{policies:?}");
        }
        balance
    };
    let balance: i64 = thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..THREADS).map(|own| scope.spawn(move || work(own))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
    });
    assert_eq!(trie.len() as i64, balance);
    assert_eq!(trie.pin().iter_copied().count() as i64, balance);
}

macro_rules! every_policy {
    ($claim:ident($operations:expr)) => {
        every_policy!(@ $claim $operations, Immediate AfterRcuGp FreeAfterRcuGp AfterTasksTraceGp)
    };
    (@ $claim:ident $operations:expr, $($branches:ident)+) => {$(
        $claim::<$branches, Immediate>($operations);
        $claim::<$branches, AfterRcuGp>($operations);
        $claim::<$branches, FreeAfterRcuGp>($operations);
        $claim::<$branches, AfterTasksTraceGp>($operations);
    )+};
}

#[test]
fn as_many_keys_as_entries_are_never_refused() {
    every_policy!(nothing_is_refused(4000));
}
