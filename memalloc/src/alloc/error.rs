//! Error types.

use crate::class::ClassError;
use crate::parse_name::ParseNameError;
use crate::slab::SlabError;
use crate::sys::cpu::CpuMode;
use std::alloc::Layout;
use std::fmt;
use std::io;

/// A failed allocation: the reason, and the value that was to be moved in (`()` if there was none).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AllocError<T = ()> {
    kind: AllocErrorKind,
    value: T,
}

impl<T> AllocError<T> {
    /// Returns the reason for the failure.
    #[must_use]
    pub fn kind(&self) -> AllocErrorKind {
        self.kind
    }

    /// Returns the value that was to be moved in.
    #[must_use]
    pub fn into_value(self) -> T {
        self.value
    }

    /// Returns the same error with `value` in place of its value.
    #[must_use]
    pub fn with_value<U>(self, value: U) -> AllocError<U> {
        AllocError { kind: self.kind, value }
    }
}

impl From<AllocErrorKind> for AllocError {
    fn from(kind: AllocErrorKind) -> Self {
        Self { kind, value: () }
    }
}

impl<T> fmt::Display for AllocError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

/// For every `T`: the value is not shown.
impl<T> fmt::Debug for AllocError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllocError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<T> std::error::Error for AllocError<T> {}

/// The reason for a failed allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocErrorKind {
    /// The size, in bytes, is larger than the largest class (the kernel's `E2BIG`).
    TooLarge {
        /// The requested size.
        requested: usize,
        /// The largest size allowed.
        limit: usize,
    },
    /// No class that is large enough is aligned to the requested number of bytes.
    OverAligned {
        /// The requested alignment.
        requested: usize,
        /// The strictest alignment of any class that is large enough.
        limit: usize,
    },
    /// The allocator holds as much slab memory, in bytes, as its limit allows.
    LimitReached {
        /// The limit, rounded down to whole slabs.
        limit: u64,
    },
    /// The allocator's address range is used up. It is as large as
    /// [`range_bytes`](crate::Builder::range_bytes) asked for, or as the backing granted.
    RangeExhausted {
        /// The size of the range, in bytes.
        range: u64,
    },
    /// The system has no more memory (`ENOMEM`).
    OutOfMemory,
    /// No object is ready, and the caller must not wait for memory (`GFP_NOWAIT`).
    WouldBlock,
}

impl AllocErrorKind {
    pub(super) fn unservable(layout: Layout, limit_size: usize, limit_align: usize) -> Self {
        if layout.size() > limit_size {
            Self::TooLarge { requested: layout.size(), limit: limit_size }
        } else {
            Self::OverAligned { requested: layout.align(), limit: limit_align }
        }
    }
}

impl From<SlabError> for AllocErrorKind {
    fn from(error: SlabError) -> Self {
        match error {
            SlabError::Limit(limit) => Self::LimitReached { limit },
            SlabError::Range(range) => Self::RangeExhausted { range },
            SlabError::System => Self::OutOfMemory,
        }
    }
}

impl fmt::Display for AllocErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { requested, limit } => {
                write!(f, "{requested} bytes requested: an object has at most {limit}")
            }
            Self::OverAligned { requested, limit } => write!(
                f,
                "alignment to {requested} bytes requested: an object of this size has at most \
                 {limit}"
            ),
            Self::LimitReached { limit } => {
                write!(f, "the limit of {limit} bytes of slab memory is reached")
            }
            Self::RangeExhausted { range } => {
                write!(
                    f,
                    "the allocator's address range of {range} bytes is used up: \
                     set a larger one with Builder::range_bytes"
                )
            }
            Self::OutOfMemory => f.write_str("the system has no more memory"),
            Self::WouldBlock => {
                f.write_str("no object is ready, and this caller must not wait for memory")
            }
        }
    }
}

impl std::error::Error for AllocErrorKind {}

