//! The table.

use std::fmt;
use std::sync::atomic::AtomicU64;

use memalloc::AllocError;
use memalloc::rcu::Domain;

use crate::bucket::Bucket;
use crate::element::Element;
use crate::fault::Faults;
use crate::memory::ElementMemory;
use crate::shape::Shape;

/// A hash table with keys of 32 bits, a fixed number of buckets, and values of one size.
///
/// Writers of one bucket wait for each other; readers wait for no other thread. Keys are hashed by
/// a multiplication: fast, and no defence against keys chosen to collide.
pub struct HashTable<M: ElementMemory> {
    memory: M,
    shape: Shape,
    buckets: Box<[Bucket]>,
    pub(crate) restarts: Tally,
    pub(crate) faults: Faults,
}

/// A counter for statistics only.
type Tally = AtomicU64;

impl<M: ElementMemory> fmt::Debug for HashTable<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashTable").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl<M: ElementMemory> HashTable<M> {
    /// Creates an empty table, whose elements come from `memory` (see [`Shape::configure`]).
    pub fn new(shape: Shape, memory: M) -> Self {
        // A shape has at most 2^31 buckets.
        let buckets = (0..shape.buckets() as u32).map(Bucket::new).collect();
        let (restarts, faults) = Default::default();
        Self { memory, shape, buckets, restarts, faults }
    }

    /// Makes the table omit a check.
    #[cfg(loom)]
    pub fn with_fault(mut self, fault: Option<crate::Fault>) -> Self {
        self.faults = Faults { fault };
        self
    }

    /// Returns the number of buckets and the size of values.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns the domain whose sections readers enter.
    pub fn domain(&self) -> &Domain {
        self.memory.domain()
    }

    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    /// Returns the bucket of a key, and its number.
    #[inline]
    pub(crate) fn bucket(&self, key: u32) -> (u32, &Bucket) {
        // 2^64 by the golden ratio: the upper bits depend on all bits of the key.
        let spread = u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let number = spread as usize & (self.buckets.len() - 1);
        (number as u32, &self.buckets[number])
    }

    /// Inserts a key with its value, or replaces the value. Returns whether the key existed.
    ///
    /// A reader finds the old value or the new one, never none. Each call allocates an element and
    /// frees the old one, as in the kernel's table, both outside the lock.
    ///
    /// # Errors
    ///
    /// There is no memory for the element: nothing has changed.
    ///
    /// # Panics
    ///
    /// If the length of `value` differs from that of the table's values.
    #[doc(alias = "bpf_map_update_elem")]
    #[inline]
    pub fn update(&self, key: u32, value: &[u64]) -> Result<bool, AllocError> {
        assert_eq!(value.len(), self.shape.words(), "a value of this table");
        let element = self.alloc(key, value)?;
        let (_, bucket) = self.bucket(key);
        let chain = bucket.lock(&self.memory, self.faults);
        let old = chain.find(key);
        chain.insert(element, old.as_ref());
        drop(chain);
        Ok(old.map(|old| self.free(old.element)).is_some())
    }

    /// Removes a key. Returns whether it existed.
    #[doc(alias = "bpf_map_delete_elem")]
    #[inline]
    pub fn remove(&self, key: u32) -> bool {
        let (_, bucket) = self.bucket(key);
        let chain = bucket.lock(&self.memory, self.faults);
        let Some(found) = chain.find(key) else { return false };
        chain.unlink(&found);
        drop(chain);
        self.free(found.element);
        true
    }

    /// Returns the number of keys: counts all chains, one after the other, under their locks.
    pub fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.lock(&self.memory, self.faults).len()).sum()
    }

    /// Returns whether there is no key; as [`len`](Self::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all keys.
    pub fn clear(&self) {
        for bucket in &self.buckets {
            while let Some(first) = { bucket.lock(&self.memory, self.faults).pop() } {
                self.free(first);
            }
        }
    }

    /// Allocates and fills an element, which is not linked yet.
    #[inline]
    fn alloc(&self, key: u32, value: &[u64]) -> Result<Element<'_, M>, AllocError> {
        let handle = self.memory.alloc(self.shape.element())?;
        // SAFETY: BEN-HT1: just handed out for this layout, and exclusively held.
        let element = unsafe { Element::new(&self.memory, handle) };
        let apart = match self.shape.apart() {
            None => None,
            Some(layout) => match self.memory.alloc(layout) {
                Ok(object) => Some(object),
                Err(error) => {
                    // SAFETY: allocated above with this layout, and no other thread has seen it.
                    unsafe { self.memory.free(handle, self.shape.element()) };
                    return Err(error);
                }
            },
        };
        element.fill(key, value, apart, self.faults);
        Ok(element)
    }

    /// Frees an element that this thread has unlinked, and its value.
    #[inline]
    fn free(&self, element: Element<'_, M>) {
        element.mark_unlinked();
        let (value, _) = element.place();
        // SAFETY: BEN-HT3: unlinked by this thread, which frees both once, with their layouts.
        unsafe {
            if let Some(layout) = self.shape.apart() {
                self.memory.free(value, layout);
            }
            self.memory.free(element.handle(), self.shape.element());
        }
    }
}

impl<M: ElementMemory> Drop for HashTable<M> {
    fn drop(&mut self) {
        self.clear();
    }
}
