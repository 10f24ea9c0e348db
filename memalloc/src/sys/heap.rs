//! Heap memory, or an answer that there is none, where std would end the process.

/// A value on the heap.
pub(crate) fn try_box<T>(value: T) -> Option<Box<T>> {
    let mut one = Vec::new();
    one.try_reserve_exact(1).ok()?;
    one.push(value);
    let one: Box<[T; 1]> = one.into_boxed_slice().try_into().ok()?;
    // SAFETY: an array of one is laid out as what is in it.
    Some(unsafe { Box::from_raw(Box::into_raw(one).cast()) })
}

/// A list on the heap, as long as the values are said to be.
pub(crate) fn try_collect<T>(values: impl ExactSizeIterator<Item = T>) -> Option<Box<[T]>> {
    let mut list = Vec::new();
    list.try_reserve_exact(values.len()).ok()?;
    list.extend(values);
    Some(list.into_boxed_slice())
}
