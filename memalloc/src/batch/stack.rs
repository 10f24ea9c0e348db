//! A bounded stack of objects, used in batches and in the CPUs' caches.

use crate::slab::Handle;
use std::mem::offset_of;

/// A bounded stack of objects.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Stack<const N: usize> {
    count: u32,
    objects: [u32; N],
}

impl<const N: usize> Stack<N> {
    /// The offset of the objects, in bytes, from the count.
    pub(crate) const OBJECTS_AT: usize = offset_of!(Self, objects);

    pub(crate) const fn new() -> Self {
        Self { count: 0, objects: [0; N] }
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.len() == N
    }

    /// Sets the number of objects, if it was counted elsewhere.
    #[inline(always)]
    pub(crate) fn set_len(&mut self, count: usize) {
        debug_assert!(count <= N);
        self.count = count as u32;
    }

    /// Adds an object. The caller knows that there is room.
    #[inline(always)]
    pub(crate) fn push(&mut self, object: Handle) {
        self.objects[self.count as usize] = object.get();
        self.count += 1;
    }

    /// Adds an object, if there are fewer than `limit`. The caller knows that there is room for
    /// `limit` objects.
    #[inline(always)]
    pub(crate) fn push_below(&mut self, limit: u16, object: Handle) -> bool {
        let is_below = self.count < limit.into();
        if is_below {
            self.push(object);
        }
        is_below
    }

    /// Returns the objects, the oldest first.
    pub(crate) fn as_slice(&self) -> &[Handle] {
        let numbers = &self.objects[..self.len()];
        // SAFETY: a `Handle` is a transparent non-zero `u32`, and the first `count` numbers came
        // out of handles (`push`, `extend`, and the sequences, which push the number of a handle).
        unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), numbers.len()) }
    }

    /// Adds objects. The caller knows that there is room.
    pub(crate) fn extend(&mut self, objects: &[Handle]) {
        let room = &mut self.objects[self.count as usize..][..objects.len()];
        for (place, object) in room.iter_mut().zip(objects) {
            *place = object.get();
        }
        self.count += objects.len() as u32;
    }

    /// Removes all but the first `count` objects.
    pub(crate) fn truncate(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.count = count as u32;
    }

    /// Removes the `count` objects that were added first.
    pub(crate) fn forget_oldest(&mut self, count: usize) {
        self.objects.copy_within(count..self.count as usize, 0);
        self.count -= count as u32;
    }

    /// Moves the newest objects of another stack to this one, until this one has `full` objects.
    pub(crate) fn take_newest<const M: usize>(&mut self, other: &mut Stack<M>, full: usize) {
        let count = other.len().min(full.saturating_sub(self.len()));
        let left = other.len() - count;
        self.extend(&other.as_slice()[left..]);
        other.truncate(left);
    }

    /// Removes and returns the object that was added last.
    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Option<Handle> {
        self.count = self.count.checked_sub(1)?;
        Handle::new(*self.objects.get(self.count as usize)?)
    }
}
