//! `malloc` on a [`MemAlloc`](memalloc::MemAlloc), for programs that are not written for it:
//!
//! ```sh
//! LD_PRELOAD=target/release/libpreload.so python3 program.py
//! ```
//!
//! Blocks of up to 4096 bytes come from one allocator with fine size classes, larger ones from the
//! C library's own `malloc`. A block has no header: its address tells whose it is, and how large.
//! Environment variables configure the allocator:
//!
//! - `MEMALLOC_POLICY`: the policy of `free`, by default `immediate`;
//! - `MEMALLOC_CPU_MODE`: the way that a thread finds its cache, by default the fastest;
//! - `MEMALLOC_REPORT`: a file, to which each process appends a line when it exits: the number of
//!   slabs that it opened, the policy and the mode.
//!
//! This is an example and a test of `memalloc`, not a faster `malloc`.
#![cfg(all(target_os = "linux", target_env = "gnu", not(loom)))]

mod blocks;
mod system;

use libc::{EINVAL, ENOMEM, c_int, c_void, size_t};
use std::ptr::{self, NonNull};

/// The alignment of every block, as glibc's on 64-bit machines.
const ALIGN: usize = 16;

fn block_of(size: size_t, align: size_t) -> *mut c_void {
    match blocks::allocate(size, align) {
        Some(block) => block.as_ptr().cast(),
        None if align <= ALIGN => system::allocate(size),
        None => system::allocate_aligned(align, size),
    }
}

/// Allocates `size` bytes. Returns null if there is no memory.
#[unsafe(no_mangle)]
pub extern "C" fn malloc(size: size_t) -> *mut c_void {
    block_of(size, ALIGN)
}

/// Allocates `count` elements of `size` bytes, all zero. Returns null if there is no memory.
#[unsafe(no_mangle)]
pub extern "C" fn calloc(count: size_t, size: size_t) -> *mut c_void {
    let block = count.checked_mul(size).and_then(|size| blocks::allocate(size, ALIGN));
    let Some(block) = block else {
        return system::allocate_zeroed(count, size);
    };
    // SAFETY: the block is this caller's alone, and as long as its slice.
    unsafe { block.cast::<u8>().write_bytes(0, block.len()) };
    block.as_ptr().cast()
}

/// Frees a block. Does nothing for null.
///
/// # Safety
///
/// `block` is null, or a block that is not used or freed again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(block: *mut c_void) {
    let Some(start) = NonNull::new(block.cast::<u8>()) else { return };
    // SAFETY: the caller's promise; the block is of the allocator that knows its size.
    unsafe {
        match blocks::size_of(start) {
            Some(size) => blocks::free(start, size),
            None => system::free(block),
        }
    }
}

/// Changes the size of a block, which may move. Returns null, and leaves the block as it is, if
/// there is no memory. A size of zero frees the block.
///
/// # Safety
///
/// As [`free`]; if the result is not null, it is the block from now on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(block: *mut c_void, size: size_t) -> *mut c_void {
    let Some(start) = NonNull::new(block.cast::<u8>()) else { return malloc(size) };
    let Some(held) = blocks::size_of(start) else {
        // SAFETY: the caller's promise, for a block of the C library.
        return unsafe { system::reallocate(block, size) };
    };
    if size == 0 {
        // SAFETY: the caller's promise.
        unsafe { blocks::free(start, held) };
        return ptr::null_mut();
    }
    // A block that is half used is not moved.
    if size <= held && size > held / 2 {
        return block;
    }
    let moved = malloc(size);
    if !moved.is_null() {
        // SAFETY: both blocks are this caller's, different, and at least so long.
        unsafe {
            ptr::copy_nonoverlapping(block.cast::<u8>(), moved.cast(), held.min(size));
            blocks::free(start, held);
        }
    }
    moved
}

/// Allocates `size` bytes at a multiple of `align`, and stores the address in `place`. Returns an
/// error number, or 0.
///
/// # Safety
///
/// `place` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(
    place: *mut *mut c_void,
    align: size_t,
    size: size_t,
) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<*mut c_void>()) {
        return EINVAL;
    }
    let block = block_of(size, align);
    if block.is_null() {
        return ENOMEM;
    }
    // SAFETY: the caller's promise.
    unsafe { place.write(block) };
    0
}

/// Allocates `size` bytes at a multiple of `align`. Returns null if there is no memory, or `align`
/// is none.
#[unsafe(no_mangle)]
pub extern "C" fn aligned_alloc(align: size_t, size: size_t) -> *mut c_void {
    block_of(size, align)
}

/// As [`aligned_alloc`].
#[unsafe(no_mangle)]
pub extern "C" fn memalign(align: size_t, size: size_t) -> *mut c_void {
    block_of(size, align)
}

/// Returns how many bytes of a block can be used: 0 for null.
///
/// # Safety
///
/// `block` is null, or a block that is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> size_t {
    let Some(start) = NonNull::new(block.cast::<u8>()) else { return 0 };
    match blocks::size_of(start) {
        Some(size) => size,
        // SAFETY: the caller's promise, for a block of the C library.
        None => unsafe { system::usable_size(block) },
    }
}
