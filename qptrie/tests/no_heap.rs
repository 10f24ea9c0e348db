//! Where leaves have their grace period, changes and lookups need nothing of the heap, however deep their
//! place is: so they can't abort for lack of it, and removing needs no memory at all.
//!
//! One test: the heap is watched for the whole process.
#![cfg(not(loom))]

use qptrie::QpTrie;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Watched;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: all calls go on to the system's allocator.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) };
    }
}

#[global_allocator]
static HEAP: Watched = Watched;

/// How many allocations from the heap this thread makes in `run`.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

/// Keys each of which begins the next one, so that the way to the longest has a branch for each.
const DEPTH: usize = 300;

#[test]
fn changes_need_no_heap_however_deep_their_place_is() {
    let trie: QpTrie<u64> = QpTrie::new().expect("a trie");
    let key = [b'k'; DEPTH];
    for length in 1..DEPTH {
        trie.pin().insert(&key[..length], length as u64).expect("memory");
    }
    let view = trie.pin();
    assert!(view.depth_histogram().len() > DEPTH - 10, "not deep at all");
    // A place at the end of the way, in its middle, at its beginning; as a twig and as a fork.
    let aside = |length: usize| {
        let mut aside = key[..length].to_vec();
        aside.push(b'x');
        aside
    };
    let places = [aside(1), aside(DEPTH / 2), aside(DEPTH - 2), aside(DEPTH - 1)];
    for turn in 0..3 {
        for place in &places {
            let of_heap = allocations(|| {
                assert_eq!(view.insert(place, 1).expect("memory"), None);
                assert_eq!(view.insert(place, 2).expect("memory"), Some(&1));
                assert_eq!(view.get(place), Some(&2));
                assert_eq!(view.remove(place), Some(&2));
            });
            // What the caches of the processors need is there after a turn.
            assert!(turn == 0 || of_heap == 0, "{of_heap} allocations, {} bytes deep", place.len());
        }
    }
    for length in (1..DEPTH).rev() {
        let of_heap = allocations(|| assert!(view.remove(&key[..length]).is_some()));
        assert_eq!(of_heap, 0, "removing {length} bytes");
    }
    assert!(trie.is_empty());
}
