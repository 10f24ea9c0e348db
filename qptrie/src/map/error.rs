//! Errors of insertions.

use memalloc::{AllocErrorKind, MAX_SIZE};
use std::fmt;

/// A failed insertion: the reason and the value that was not inserted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InsertError<V> {
    pub(super) kind: InsertErrorKind,
    pub(super) value: V,
}

impl<V> InsertError<V> {
    /// Returns why the insertion failed.
    #[must_use]
    pub fn kind(&self) -> InsertErrorKind {
        self.kind
    }

    /// Returns the value that was not inserted.
    #[must_use]
    pub fn into_value(self) -> V {
        self.value
    }
}

impl<V> fmt::Display for InsertError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

/// Leaves out the value, so that values need not implement `Debug`.
impl<V> fmt::Debug for InsertError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InsertError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<V> std::error::Error for InsertError<V> {}

/// Why an insertion failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InsertErrorKind {
    /// The key is present, and the operation requires it to be absent (`EEXIST`).
    Exists,
    /// The key is absent, and the operation requires it to be present (`ENOENT`).
    NotFound,
    /// Key and value do not fit one leaf (`E2BIG`).
    ///
    /// There are two ways to store them anyway; `examples/large_values.rs` shows both. First, the
    /// value in the trie can be a pointer to a large value elsewhere, for example on the heap:
    ///
    /// ```
    /// use qptrie::{InsertErrorKind, QpTrie};
    ///
    /// let direct: QpTrie<[u8; 5000]> = QpTrie::new()?;
    /// let error = direct.pin().insert(b"key", [7; 5000]).unwrap_err();
    /// assert!(matches!(error.kind(), InsertErrorKind::TooLarge { value: 5000, .. }));
    ///
    /// let trie: QpTrie<Box<[u8]>> = QpTrie::new()?;
    /// trie.pin().insert(b"key", vec![7; 5000].into())?;
    /// assert_eq!(trie.pin().get(b"key").map(|value| value.len()), Some(5000));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Second, large values can have an allocator of their own: the trie's allocator holds the
    /// leaves, another holds values of up to 4096 bytes. Then a long key does not compete with its
    /// value for the leaf, and neither is on the global heap. The value in the trie is the box.
    /// Both are freed after a grace period, the leaf first:
    ///
    /// ```
    /// use memalloc::{Cache, SlabBox};
    /// use qptrie::QpTrie;
    /// use std::sync::LazyLock;
    ///
    /// static PAGES: LazyLock<Cache<[u8; 4096]>> = LazyLock::new(|| Cache::new().expect("memory"));
    ///
    /// let trie: QpTrie<SlabBox<'static, [u8; 4096]>> = QpTrie::new()?;
    /// let long = [b'k'; 4000];
    /// trie.pin().insert(&long, PAGES.alloc([7; 4096])?)?;
    /// assert_eq!(trie.pin().get(&long).map(|page| page[4095]), Some(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    TooLarge {
        /// The length of the key, in bytes.
        key: usize,
        /// The size of the value, in bytes.
        value: usize,
        /// The length of the longest key that fits beside a value of this size, in bytes.
        longest_key: usize,
    },
    /// The key is longer than [`Builder::max_key_len`](crate::Builder::max_key_len) (`EINVAL`).
    KeyTooLong {
        /// The length of the key, in bytes.
        key: usize,
        /// The maximum key length, in bytes.
        limit: usize,
    },
    /// At a moment during the call the trie held
    /// [`Builder::max_entries`](crate::Builder::max_entries) entries and not the key (`ENOSPC`).
    Full {
        /// The maximum number of entries.
        max_entries: u64,
    },
    /// The allocation of a leaf or a branch failed (`ENOMEM`), for this reason.
    Memory(AllocErrorKind),
}

impl std::error::Error for InsertErrorKind {}

impl fmt::Display for InsertErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_str("the key already exists"),
            Self::NotFound => f.write_str("the key does not exist"),
            Self::TooLarge { value, longest_key: 0, .. } => {
                write!(
                    f,
                    "a value of {value} bytes leaves no room for a key: a leaf has {MAX_SIZE} bytes"
                )
            }
            Self::TooLarge { key, value, longest_key } => write!(
                f,
                "a key of {key} bytes with a value of {value} bytes does not fit a leaf: the \
                 longest key is {longest_key} bytes"
            ),
            Self::KeyTooLong { key, limit } => {
                write!(f, "a key of {key} bytes is too long: this trie allows {limit} bytes")
            }
            Self::Full { max_entries } => {
                write!(f, "the trie is full: it allows {max_entries} entries")
            }
            Self::Memory(kind) => write!(f, "the entry can't be allocated: {kind}"),
        }
    }
}
