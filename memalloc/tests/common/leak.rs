//! Values that live as long as the program.

use std::sync::Mutex;

/// Leaks a value, and notes its address where LeakSanitizer looks for addresses.
pub(crate) fn leak<T: Sync>(value: T) -> &'static T {
    static LEAKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let leaked: &T = Box::leak(Box::new(value));
    LEAKED.lock().expect("no call panics").push(std::ptr::from_ref(leaked).addr());
    leaked
}
