//! The source of an allocator's memory.
//!
//! An allocator asks its [`Backing`] for a few address ranges when it is built, and for memory for
//! parts of them as it grows. It finds an object by adding to the start of a range, so the kind of
//! backing costs nothing when objects are allocated or freed. [`Mapped`] is the default on Linux.
//! [`System`] works on operating systems that cannot reserve addresses. [`FailOnDemand`] wraps
//! another backing and refuses the requests that a test chooses.
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
//! This layer knows nothing of the contents of a range. Not all of an allocator's memory comes from
//! a backing: the list of the slabs and the tables on them come from the global allocator. Under
//! loom the model has its own memory, and the backing is not used.

// Invariants:
//
// - MEM-K1: a range stays reserved, and its backing alive, until the part of the allocator that
//   asked for it is dropped.
// - MEM-K2: committed memory stays readable and writable as long as its range is reserved.

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

/// Provides address ranges, and memory for them.
///
/// # Safety
///
/// A range returned by [`reserve`](Self::reserve) is `layout.size()` bytes that nothing else uses,
/// aligned to `layout.align()`, at one address until [`unreserve`](Self::unreserve). From a
/// [`commit`](Self::commit) that succeeds until then, every byte of the part can be read and
/// written by every thread. A byte is zero if it was never written, and keeps its value until it is
/// [released](Self::release). No method unwinds.
///
/// An allocator commits and releases inside calls that it declares async-signal-safe (its frees).
/// If these two methods are not async-signal-safe, the frees of an allocator on this backing are
/// not either.
pub unsafe trait Backing: Send + Sync + fmt::Debug {
    /// Returns how much address space an allocator asks for if its builder sets none, in bytes. A
    /// backing that holds all that it reserves should return little. Default: 64 MiB.
    fn default_range_bytes(&self) -> u64 {
        64 << 20
    }

    /// Reserves an address range. No part of it is accessed before it is committed.
    ///
    /// # Errors
    ///
    /// If there is no such range; the allocator then asks for a smaller one.
    fn reserve(&self, layout: Layout) -> io::Result<NonNull<u8>>;

    /// Finds an address range that may grow to `layout`. Returns its start, and how many bytes from
    /// the start are already reserved. The default reserves all of them with
    /// [`reserve`](Self::reserve). A backing that reserves less has to implement
    /// [`grow`](Self::grow).
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve).
    fn reserve_growing(&self, layout: Layout) -> io::Result<(NonNull<u8>, usize)> {
        self.reserve(layout).map(|start| (start, layout.size()))
    }

    /// Raises the reserved bytes of a range that [`reserve_growing`](Self::reserve_growing)
    /// returned from `reserved` to `wanted`. It is never called while another call grows the same
    /// range, nor in a signal handler.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the range cannot become that long, which
    /// the allocator reports as [`RangeExhausted`](crate::AllocErrorKind::RangeExhausted); any
    /// other kind if there is no memory. The allocator may try again.
    ///
    /// # Safety
    ///
    /// The range is one of this backing, `reserved` bytes of it are reserved, and `wanted` is more
    /// than that, at most the layout's size, and a multiple of 4096.
    unsafe fn grow(&self, start: NonNull<u8>, reserved: usize, wanted: usize) -> io::Result<()> {
        _ = (start, reserved, wanted);
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Provides memory for a part of a range. A part that has memory already keeps it with its
    /// contents: several threads may commit the same part at once, or commit a part again.
    ///
    /// # Errors
    ///
    /// If there is no memory; the allocator may try again.
    ///
    /// # Safety
    ///
    /// The part lies in a range of this backing, at multiples of 4096 bytes.
    unsafe fn commit(&self, part: NonNull<[u8]>) -> io::Result<()>;

    /// Returns the memory of a committed part to the system. The part stays readable and writable
    /// and holds either zeros or its old contents. Returns true if the memory was returned; if not,
    /// the allocator keeps counting it as its own.
    ///
    /// # Safety
    ///
    /// As [`commit`](Self::commit), and the contents of the part are no longer needed.
    unsafe fn release(&self, part: NonNull<[u8]>) -> bool;

    /// Asks for huge pages for a committed part, if the system has any.
    ///
    /// # Safety
    ///
    /// As [`commit`](Self::commit).
    unsafe fn advise_huge(&self, part: NonNull<[u8]>) {
        let _ = part;
    }

    /// Asks for pages of the smallest size for a committed part, of which little is used.
    ///
    /// # Safety
    ///
    /// As [`commit`](Self::commit).
    unsafe fn advise_small(&self, part: NonNull<[u8]>) {
        let _ = part;
    }

    /// Releases a range.
    ///
    /// # Safety
    ///
    /// `start` came from [`reserve`](Self::reserve) with this layout, or from
    /// [`reserve_growing`](Self::reserve_growing), and the layout's size is the size that is
    /// reserved by now, perhaps 0. The range is no longer used.
    unsafe fn unreserve(&self, start: NonNull<u8>, layout: Layout);
}

/// Lets the caller keep access to a backing, or several allocators share it.
// SAFETY: every promise is kept by the inner backing.
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

/// Returns the default backing.
pub(crate) fn usual() -> Arc<dyn Backing> {
    #[cfg(all(target_os = "linux", not(miri), not(loom)))]
    return Arc::new(Mapped);
    #[cfg(not(all(target_os = "linux", not(miri), not(loom))))]
    Arc::new(System)
}
