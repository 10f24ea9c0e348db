//! Rival allocators, called by the names in their libraries, without a layer in between. Each
//! exists once in the whole process and is never closed.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::Once;

use super::Setting;
use super::allocator::Allocator;
use crate::measure::WrongAnswer;
use crate::workload::Subject;
use crate::workload::rivals::version;

/// Returns all rivals.
pub(super) fn subjects<'d>(setting: Setting) -> Vec<Subject<'d>> {
    vec![
        setting.rival("mimalloc", version("libmimalloc-sys"), Mimalloc),
        setting.rival("jemalloc", version("tikv-jemalloc-sys"), Jemalloc),
        setting.rival("snmalloc", version("snmalloc-sys"), Snmalloc),
        setting.rival("rpmalloc", version("rpmalloc-sys"), Rpmalloc),
    ]
}

/// The alignment of blocks that all rivals guarantee.
const ALIGNMENT: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Mimalloc;

impl Allocator for Mimalloc {
    #[inline]
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        debug_assert!(layout.align() <= ALIGNMENT);
        // SAFETY: every size is allowed.
        NonNull::new(unsafe { libmimalloc_sys::mi_malloc(layout.size()) }.cast())
    }

    #[inline]
    unsafe fn free(&self, place: NonNull<u8>, _layout: Layout) {
        // SAFETY: the caller has it from `alloc`, and does not use it again.
        unsafe { libmimalloc_sys::mi_free(place.as_ptr().cast()) }
    }

    fn held_bytes(&self) -> Option<u64> {
        None
    }

    fn close(self) -> Result<(), WrongAnswer> {
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
struct Jemalloc;

impl Allocator for Jemalloc {
    #[inline]
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        debug_assert!(layout.align() <= ALIGNMENT);
        // SAFETY: every size is allowed.
        NonNull::new(unsafe { tikv_jemalloc_sys::malloc(layout.size()) }.cast())
    }

    #[inline]
    unsafe fn free(&self, place: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller has it from `alloc` with this size, and does not use it again.
        unsafe { tikv_jemalloc_sys::sdallocx(place.as_ptr().cast(), layout.size(), 0) }
    }

    fn held_bytes(&self) -> Option<u64> {
        None
    }

    fn close(self) -> Result<(), WrongAnswer> {
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
struct Snmalloc;

impl Allocator for Snmalloc {
    #[inline]
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        // SAFETY: the layout's alignment is a power of two.
        NonNull::new(unsafe { snmalloc_sys::sn_rust_alloc(layout.align(), layout.size()) }.cast())
    }

    #[inline]
    unsafe fn free(&self, place: NonNull<u8>, layout: Layout) {
        let (align, size) = (layout.align(), layout.size());
        // SAFETY: the caller has it from `alloc` with this layout, and does not use it again.
        unsafe { snmalloc_sys::sn_rust_dealloc(place.as_ptr().cast(), align, size) };
    }

    fn held_bytes(&self) -> Option<u64> {
        None
    }

    fn close(self) -> Result<(), WrongAnswer> {
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
struct Rpmalloc;

unsafe extern "C" {
    /// The binding that comes with the library lacks the parameter.
    fn rpmalloc_thread_finalize(release_caches: c_int);
}

/// A thread's heap, for as long as the thread lives.
struct Heap;

impl Heap {
    fn open() -> Self {
        static INITIALIZED: Once = Once::new();
        // SAFETY: called once, before any other call: it does not support two threads at a time.
        INITIALIZED.call_once(|| unsafe {
            rpmalloc_sys::rpmalloc_initialize();
        });
        // SAFETY: the allocator is initialized; each thread calls it before its first block.
        unsafe { rpmalloc_sys::rpmalloc_thread_initialize() };
        Self
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: opened by this thread, which is about to end and allocates no more.
        unsafe { rpmalloc_thread_finalize(1) }
    }
}

thread_local! {
    static HEAP: Heap = Heap::open();
}

impl Allocator for Rpmalloc {
    fn enter(&self) {
        HEAP.with(|_| ());
    }

    #[inline]
    fn alloc(&self, layout: Layout) -> Option<NonNull<u8>> {
        debug_assert!(layout.align() <= ALIGNMENT);
        // SAFETY: this thread has called `enter`.
        NonNull::new(unsafe { rpmalloc_sys::rpmalloc(layout.size()) }.cast())
    }

    #[inline]
    unsafe fn free(&self, place: NonNull<u8>, _layout: Layout) {
        // SAFETY: the caller has it from `alloc`, and does not use it again.
        unsafe { rpmalloc_sys::rpfree(place.as_ptr().cast()) }
    }

    fn held_bytes(&self) -> Option<u64> {
        None
    }

    fn close(self) -> Result<(), WrongAnswer> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::held_objects::HeldObjects;
    use super::*;

    /// Checks that an allocator serves distinct, aligned objects, on threads that start and end.
    #[track_caller]
    fn serves<S: Allocator + Copy>(allocator: S) {
        for size in [16, 64, 4096] {
            let layout = Layout::from_size_align(size, ALIGNMENT).unwrap();
            for _ in 0..3 {
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        allocator.enter();
                        let mut objects = HeldObjects::<_, 64>::new(&allocator, layout);
                        for stamp in [0, 64, 128] {
                            assert_eq!((objects.fill(stamp), objects.empty(stamp)), (64, 64));
                        }
                        let place = allocator.alloc(layout).unwrap();
                        assert_eq!(place.as_ptr().align_offset(ALIGNMENT), 0);
                        // SAFETY: taken above with this layout, and not used again.
                        unsafe { allocator.free(place, layout) };
                    });
                });
            }
        }
    }

    #[test]
    fn every_rival_serves_distinct_aligned_objects() {
        serves(Mimalloc);
        serves(Jemalloc);
        serves(Snmalloc);
        serves(Rpmalloc);
    }
}
