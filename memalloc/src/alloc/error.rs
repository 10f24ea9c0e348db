//! What can go wrong, as values.

use crate::class::ClassError;
use crate::parse_name::ParseNameError;
use crate::slab::SlabError;
use crate::sys::cpu::CpuMode;
use std::alloc::Layout;
use std::fmt;
use std::io;

/// An allocation that failed: why, and the value that was to be moved in (`()` where there is
/// none).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AllocError<T = ()> {
    kind: AllocErrorKind,
    value: T,
}

impl<T> AllocError<T> {
    /// Why it failed.
    #[must_use]
    pub fn kind(&self) -> AllocErrorKind {
        self.kind
    }

    /// The value that was to be moved in.
    pub fn into_value(self) -> T {
        self.value
    }

    /// The same error, giving `value` back.
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

/// Why an allocation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocErrorKind {
    /// The size, in bytes, is above the largest class (the kernel's `E2BIG`).
    TooLarge {
        /// What was asked for.
        requested: usize,
        /// What is allowed.
        limit: usize,
    },
    /// No class that is large enough is aligned to so many bytes.
    OverAligned {
        /// What was asked for.
        requested: usize,
        /// The strictest alignment that any class has.
        limit: usize,
    },
    /// The allocator holds as much slab memory as it was allowed, in bytes.
    LimitReached {
        /// The allowance, in whole slabs.
        limit: u64,
    },
    /// The allocator's range of addresses is used up: as large as its builder was told
    /// ([`range_bytes`](crate::Builder::range_bytes)), or as the backing could make it.
    RangeExhausted {
        /// The size of the range, in bytes.
        range: u64,
    },
    /// The system has no more memory (`ENOMEM`).
    OutOfMemory,
    /// Nothing is ready, and the caller may not wait for memory (`GFP_NOWAIT`).
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
                     Builder::range_bytes asks for more, as far as the system has them"
                )
            }
            Self::OutOfMemory => f.write_str("the system has no more memory"),
            Self::WouldBlock => {
                f.write_str("no object is ready, and this caller may not wait for memory")
            }
        }
    }
}

impl std::error::Error for AllocErrorKind {}

/// Why an allocator can't be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The size classes contradict each other.
    Classes(ClassError),
    /// The environment variable `MEMALLOC_CPU_MODE` does not name a CPU mode: what is wrong.
    Environment(ParseNameError),
    /// This system does not have the CPU mode that was asked for.
    CpuMode(CpuMode),
    /// The type does not fit an object: size and alignment in bytes, and the size allowed.
    Type {
        /// Size of the type.
        size: usize,
        /// Alignment of the type.
        align: usize,
        /// The largest size, and strictest alignment, of an object.
        limit: usize,
    },
    /// The system refused even the least range of addresses, or the memory to begin with.
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
                "a type of {size} bytes aligned to {align} does not fit: an object has at most \
                 {limit} bytes, and that alignment at most"
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