/// The reason that an allocator cannot be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The size classes are invalid.
    Classes(ClassError),
    /// The environment variable `MEMALLOC_CPU_MODE` does not name a CPU mode.
    Environment(ParseNameError),
    /// This system does not support the CPU mode that was asked for.
    CpuMode(CpuMode),
    /// The type does not fit into an object.
    Type {
        /// Size of the type, in bytes.
        size: usize,
        /// Alignment of the type, in bytes.
        align: usize,
        /// The largest size, and strictest alignment, of an object, in bytes.
        limit: usize,
    },
    /// The system refused even the smallest address range, or the first memory.
    Reserve(io::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Classes(error) => error.fmt(f),
            Self::Environment(complaint) => write!(f, "MEMALLOC_CPU_MODE: {complaint}"),
            Self::CpuMode(mode) => {
                write!(f, "CPU mode {mode} is not available here; {} is", CpuMode::best())
            }
            Self::Type { size, align, limit } => write!(
                f,
                "a type of {size} bytes aligned to {align} does not fit: the size and alignment \
                 of an object are at most {limit} bytes"
            ),
            Self::Reserve(error) => write!(f, "no range of addresses could be reserved: {error}"),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Classes(error) => Some(error),
            Self::Environment(error) => Some(error),
            Self::Reserve(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ClassError> for BuildError {
    fn from(error: ClassError) -> Self {
        Self::Classes(error)
    }
}

/// The failure of [`RcuCell::new`](crate::RcuCell::new); gives the value back.
#[non_exhaustive]
pub enum NewCellError<T> {
    /// The cell's cache can't be built.
    Build {
        /// Why not.
        error: BuildError,
        /// The value that was to be moved in.
        value: T,
    },
    /// The allocation of the value failed.
    Alloc(AllocError<T>),
}

impl<T> NewCellError<T> {
    /// The value that was to be moved in.
    #[must_use]
    pub fn into_value(self) -> T {
        match self {
            Self::Build { value, .. } => value,
            Self::Alloc(error) => error.into_value(),
        }
    }
}

impl<T> From<AllocError<T>> for NewCellError<T> {
    fn from(error: AllocError<T>) -> Self {
        Self::Alloc(error)
    }
}

impl<T> fmt::Display for NewCellError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build { error, .. } => error.fmt(f),
            Self::Alloc(error) => error.fmt(f),
        }
    }
}

/// For every `T`: the value is not shown.
impl<T> fmt::Debug for NewCellError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build { error, .. } => {
                f.debug_struct("Build").field("error", error).finish_non_exhaustive()
            }
            Self::Alloc(error) => f.debug_tuple("Alloc").field(error).finish(),
        }
    }
}

impl<T> std::error::Error for NewCellError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Build { error, .. } => error.source(),
            Self::Alloc(_) => None,
        }
    }
}

/// The failure of [`RcuCell::compare_exchange`](crate::RcuCell::compare_exchange); gives the value
/// back.
#[non_exhaustive]
pub enum ExchangeError<T> {
    /// The cell holds another value than the expected one. This is the value that was to be stored.
    Changed(T),
    /// The allocation of the value failed.
    Alloc(AllocError<T>),
}

impl<T> ExchangeError<T> {
    /// The value that was to be stored.
    #[must_use]
    pub fn into_value(self) -> T {
        match self {
            Self::Changed(value) => value,
            Self::Alloc(error) => error.into_value(),
        }
    }
}

impl<T> From<AllocError<T>> for ExchangeError<T> {
    fn from(error: AllocError<T>) -> Self {
        Self::Alloc(error)
    }
}

impl<T> fmt::Display for ExchangeError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(_) => f.write_str("the cell holds another value than the expected one"),
            Self::Alloc(error) => error.fmt(f),
        }
    }
}

/// For every `T`: the value is not shown.
impl<T> fmt::Debug for ExchangeError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(_) => f.debug_tuple("Changed").finish_non_exhaustive(),
            Self::Alloc(error) => f.debug_tuple("Alloc").field(error).finish(),
        }
    }
}

impl<T> std::error::Error for ExchangeError<T> {}
