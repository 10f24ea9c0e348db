//! Where the memory of an allocator comes from.
//!
//! An allocator asks its [`Backing`] for a few ranges of addresses when it is built, and for
//! memory behind parts of them as it grows; it finds an object by adding to the start of a range,
//! so what the backing is costs nothing when objects move. [`Mapped`] is the usual one.
//! [`System`] needs no operating system that can reserve addresses. [`FailOnDemand`] stands
//! before another and refuses the requests that a test chooses.
//!
//! ```
//! use memalloc::backing::{FailOnDemand, System};
//! use memalloc::{AllocErrorKind, Immediate, MemAlloc};
//! use std::alloc::Layout;
//! use std::sync::Arc;
//!
//! let backing = Arc::new(FailOnDemand::new(System));
//! let alloc = MemAlloc::<Immediate>::builder().backing(Arc::clone(&backing)).build()?;
//!
//! backing.fail(..);
//! let error = alloc.alloc(Layout::new::<u64>()).unwrap_err();
//! assert_eq!(error.kind(), AllocErrorKind::OutOfMemory);
//! assert!(backing.failures() > 0);
//!
//! backing.fail(0..0);
//! let object = alloc.alloc(Layout::new::<u64>())?.cast();
//! // SAFETY: allocated with this layout, and freed once.
//! unsafe { alloc.free(object, Layout::new::<u64>()) };
//! alloc.destroy()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Knows nothing of what lies in a range. Not all of an allocator's memory comes from here: what
//! it keeps on the slabs, and the list of its slabs, the global allocator has. Under loom the
//! model has memory of its own, and a backing is not asked.
//!
//! - INV-K1: a range stays reserved, and its backing in being, until the part of the allocator that
//!   asked for it is dropped.
//! - INV-K2: what was committed stays readable and writable as long as its range is reserved.

mod fail_on_demand;
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
mod mapped;
#[cfg(not(loom))]
mod region;
mod system;

pub use fail_on_demand::FailOnDemand;
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
pub use mapped::Mapped;
#[cfg(not(loom))]
pub(crate) use region::Region;
pub use system::System;

use std::alloc::Layout;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// Gives ranges of addresses, and memory behind them.
///
/// # Safety
///
/// A range that [`reserve`](Self::reserve) gave is `layout.size()` bytes that nothing else uses,
/// aligned to `layout.align()`, at one place until [`unreserve`](Self::unreserve). From a
/// [`commit`](Self::commit) that succeeds until then, every byte of the part can be read and
/// written by every thread; it is zero if it was never written, and keeps what was written until
/// it is [released](Self::release). No method unwinds.
///
/// An allocator commits and releases inside of calls that it declares async-signal-safe (its
/// frees): so these two methods must be, or the frees of an allocator on such a backing are not.
pub unsafe trait Backing: Send + Sync + fmt::Debug {
    /// How much address space an allocator asks for when its builder is not told, in bytes.
    /// A backing that holds all it reserves names little; without it, 64 MiB.
    fn default_range_bytes(&self) -> u64 {
        64 << 20
    }

    /// Reserves a range of addresses. Nobody touches a part of it before it is committed.
    ///
    /// # Errors
    ///
    /// When there is no such range; an allocator then asks for a smaller one.
    fn reserve(&self, layout: Layout) -> io::Result<NonNull<u8>>;

