//! What can go wrong with an insertion.

use memalloc::{AllocErrorKind, MAX_SIZE};
use std::fmt;

/// An insertion that did not happen: why, and the value that was to be moved in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InsertError<V> {
    pub(super) kind: InsertErrorKind,
    pub(super) value: V,
}

impl<V> InsertError<V> {
    /// Why it did not happen.
    pub fn kind(&self) -> InsertErrorKind {
        self.kind
    }

    /// The value that was to be moved in.
    pub fn into_value(self) -> V {
        self.value
    }
}

impl<V> fmt::Display for InsertError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

/// Without the value, so that values of every type may be refused.
impl<V> fmt::Debug for InsertError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InsertError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<V> std::error::Error for InsertError<V> {}

/// Why an insertion did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InsertErrorKind {
    /// The key is there, and was not to be (`EEXIST`).
    Exists,
    /// The key is not there, and was to be (`ENOENT`).
    NotFound,
    /// Key and value do not fit one leaf (`E2BIG`).
    ///
    /// There are two ways out, which `examples/large_values.rs` also shows side by side. The value may
    /// point to the big one, which lies wherever the program keeps such things:
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
    /// Or there are two allocators: the trie's for leaves, and one for values of up to 4096 bytes, so
    /// that a long key does not compete with its value and neither is from the global heap. The
    /// value in the trie is the box; both are freed after a grace period, the leaf first:
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
        /// The longest key that goes with such a value.
        longest_key: usize,
    },
    /// The key is longer than this trie was built for (`EINVAL`).
    KeyTooLong {
        /// The length of the key, in bytes.
        key: usize,
        /// The longest key allowed.
        limit: usize,
    },
    /// The trie had as many entries as it was built for (`ENOSPC`) at a moment during the call, and not the
    /// key.
    Full {
        /// The number of entries allowed.
        max_entries: u64,
    },
    /// A leaf or a branch can't be allocated (`ENOMEM`): why.
    Memory(AllocErrorKind),
}

impl std::error::Error for InsertErrorKind {}

impl fmt::Display for InsertErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_str("the key exists already"),
            Self::NotFound => f.write_str("the key does not exist"),
            Self::TooLarge { value, longest_key: 0, .. } => {
                write!(
                    f,
                    "a value of {value} bytes leaves no room for a key in a leaf of {MAX_SIZE}"
                )
            }
            Self::TooLarge { key, value, longest_key } => write!(
                f,
                "a key of {key} bytes with a value of {value} bytes does not fit a leaf: the \
                 key may have {longest_key} bytes"
            ),
            Self::KeyTooLong { key, limit } => {
                write!(f, "a key of {key} bytes: this trie allows {limit}")
            }
            Self::Full { max_entries } => {
                write!(f, "the trie is full: it allows {max_entries} entries")
            }
            Self::Memory(kind) => write!(f, "the entry can't be allocated: {kind}"),
        }
    }
}
