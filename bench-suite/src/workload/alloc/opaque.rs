//! A pointer of which the optimiser knows nothing.
#![allow(unsafe_code)]

use std::arch::asm;
use std::ptr::NonNull;

/// Returns the same place in a way that makes the optimiser assume that other code has read it. It
/// stays in a register: `black_box` would move it through memory, which takes as long as an
/// allocation.
#[inline(always)]
pub(super) fn opaque(place: NonNull<u8>) -> NonNull<u8> {
    let mut opaque = place.as_ptr();
    // SAFETY: there is no instruction, so what goes in comes out.
    unsafe {
        asm!("/* {opaque} */", opaque = inout(reg) opaque, options(nostack, preserves_flags));
        NonNull::new_unchecked(opaque)
    }
}
