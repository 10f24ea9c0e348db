//! A backing that refuses the requests that a test chooses.

use super::Backing;
use std::alloc::Layout;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the requests that may fail ([`reserve`](Backing::reserve),
/// [`reserve_growing`](Backing::reserve_growing), [`grow`](Backing::grow) and
/// [`commit`](Backing::commit)) and refuses the chosen ones before they reach the backing behind
/// it. Initially it refuses nothing.
///
/// Share it in an `Arc` between the allocator and the test. See the [module's
/// example](crate::backing).
#[derive(Debug, Default)]
pub struct FailOnDemand<B> {
    behind: B,
    requests: AtomicU64,
    failures: AtomicU64,
    /// The requests from `first` to before `end` fail.
    first: AtomicU64,
    end: AtomicU64,
}

impl<B: Backing> FailOnDemand<B> {
    /// Creates a `FailOnDemand` in front of `behind`.
    #[must_use]
    pub const fn new(behind: B) -> Self {
        Self {
            behind,
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            first: AtomicU64::new(0),
            end: AtomicU64::new(0),
        }
    }

    /// Sets which requests fail from now on, by number. The first request that this backing ever
    /// gets is number 0. `fail(..)` refuses everything, `fail(3..4)` the fourth request, and
    /// `fail(0..0)` nothing. A request that another thread makes meanwhile may see only one of the
    /// two bounds.
    pub fn fail(&self, requests: impl RangeBounds<u64>) {
        let first = match requests.start_bound() {
            Bound::Included(&first) => first,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match requests.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        self.first.store(first, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
    }

    /// Returns the number of requests so far, refused or not: the number of the next request.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the number of refused requests.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn admit(&self) -> io::Result<()> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let refused = self.first.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed);
        if !refused.contains(&number) {
            return Ok(());
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        // Only a kind: a message would be allocated, perhaps in a signal handler.
        Err(io::ErrorKind::OutOfMemory.into())
    }
}

// SAFETY: every promise is kept by the backing behind; a refused request provided nothing.
unsafe impl<B: Backing> Backing for FailOnDemand<B> {
    fn default_range_bytes(&self) -> u64 {
        self.behind.default_range_bytes()
    }

    fn reserve(&self, layout: Layout) -> io::Result<NonNull<u8>> {
        self.admit()?;
        self.behind.reserve(layout)
    }

    fn reserve_growing(&self, layout: Layout) -> io::Result<(NonNull<u8>, usize)> {
        self.admit()?;
        self.behind.reserve_growing(layout)
    }

    unsafe fn grow(&self, start: NonNull<u8>, reserved: usize, wanted: usize) -> io::Result<()> {
        self.admit()?;
        // SAFETY: the caller's promise.
        unsafe { self.behind.grow(start, reserved, wanted) }
    }

    unsafe fn commit(&self, part: NonNull<[u8]>) -> io::Result<()> {
        self.admit()?;
        // SAFETY: the caller's promise.
        unsafe { self.behind.commit(part) }
    }

    unsafe fn release(&self, part: NonNull<[u8]>) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.behind.release(part) }
    }

    unsafe fn advise_huge(&self, part: NonNull<[u8]>) {
        // SAFETY: the caller's promise.
        unsafe { self.behind.advise_huge(part) };
    }

    unsafe fn advise_small(&self, part: NonNull<[u8]>) {
        // SAFETY: the caller's promise.
        unsafe { self.behind.advise_small(part) };
    }

    unsafe fn unreserve(&self, start: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.behind.unreserve(start, layout) };
    }
}
