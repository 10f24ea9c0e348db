//! # An ordered concurrent map of byte strings
//!
//! A qp-trie whose branches test whole bytes. Lookups take no lock, keys are ordered, and an entry
//! costs about 25 bytes beyond its key and value.
//!
//! ## Example
//!
//! ```
//! use qptrie::{QpTrie, Update};
//!
//! let trie: QpTrie<u32> = QpTrie::new()?;
//! let view = trie.pin();
//! view.insert(b"tree", 1)?;
//! view.insert(b"trie", 2)?;
//! view.insert(b"", 0)?;
//! assert_eq!(view.get(b"trie"), Some(&2));
//! assert_eq!(view.insert(b"trie", 3)?, Some(&2));
//! assert!(view.update(b"tree", 9, Update::NoExist).is_err());
//! assert_eq!(view.remove(b"tree"), Some(&1));
//!
//! let keys: Vec<&[u8]> = view.iter().map(|(key, _)| key).collect();
//! assert_eq!(keys, [&b""[..], b"trie"]);
//! let mut next = Vec::new();
//! assert!(view.next_key(Some(b"tree"), &mut next));
//! assert_eq!(next, b"trie");
//! assert_eq!(view.prefix(b"tr").next_back(), Some((&b"trie"[..], &3)));
//! assert_eq!(view.longest_prefix(b"tries"), Some((&b"trie"[..], &3)));
//! # drop(view);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## Should I use this?
//!
//! Yes, for a map from byte strings that many threads read and that needs order: names, paths,
//! prefixes, addresses. No, if you don't need order (a concurrent hash map is two to four times
//! faster), if keys are longer than about 4090 bytes, or if a rarely written `RwLock<BTreeMap>` is
//! fast enough. A key and its value share one leaf of at most 4096 bytes; there are [two
//! ways](InsertErrorKind::TooLarge) to store larger values.
//!
//! ## Policies
//!
//! A replaced branch may be reused *at once*: readers validate every step with sequence counts and
//! by rereading the parent, so they never follow a wild pointer or miss a key, and no free has to
//! be deferred for them.
//!
//! | branches | a replaced branch is reused | a lookup |
//! |---|---|---|
//! | `Immediate` (default) | at once | validates every step, retries when a branch changed |
//! | `AfterRcuGp` | after a grace period | follows pointers |
//!
//! | leaves | a removed leaf is reused | values | a new value for a present key |
//! |---|---|---|---|
//! | `AfterRcuGp` (default), `FreeAfterRcuGp` | after a grace period | of any type, by reference: [`TrieRef::get`] | in a new leaf |
//! | `AfterTasksTraceGp` | after a grace period of both flavours | of any type, by reference, also across `.await`: [`QpTrie::pin_trace`] | in a new leaf |
//! | `Immediate` | at once | [plain bits](PlainBits), by copy: [`TrieRef::get_copied`] | in place, without an allocation |
//!
//! Operations whose names end in `_copied`, and [`TrieRef::contains_key`], work under every policy
//! of leaves. Operations that return references exist only where the policy protects a leaf's
//! identity.
//!
//! ## Coming from `BTreeMap`
//!
//! | `BTreeMap` | here |
//! |---|---|
//! | `get`, `insert`, `remove`, `range`, `first_key_value`, … | through [`QpTrie::pin`] or [`QpTrie::view`], by `&self`; keys are references to [anything that has bytes](TrieRef) |
//! | `pop_first`, `pop_last` | the same; [`TrieRef::pop_first_copied`] copies |
//! | `entry` | [`TrieRef::compute`], [`TrieRef::get_or_insert_with`]; an entry API would hold a lock as long as the entry |
//! | `get_mut`, `values_mut` | none, because other threads may read the value; [`TrieRef::compute`] replaces it |
//! | `into_iter` by value | none, because other threads may hold references to the values; use [`TrieRef::iter`] and clone them |
//! | `Ord`, `Hash` | none, because the entries may change during the comparison; [`Iterator::cmp`] compares two scans |
//! | `Extend`, `FromIterator`, `Clone`, `PartialEq` | the same, under every [policy of leaves](LeafPolicy) |
//!
//! ## Features
//!
//! - `derive` (off by default): re-exports bytemuck with its derive macros, so that values of your
//!   own types can be [copied](PlainBits).
//! - `serde` (off by default): serializes and deserializes a trie as a map.
//!
//! ## Consistency
//!
//! (In the repository, `docs/consistency.md` gives the argument and the tests for each promise, and
//! `docs/lookup.md` the steps of a lookup. The [guide] is an introduction.)
//!
//! - Operations on one key are linearizable.
//! - Replacing a value never hides its key.
//! - [`TrieRef::compute`] and [`TrieRef::remove_if`] are atomic: they change exactly the value that
//!   the closure saw last, and call the closure again if that value changed.
//! - A scan, in either direction, is strictly in order and returns every key that is present
//!   throughout. It may or may not return a key that is inserted or removed meanwhile. Each entry
//!   it returns was present at a moment during the call that returned it (with `AfterRcuGp`
//!   branches, at a moment since the scan began). A scan is not a snapshot. See [`Iter`].
//! - A cursor ([`TrieRef::next_key`], [`TrieRef::prev_key`]) whose key was removed continues with
//!   the next key.
//! - [`QpTrie::len`] is exact when nothing runs, and never above [`Builder::max_entries`]. An
//!   insert is counted before it becomes visible, a removal after.
//! - Two writers wait for each other only if they change the same branch. Writers also wait for a
//!   reader that insists after too many retries ([`Builder::reader_retries`]); this blocks changes
//!   to keys with the same first byte until that reader is done.
//! - An insert returns [`InsertErrorKind::Full`] only if at some moment during the call the trie
//!   held [`Builder::max_entries`] entries and not the key.
//! - Hints ([`Builder::hints`]) change none of these promises.
//! - In the child of a fork, lookups and scans work. An insert into a full trie may block forever
//!   there if another thread was inserting or removing at the fork. An insert or a removal blocks
//!   forever there if, at the fork, another thread was changing the same branch or the one above
//!   it, or was insisting on a lookup. So fork while no other thread does any of these, or only
//!   look up in the child. If leaves are reused at once, even a lookup blocks forever if its
//!   leaf was being written.
//! - The sequence count of a branch has 32 bits. A reader is deceived only if it is suspended
//!   between two loads for exactly 2^30 lives of one branch. A leaf that is reused at once has a
//!   count of 30 bits, which every new value advances: there it takes 2^30 values of one key
//!   between two loads.
//! - A leaf that is being overwritten in place, or removed where leaves are reused at once, can't
//!   be read at that moment: readers that reach it retry until the writer is done, even if the
//!   writer is preempted in between. A thread that removes a key, or inserts next to one, may have
//!   to retry as often as other threads overwrite that key's value.

#[cfg(all(feature = "broken", not(debug_assertions)))]
compile_error!(
    "the feature `broken` leaves out what keeps memory safe: for builds with debug assertions only"
);

#[cfg(all(test, loom))]
#[path = "../../memalloc/tests/loom/breaks.rs"]
mod breaks;
#[cfg(all(test, loom))]
#[path = "../../memalloc/tests/loom/explore.rs"]
mod explore;
mod fault;
#[cfg(any(doc, doctest))]
pub mod guide;
mod map;
mod node;
mod read;
mod write;

#[cfg(loom)]
pub use fault::Fault;
pub use map::{
    Builder, Computed, Hints, InsertError, InsertErrorKind, Iter, IterCopied, KeyRange, LeafPolicy,
    MemoryUsage, Operation, QpTrie, TraceIter, TraceRef, TrieGuard, TrieRef, TrieStats,
    TrieTraceGuard, Update,
};
pub use node::PlainBits;

#[cfg(feature = "derive")]
pub use bytemuck;

/// Runs the examples of the package's README as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct PackageReadme;
