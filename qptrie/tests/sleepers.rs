//! References that are held across `.await`, on one thread and then on another.
#![cfg(not(loom))]

mod common;

use common::{Setup, in_every_setup};
use memalloc::{AfterTasksTraceGp, ReusePolicy};
use qptrie::{Computed, Operation, QpTrie, TrieTraceGuard};
use std::future::poll_fn;
use std::ops::Bound::{Excluded, Unbounded};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

type Trie<V, B> = QpTrie<V, B, AfterTasksTraceGp>;

fn trie<V: Send + Sync + 'static, B: ReusePolicy>(setup: Setup) -> Trie<V, B> {
    let builder = QpTrie::builder().cpu_mode(setup.cpu_mode).domain(setup.domain());
    builder.build().expect("a trie")
}

/// A value that increments a counter when it is dropped.
struct Counted(u64, Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns `Pending` once.
async fn pause() {
    let mut paused = false;
    poll_fn(|_| if std::mem::replace(&mut paused, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Sums three values, each found before a pause and read after it.
async fn sum<B: ReusePolicy>(view: TrieTraceGuard<'_, Counted, B>) -> u64 {
    let first = view.get(b"a").expect("there");
    pause().await;
    let (key, second) = view.lower_bound(Excluded(b"a")).expect("there");
    assert_eq!(key, b"b");
    let gone = view.remove(b"c").expect("there");
    pause().await;
    assert_eq!(key, b"b");
    first.0 + second.0 + gone.0
}

fn a_reference_is_held_across_await_and_threads<B: ReusePolicy>(setup: Setup) {
    let trie = trie::<Counted, B>(setup);
    let dropped = Arc::new(AtomicUsize::new(0));
    for (key, number) in [(b"a", 1), (b"b", 20), (b"c", 300)] {
        let put = trie.pin().insert(key, Counted(number, dropped.clone())).is_ok();
        assert!(put);
    }
    let mut future = Box::pin(sum(trie.pin_trace()));
    assert_eq!(poll(&mut future), Poll::Pending);
    trie.pin().remove(b"a").expect("there");
    // No RCU section is open: a leaf that is not kept for sleepers would be freed now.
    trie.domain().synchronize().expect("outside of read sections");
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(poll(&mut future), Poll::Pending);
            trie.pin().remove(b"b").expect("there");
            trie.domain().synchronize().expect("outside of read sections");
        });
    });
    assert_eq!(dropped.load(Ordering::Relaxed), 0, "dropped while a sleeper looks at them");
    assert_eq!(poll(&mut future), Poll::Ready(321));
    drop(future);
    trie.quiesce().expect("outside of read sections");
    assert_eq!(dropped.load(Ordering::Relaxed), 3);
}

fn a_paused_scan_goes_on_behind_the_key_that_it_stood_on<B: ReusePolicy>(setup: Setup) {
    let trie = trie::<u64, B>(setup);
    for key in 0..100_u64 {
        trie.pin().insert(&key.to_be_bytes(), key).expect("memory");
    }
    let view = trie.pin_trace();
    let (mut at, mut seen) = (Unbounded, Vec::new());
    while let Some((key, value)) = view.lower_bound(at) {
        seen.push(*value);
        trie.pin().remove(key);
        trie.pin().insert(b"", 7).expect("memory");
        at = Excluded(key);
    }
    assert!(seen.into_iter().eq(0..100));
    assert_eq!((trie.len(), view.upper_bound(Unbounded)), (1, Some((&b""[..], &7))));
}

/// The iterator advances at both ends, while returned entries are removed and others are inserted
/// behind it.
fn a_sleepers_iterator_goes_on_behind_what_it_returned<B: ReusePolicy>(setup: Setup) {
    let trie = trie::<u64, B>(setup);
    for key in 0..100_u64 {
        trie.pin().insert(&key.to_be_bytes(), key).expect("memory");
    }
    let view = trie.pin_trace();
    let mut scan = view.range((Excluded(5_u64.to_be_bytes()), Unbounded));
    let (mut front, mut back) = (Vec::new(), Vec::new());
    while let Some((key, value)) = scan.next() {
        front.push(*value);
        trie.pin().remove(key);
        trie.pin().insert(b"", 7).expect("memory");
        let Some((key, value)) = scan.next_back() else { break };
        back.push(*value);
        view.remove_if(key, |seen| seen == value).expect("there");
        trie.pin().insert(&u64::MAX.to_be_bytes(), 8).expect("memory");
    }
    assert!(front.into_iter().chain(back.into_iter().rev()).eq(6..100));
    assert_eq!((scan.next(), scan.next_back()), (None, None));
    let left: Vec<_> = view.iter().map(|(_, value)| *value).collect();
    assert_eq!(left, [7, 0, 1, 2, 3, 4, 5, 8]);
    assert_eq!(view.prefix(&[0; 7]).rev().count(), 6);
    assert_eq!(
        (view.first().map(|entry| *entry.1), view.last().map(|entry| *entry.1)),
        (Some(7), Some(8))
    );
}

fn values_that_a_sleeper_changes_stay_readable<B: ReusePolicy>(setup: Setup) {
    let trie = trie::<u64, B>(setup);
    let view = trie.pin_trace();
    assert_eq!(view.get_or_insert_with(b"tree", || 1).expect("memory"), &1);
    assert_eq!(view.try_insert(b"tree", 2).expect_err("there").into_value(), 2);
    assert_eq!(view.try_insert(b"trees", 3).expect("memory"), &3);
    let more = |value: Option<&u64>| Operation::Insert(value.map_or(0, |value| value + 10));
    let done = view.compute(b"tree", more).expect("memory");
    trie.pin().remove(b"tree").expect("there");
    trie.domain().synchronize().expect("outside of RCU sections");
    assert_eq!(done, Computed::Replaced { old: &1, new: &11 });
    assert_eq!(view.longest_prefix(b"treesome"), Some((&b"trees"[..], &3)));
    assert_eq!(view.get_key_value(b"trees"), Some((&b"trees"[..], &3)));
    assert_eq!(view.get_many(["tree", "trees"]), [None, Some(&3)]);
    view.retain(|_, value| *value != 3);
    assert!(trie.is_empty());
}

in_every_setup![
    a_sleepers_iterator_goes_on_behind_what_it_returned,
    values_that_a_sleeper_changes_stay_readable,
    a_reference_is_held_across_await_and_threads,
    a_paused_scan_goes_on_behind_the_key_that_it_stood_on,
];
