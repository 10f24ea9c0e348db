//! The C library's own allocator, under the names that it keeps when `malloc` is replaced.
//!
//! No search for the next `malloc` is needed, which might itself allocate. The memory that
//! `memalloc` takes from the global allocator comes from here as well, so that an allocation inside
//! an allocation is none of ours.

use libc::{c_void, size_t};
use std::alloc::{GlobalAlloc, Layout};

unsafe extern "C" {
    fn __libc_malloc(size: size_t) -> *mut c_void;
    fn __libc_calloc(count: size_t, size: size_t) -> *mut c_void;
    fn __libc_realloc(block: *mut c_void, size: size_t) -> *mut c_void;
    fn __libc_memalign(align: size_t, size: size_t) -> *mut c_void;
    fn __libc_free(block: *mut c_void);
}

pub(crate) fn allocate(size: size_t) -> *mut c_void {
    // SAFETY: may be called with any size.
    unsafe { __libc_malloc(size) }
}

pub(crate) fn allocate_zeroed(count: size_t, size: size_t) -> *mut c_void {
    // SAFETY: may be called with any numbers.
    unsafe { __libc_calloc(count, size) }
}

pub(crate) fn allocate_aligned(align: size_t, size: size_t) -> *mut c_void {
    // SAFETY: may be called with any numbers.
    unsafe { __libc_memalign(align, size) }
}

/// # Safety
///
/// `block` came from this module, and is not used or freed again. If the result is not null, it
/// replaces `block`.
pub(crate) unsafe fn reallocate(block: *mut c_void, size: size_t) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { __libc_realloc(block, size) }
}

/// # Safety
///
/// `block` came from this module, and is not used or freed again.
pub(crate) unsafe fn free(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { __libc_free(block) }
}

/// # Safety
///
/// `block` came from this module and is not freed.
pub(crate) unsafe fn usable_size(block: *mut c_void) -> size_t {
    // SAFETY: the name is a string. The function that follows this library's is the C library's,
    // and has this type; the block is one of its own.
    unsafe {
        let next = libc::dlsym(libc::RTLD_NEXT, c"malloc_usable_size".as_ptr());
        if next.is_null() {
            return 0;
        }
        let next: unsafe extern "C" fn(*mut c_void) -> size_t = std::mem::transmute(next);
        next(block)
    }
}

/// The global allocator of this library.
struct System;

// SAFETY: the C library's allocator keeps these promises; `__libc_memalign` aligns as it is told.
unsafe impl GlobalAlloc for System {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocate_aligned(layout.align(), layout.size()).cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { free(block.cast()) }
    }
}

#[global_allocator]
static SYSTEM: System = System;
