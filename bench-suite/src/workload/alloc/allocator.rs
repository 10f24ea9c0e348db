//! The allocators: `memalloc`, and the system's.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;

use memalloc::{MemAlloc, ReusePolicy};

use crate::measure::WrongAnswer;

/// An allocator under test.
pub(super) trait Allocator: Sync {
    /// Prepares the calling thread; must precede its first [`Allocator::alloc`] in a stretch of
    /// work.
    fn enter(&self) {}

    /// Allocates memory for a layout of at least 8 bytes; `None` if memory is exhausted.
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>>;

    /// Frees memory.
    ///
    /// # Safety
    ///
    /// `place` came from [`Allocator::alloc`] of this allocator with this layout, and is not used
    /// again.
    unsafe fn free(&self, place: NonNull<u8>, layout: Layout);

    /// Registers the calling thread as a reader until it ends.
    fn register_reader(&self) {}

    /// Calls `inside` in a read section, or directly if the allocator has no read sections.
    fn section(&self, inside: impl FnOnce()) {
        inside();
    }

    /// Returns the bytes held from the system, if known.
    fn held_bytes(&self) -> Option<u64>;

    /// Destroys the allocator, after everything was freed, and checks that nothing was lost.
    fn close(self) -> Result<(), WrongAnswer>;
}

impl<P: ReusePolicy> Allocator for MemAlloc<P> {
    #[inline]
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.alloc(layout).ok().map(NonNull::cast)
    }

    #[inline]
    unsafe fn free(&self, place: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise is the one that `free` requires.
        unsafe { self.free(place, layout) }
    }

    fn register_reader(&self) {
        self.domain().register();
    }

    #[inline]
    fn section(&self, inside: impl FnOnce()) {
        let _guard = self.domain().pin();
        inside();
    }

    fn held_bytes(&self) -> Option<u64> {
        Some(self.backing_bytes())
    }

    fn close(self) -> Result<(), WrongAnswer> {
        self.quiesce()
            .map_err(|error| WrongAnswer(format!("waiting for a grace period failed: {error}")))?;
        let stats = self.stats();
        let accounted = stats.live.objects + stats.cached.objects + stats.pending.objects;
        if stats.live.objects != 0 || accounted != stats.taken.objects {
            return Err(WrongAnswer(format!(
                "the statistics do not add up after everything was freed: {stats:?}"
            )));
        }
        match self.destroy() {
            Ok(_) => Ok(()),
            Err(leak) => Err(WrongAnswer(format!("after everything was freed: {leak}"))),
        }
    }
}

/// The allocator of the C library.
#[derive(Clone, Copy, Debug)]
pub(super) struct SystemMalloc;

impl SystemMalloc {
    /// The name in records.
    pub(super) const NAME: &'static str =
        if cfg!(all(target_os = "linux", target_env = "gnu")) { "glibc" } else { "malloc" };
}

impl Allocator for SystemMalloc {
    #[inline]
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        debug_assert!(layout.size() > 0);
        // SAFETY: the layout has a size, as `alloc` requires.
        NonNull::new(unsafe { System.alloc(layout) })
    }

    #[inline]
    unsafe fn free(&self, place: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise is the one that `dealloc` requires.
        unsafe { System.dealloc(place.as_ptr(), layout) }
    }

    fn held_bytes(&self) -> Option<u64> {
        None
    }

    fn close(self) -> Result<(), WrongAnswer> {
        Ok(())
    }
}

/// Tells glibc to keep free memory at the top of its heap. Returns whether it accepted.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn stop_trimming() -> bool {
    // SAFETY: it takes numbers, and locks what it changes.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX) == 1 }
}

/// Returns the version of the C library, if known.
pub(super) fn system_version() -> String {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it takes nothing, and returns a string that is never changed or freed.
        let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
        version.to_string_lossy().into_owned()
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        "unknown".into()
    }
}
