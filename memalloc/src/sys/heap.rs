//! Heap allocation that returns `None` if memory has run out, where std ends the process.

/// Moves a value to the heap.
pub(crate) fn try_box<T>(value: T) -> Option<Box<T>> {
    let mut one = Vec::new();
    one.try_reserve_exact(1).ok()?;
    one.push(value);
    let one: Box<[T; 1]> = one.into_boxed_slice().try_into().ok()?;
    // SAFETY: an array of one element has the layout of the element.
    Some(unsafe { Box::from_raw(Box::into_raw(one).cast()) })
}

/// Collects `values` into a slice on the heap. `values` must be as long as it says.
pub(crate) fn try_collect<T>(values: impl ExactSizeIterator<Item = T>) -> Option<Box<[T]>> {
    let mut list = Vec::new();
    list.try_reserve_exact(values.len()).ok()?;
    list.extend(values);
    Some(list.into_boxed_slice())
}
