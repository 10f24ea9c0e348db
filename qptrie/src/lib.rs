//! # An ordered concurrent map of byte strings
//!
//! A qp-trie whose branches test whole bytes: a lookup takes no lock, keys come back in order, and an entry costs some
//! twenty-five bytes beyond its key and value. Its branches
//! may be reused *at once* after they were replaced: readers validate what they saw by sequence
//! counts and by reading the parent again, so that neither a wild pointer nor a missed key is
//! possible, and nothing has to be deferred for them.
//!
//! ## Should I use this?
//!
//! Yes, for a map from byte strings that is read by many threads and needs order: names, paths,
//! prefixes, addresses. No, if you don't need order (a concurrent hash map is two to four times
//! faster), if keys are longer than 4090 bytes or so, or if a `RwLock<BTreeMap>` that is seldom written
//! is fast enough. A key and its value together have 4096 bytes; for larger values there are
//! [two ways](InsertErrorKind::TooLarge).
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
//! ## Policies
//!
//! | branches | a replaced branch is reused | a lookup |
//! |---|---|---|
//! | `Immediate` (default) | at once | validates every step, retries when a branch changed |
//! | `AfterRcuGp` | after a grace period | follows pointers |
//!
//! | leaves | a removed leaf is reused | values | a new value for a key that is there |
//! |---|---|---|---|
//! | `AfterRcuGp` (default), `FreeAfterRcuGp` | after a grace period | of any type, by reference: [`TrieRef::get`] | in a new leaf |
//! | `AfterTasksTraceGp` | after a grace period of both flavours | the same, and across `.await`: [`QpTrie::pin_trace`] | in a new leaf |
//! | `Immediate` | at once | [plain bits](PlainBits), by copy: [`TrieRef::get_copied`] | in place, without an allocation |
//!
//! Operations whose names end in `_copied`, and [`TrieRef::contains_key`], are there under every
//! policy of leaves; those that give references only where a leaf keeps its identity.
//!
//! ## Features
//!
//! - `serde`: a trie as a map in the formats of serde.
//!
//! ## Consistency
//!
//! (The argument for each, and the tests: `docs/consistency.md`. A way in: `docs/trie-guide.md`.)
//!
//! - Operations on one key are linearizable.
//! - Replacing a value never hides its key.
//! - [`TrieRef::compute`] and [`TrieRef::remove_if`] change what they looked at, or look again:
//!   nothing comes in between.
//! - A scan, in either direction, is strictly in order and returns every key that was there
//!   throughout. Of keys that come and go meanwhile it may return any; what it returns was there
//!   at that moment (with branches of `AfterRcuGp`, at one since the scan began). It is no
//!   snapshot. See [`Iter`].
//! - A cursor ([`TrieRef::next_key`], [`TrieRef::prev_key`]) whose key was removed goes on with the
//!   next one.
//! - [`QpTrie::len`] is exact when nothing runs, and never above [`Builder::max_entries`]. An insert is counted before it is seen, a removal
//!   after.
//! - Writers wait for each other only where they change the same branch; and below a first byte for
//!   a reader that writers have turned away too often ([`Builder::reader_retries`]), until it is done.
//! - An insert is refused as [`InsertErrorKind::Full`] only if at some moment during the call there were
//!   [`Builder::max_entries`] entries, and not the key.
//! - Hints ([`Builder::hints`]) change none of this.
//! - In the child of a fork, lookups and scans go on. An insert into a full trie may wait for good there, if
//!   another thread was inserting or removing at that moment. An insert or a removal waits for good there if
//!   another thread was changing the same branch, or the one above it, or insisted on a lookup, at
//!   that moment: fork while nobody does, or let the child only look up. Where leaves are reused at
//!   once even a lookup waits for good if its leaf was being written.
//! - The sequence count of a branch has 32 bits. A reader would have to be suspended, between
//!   two loads, for exactly 2^30 lives of one branch to be deceived. Where leaves are reused at
//!   once they have a count too, of 30 bits, that every new value moves on: 2^30 values of one key
//!   between two loads.
//! - A value that is overwritten in place, or a leaf that is removed there, can't be read at that
//!   moment: readers whose way ends there look again until it is done, also when its writer was
//!   interrupted in between. Whoever removes a key, or inserts beside one, whose value others
//!   overwrite all the time may have to begin again as often.

#[cfg(all(feature = "broken", not(debug_assertions)))]
compile_error!(
    "the feature `broken` leaves out what keeps memory safe: for builds with debug assertions only"
);

mod fault;
mod map;
mod node;
mod read;
mod write;

#[cfg(loom)]
pub use fault::Fault;
pub use map::{
    Builder, Computed, Hints, InsertError, InsertErrorKind, Iter, IterCopied, MemoryUsage,
    Operation, QpTrie, TraceIter, TraceRef, TrieRef, TrieStats, Update,
};
pub use node::PlainBits;

/// The README's examples, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The package's README, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct PackageReadme;

/// The guide's examples, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/trie-guide.md")]
struct Guide;
