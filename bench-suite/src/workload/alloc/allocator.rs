//! Where memory comes from: `memalloc`, and the system's allocator.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;

use memalloc::{MemAlloc, ReusePolicy};

use crate::measure::WrongAnswer;

/// Gives out memory.
pub(super) trait Allocator: Sync {
    /// To be called by a thread before the first [`Allocator::alloc`] of a stretch of work.
    fn enter(&self) {}

    /// Memory for a layout of at least eight bytes, or `None` if there is no more.
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>>;

    /// Takes memory back.
    ///
    /// # Safety
    ///
    /// `place` came from [`Allocator::alloc`] of this allocator with this layout, and is not used any
    /// more.
    unsafe fn free(&self, place: NonNull<u8>, layout: Layout);

    /// Makes the calling thread one that may read, until it ends.
    fn register_reader(&self) {}

    /// Calls `inside` in a read section. An allocator that has none calls it outside of any.
    fn section(&self, inside: impl FnOnce()) {
        inside();
    }

    /// Bytes held from the system, where that can be known.
    fn held_bytes(&self) -> Option<u64>;

    /// Takes leave of the allocator, once everything has been given back to it, and checks that
    /// nothing was lost.
    fn close(self) -> Result<(), WrongAnswer>;
}

impl<P: ReusePolicy> Allocator for MemAlloc<P> {
    #[inline]
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        self.alloc(layout).ok().map(NonNull::cast)
    }

    #[inline]
    unsafe fn free(&self, place: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise is the one that `free` asks for.
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
    /// What records call it.
    pub(super) const NAME: &'static str =
        if cfg!(all(target_os = "linux", target_env = "gnu")) { "glibc" } else { "malloc" };
}

impl Allocator for SystemMalloc {
    #[inline]
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        debug_assert!(layout.size() > 0);
        // SAFETY: the layout has a size, as `alloc` asks for.
        NonNull::new(unsafe { System.alloc(layout) })
    }

    #[inline]
    unsafe fn free(&self, place: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise is the one that `dealloc` asks for.
        unsafe { System.dealloc(place.as_ptr(), layout) }
    }

    fn held_bytes(&self) -> Option<u64> {
        None
    }

    fn close(self) -> Result<(), WrongAnswer> {
        Ok(())
    }
}

/// Has glibc keep what is free at the top of its heap. Says whether it will.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn stop_trimming() -> bool {
    // SAFETY: it takes numbers, and locks what it changes.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX) == 1 }
}

/// The version of the C library, where it tells.
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
