//! A library that a program may load, use and unload: it stands for a plug-in that has its own
//! allocator.

use memalloc::{AfterRcuGp, Cache};

/// Allocates, reads and frees values, and ends its cache. Returns how many could not be allocated.
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