    /// Finds a range of addresses that may grow to `layout`, and says how many bytes of it, from
    /// the start, are reserved already: without it, [`reserve`](Self::reserve) gives all of them.
    /// A backing that reserves less has to implement [`grow`](Self::grow).
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve).
    fn reserve_growing(&self, layout: Layout) -> io::Result<(NonNull<u8>, usize)> {
        self.reserve(layout).map(|start| (start, layout.size()))
    }

    /// Reserves more of a range that [`reserve_growing`](Self::reserve_growing) gave: of which
    /// `reserved` bytes are reserved, `wanted` bytes. Never called while another call grows
    /// the same range, nor in a signal handler.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) when the range can't become so long, which
    /// the allocator reports as [`RangeExhausted`](crate::AllocErrorKind::RangeExhausted); any
    /// other when there is no memory. More may be asked for again.
    ///
    /// # Safety
    ///
    /// The range is one of this backing, `reserved` is what was reserved so far, and `wanted` more
    /// than that, at most the layout's size, and a multiple of 4096.
    unsafe fn grow(&self, start: NonNull<u8>, reserved: usize, wanted: usize) -> io::Result<()> {
        _ = (start, reserved, wanted);
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Puts memory behind a part of a range. A part that has memory already keeps it, and what is
    /// in it: several threads may commit one part at once, or a part again.
    ///
    /// # Errors
    ///
    /// When there is no memory; the part may be asked for again.
    ///
    /// # Safety
    ///
    /// The part lies in a range of this backing, at multiples of 4096 bytes.
    unsafe fn commit(&self, part: NonNull<[u8]>) -> io::Result<()>;

    /// Takes back the memory of a committed part, which stays readable and writable, with
    /// whatever in it: zeros, or what was there. Says whether the memory went back; where it did
    /// not, the allocator goes on counting it as its own.
    ///
    /// # Safety
    ///
    /// As [`commit`](Self::commit), and nobody needs what is in the part.
    unsafe fn release(&self, part: NonNull<[u8]>) -> bool;

    /// Asks for huge pages behind a committed part, where there are such.
    ///
    /// # Safety
    ///
    /// As [`commit`](Self::commit).
    unsafe fn advise_huge(&self, part: NonNull<[u8]>) {
        let _ = part;
    }

    /// Asks for pages of the smallest size behind a committed part, of which little is used.
    ///
    /// # Safety
    ///
    /// As [`commit`](Self::commit).
    unsafe fn advise_small(&self, part: NonNull<[u8]>) {
        let _ = part;
    }

    /// Ends a range.
    ///
    /// # Safety
    ///
    /// `start` came from [`reserve`](Self::reserve) with this layout, or from
    /// [`reserve_growing`](Self::reserve_growing), and the layout has the size that is reserved by
    /// now, perhaps 0; nobody uses the range any more.
    unsafe fn unreserve(&self, start: NonNull<u8>, layout: Layout);
}

/// A backing that the caller keeps a hand on, or that several allocators share.
// SAFETY: every promise is the inner backing's.
unsafe impl<B: Backing + ?Sized> Backing for Arc<B> {
    fn default_range_bytes(&self) -> u64 {
        (**self).default_range_bytes()
    }

    fn reserve(&self, layout: Layout) -> io::Result<NonNull<u8>> {
        (**self).reserve(layout)
    }

    fn reserve_growing(&self, layout: Layout) -> io::Result<(NonNull<u8>, usize)> {
        (**self).reserve_growing(layout)
    }

    unsafe fn grow(&self, start: NonNull<u8>, reserved: usize, wanted: usize) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { (**self).grow(start, reserved, wanted) }
    }

    unsafe fn commit(&self, part: NonNull<[u8]>) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { (**self).commit(part) }
    }

    unsafe fn release(&self, part: NonNull<[u8]>) -> bool {
        // SAFETY: the caller's promise.
        unsafe { (**self).release(part) }
    }

    unsafe fn advise_huge(&self, part: NonNull<[u8]>) {
        // SAFETY: the caller's promise.
        unsafe { (**self).advise_huge(part) }
    }

    unsafe fn advise_small(&self, part: NonNull<[u8]>) {
        // SAFETY: the caller's promise.
        unsafe { (**self).advise_small(part) }
    }

    unsafe fn unreserve(&self, start: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { (**self).unreserve(start, layout) }
    }
}

/// What an allocator stands on when its builder is not told.
pub(crate) fn usual() -> Arc<dyn Backing> {
    #[cfg(all(target_os = "linux", not(miri), not(loom)))]
    return Arc::new(Mapped);
    #[cfg(not(all(target_os = "linux", not(miri), not(loom))))]
    Arc::new(System)
}
