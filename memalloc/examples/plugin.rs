//! A library that a program may load, use and unload: what a plug-in that has an allocator of its own
//! looks like to it.

use memalloc::{AfterRcuGp, Cache};

/// Allocates, reads and frees values, and ends its cache. Returns how many could not be had.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_run(values: u32) -> u32 {
    let Ok(cache) = Cache::<u64, AfterRcuGp>::new() else {
        return values;
    };
    let missing = |number: u64| {
        let Ok(value) = cache.alloc(number) else {
            return true;
        };
        *value != number
    };
    (0..values.into()).filter(|&number| missing(number)).count() as u32
}
