//! Changes and lookups allocate nothing from the heap, at any depth and with keys of any length: so
//! lack of heap memory can't abort them, and removing needs no memory at all. With hints they try,
//! and do without.
#![cfg(not(loom))]

use memalloc::{AfterRcuGp, Immediate, ReusePolicy};
use qptrie::{Hints, QpTrie, TrieRef};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Watched;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Whether this thread gets no memory.
    static REFUSED: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: all calls are forwarded to the system's allocator, or fail.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        if REFUSED.get() {
            return std::ptr::null_mut();
        }
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

/// Returns the number of heap allocations that this thread makes in `run`.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

/// The trie has keys of all lengths below this one, from `FIRST` on. Each is a prefix of the next
/// one, so the path to the longest has a branch for each.
const DEPTH: usize = 300;

/// The length of the shortest of these keys.
const FIRST: usize = 20;

/// Returns a key that leaves the path to the longest key at this length.
fn aside(length: usize) -> Vec<u8> {
    let mut aside = vec![b'k'; length];
    aside.push(b'x');
    aside
}

/// Returns a key that differs from the longest key above all branches, and still follows the whole
/// path.
fn far_above() -> Vec<u8> {
    let mut key = vec![b'k'; DEPTH];
    key[FIRST / 2] = b'x';
    key
}

/// Inserts, replaces, looks up and removes keys in a trie that has the prefixes of the longest key.
fn check<L: ReusePolicy>(
    insert: impl Fn(&TrieRef<u64, Immediate, L>, &[u8], u64) -> Option<u64>,
    get: impl Fn(&TrieRef<u64, Immediate, L>, &[u8]) -> Option<u64>,
    remove: impl Fn(&TrieRef<u64, Immediate, L>, &[u8]) -> Option<u64>,
) {
    let trie = QpTrie::<u64, Immediate, L>::with_policies().expect("a trie");
    let view = trie.pin();
    let key = [b'k'; DEPTH];
    for length in FIRST..DEPTH {
        insert(&view, &key[..length], length as u64);
    }
    // Places at the end of the path, in its middle and at its beginning; as a twig and as a fork;
    // and one that only a second walk finds.
    let deep = [FIRST, DEPTH / 2, DEPTH - 2, DEPTH - 1].map(aside);
    let places = deep.into_iter().chain([far_above()]).collect::<Vec<_>>();
    for turn in 0..3 {
        for place in &places {
            let of_heap = allocations(|| {
                assert_eq!(insert(&view, place, 1), None);
                assert_eq!(insert(&view, place, 2), Some(1));
                assert_eq!(get(&view, place), Some(2));
                assert_eq!(remove(&view, place), Some(2));
            });
            // After the first turn the caches of the processors exist.
            assert!(turn == 0 || of_heap == 0, "{of_heap} allocations, {} bytes deep", place.len());
        }
    }
    for length in (FIRST..DEPTH).rev() {
        let of_heap = allocations(|| assert!(remove(&view, &key[..length]).is_some()));
        assert_eq!(of_heap, 0, "removing {length} bytes");
    }
    assert!(trie.is_empty());
}

#[test]
fn the_path_to_a_key_has_a_branch_for_each_prefix_of_it() {
    let trie: QpTrie<u64> = QpTrie::new().expect("a trie");
    for length in FIRST..DEPTH {
        trie.pin().insert(&[b'k'; DEPTH][..length], 0).expect("memory");
    }
    assert!(trie.pin().depth_histogram().len() > DEPTH - FIRST - 10);
}

#[test]
fn changes_at_any_depth_need_no_heap() {
    check::<AfterRcuGp>(
        |view, key, value| view.insert(key, value).expect("memory").copied(),
        |view, key| view.get(key).copied(),
        |view, key| view.remove(key).copied(),
    );
}

#[test]
fn changes_need_no_heap_if_leaves_are_reused_at_once() {
    check::<Immediate>(
        |view, key, value| view.insert_copied(key, value).expect("memory"),
        |view, key| view.get_copied(key),
        |view, key| view.remove_copied(key),
    );
}

/// Moving the hint of a long key takes a copy of the key if leaves are reused at once.
#[test]
fn changes_and_lookups_go_on_if_the_heap_has_no_memory_for_hints() {
    let builder = QpTrie::<u64, Immediate, Immediate>::builder().hints(Hints::On);
    let trie = builder.build().expect("a trie");
    let key_of = |number: u64| [&number.to_be_bytes()[..], &[b'k'; 100]].concat();
    let keys: Vec<_> = (0..600).map(key_of).collect();
    let mut wanted = 0;
    for (number, key) in (0..).zip(&keys) {
        let view = trie.pin();
        assert_eq!(view.insert_copied(key, number).expect("memory"), None);
        REFUSED.set(true);
        let before = ALLOCATIONS.get();
        let found = (0..=number).all(|old| view.get_copied(&keys[old as usize]) == Some(old));
        let replaced = view.insert_copied(key, number).is_ok_and(|old| old == Some(number));
        wanted += ALLOCATIONS.get() - before;
        REFUSED.set(false);
        assert!(found && replaced, "with {number} others");
    }
    assert!(wanted > 10, "memory was wanted {wanted} times");
}
