//! Lookups, which take no lock: a walk along a chain that may lead into another one.

use std::sync::atomic::Ordering;

use memalloc::Handle;
use memalloc::rcu::Guard;

use crate::bucket::Bucket;
use crate::element::{Element, words};
use crate::link::Link;
use crate::memory::{ElementMemory, KeepsIdentity};
use crate::table::HashTable;

/// The number of restarts before a lookup takes the lock. (A model has covered everything after
/// two.)
const ATTEMPTS: usize = if cfg!(loom) { 2 } else { 64 };

/// A longer walk has repeatedly returned to the head, or the chains are far too long: in both cases
/// the lookup takes the lock.
const LONGEST_WALK: usize = 1 << 12;

/// The result of a walk.
enum Walk<T> {
    Found(T),
    Absent,
    /// The walk met an element that changed, or the end of another chain.
    Astray,
}

/// A value that stays in place until the reader's section ends.
#[derive(Debug)]
pub struct ValueRef<'g, M> {
    memory: &'g M,
    object: Handle,
    first: usize,
    len: usize,
}

impl<M: ElementMemory> ValueRef<'_, M> {
    /// Copies the value, up to the length of `value`.
    pub fn copy_to(&self, value: &mut [u64]) {
        let len = self.len.min(value.len());
        // SAFETY: BEN-HT1 and BEN-HT2; the policy keeps the element and its value for the section.
        unsafe { words::load(self.memory, self.object, self.first, &mut value[..len]) };
    }
}

impl<M: ElementMemory> HashTable<M> {
    /// Copies the value of a key, and returns whether there is one. Lock-free unless updates of the
    /// same bucket interfere all the time: after 64 attempts it takes the lock of the bucket.
    ///
    /// A value that is found was in the table at some moment during the call; a key reported as
    /// absent was absent at some moment during the call.
    ///
    /// # Panics
    ///
    /// If the guard is of another domain, or the length of `value` differs from that of the table's
    /// values.
    #[inline]
    pub fn get(&self, guard: &Guard<'_>, key: u32, value: &mut [u64]) -> bool {
        assert_eq!(value.len(), self.shape().words(), "a value of this table");
        self.look_up(guard, key, |element| element.copy_value(value)).is_some()
    }

    /// Returns how often lookups have restarted.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    #[inline]
    fn look_up<T>(
        &self,
        guard: &Guard<'_>,
        key: u32,
        mut take: impl FnMut(Element<'_, M>) -> T,
    ) -> Option<T> {
        assert!(guard.is_of(self.memory().domain()), "a guard of this table's domain");
        let (number, bucket) = self.bucket(key);
        for _ in 0..ATTEMPTS {
            match self.walk(number, bucket, key, &mut take) {
                Walk::Found(found) => return Some(found),
                Walk::Absent => return None,
                Walk::Astray => _ = self.restarts.fetch_add(1, Ordering::Relaxed),
            }
        }
        let chain = bucket.lock(self.memory(), self.faults);
        chain.find(key).map(|found| take(found.element))
    }

    /// Walks along a chain. The caller is inside a section.
    #[inline]
    fn walk<T>(
        &self,
        number: u32,
        bucket: &Bucket,
        key: u32,
        take: &mut impl FnMut(Element<'_, M>) -> T,
    ) -> Walk<T> {
        let head = bucket.head();
        let mut link = head.link();
        for _ in 0..LONGEST_WALK {
            let handle = match link {
                Link::Element(handle) => handle,
                Link::End(end) if end != number && !self.faults.marker_unchecked() => break,
                Link::End(_) if self.faults.head_not_reread() => return Walk::Absent,
                Link::End(_) if bucket.head_again() == head => return Walk::Absent,
                Link::End(_) => break,
            };
            // SAFETY: BEN-HT1, and the section keeps at least the type (`ElementMemory`).
            let element = unsafe { Element::new(self.memory(), handle) };
            // Objects that keep their identity need no version.
            let version = if M::PROTECTS_IDENTITY { 0 } else { element.version() };
            if element.key() == key {
                if !version.is_multiple_of(2) {
                    break;
                }
                let found = take(element);
                let is_same = M::PROTECTS_IDENTITY
                    || self.faults.version_not_reread()
                    || element.version_again() == version;
                return if is_same { Walk::Found(found) } else { Walk::Astray };
            }
            link = element.link();
        }
        Walk::Astray
    }
}

impl<M: KeepsIdentity> HashTable<M> {
    /// Returns a reference to the value of a key, valid for the length of a section.
    ///
    /// ```
    /// use hash_table::{HashTable, Shape};
    /// use memalloc::{AfterRcuGp, MemAlloc, rcu::Domain};
    ///
    /// let shape = Shape::new(16, 1)?;
    /// let domain = Domain::new();
    /// let memory = shape.configure(MemAlloc::<AfterRcuGp>::builder().domain(domain.clone())).build()?;
    /// let table = HashTable::new(shape, &memory);
    /// table.update(7, &[1])?;
    ///
    /// let guard = domain.pin();
    /// let found = table.get_ref(&guard, 7).expect("it is there");
    /// table.update(7, &[2])?; // replaces it
    /// let mut value = [0];
    /// found.copy_to(&mut value);
    /// assert_eq!(value, [1], "the value found stays");
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Under immediate reuse this does not compile:
    ///
    /// ```compile_fail,E0599
    /// use hash_table::HashTable;
    /// use memalloc::{Immediate, MemAlloc, rcu::Guard};
    ///
    /// fn keep(table: &HashTable<&MemAlloc<Immediate>>, guard: &Guard<'_>) {
    ///     table.get_ref(guard, 7);
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// If the guard is of another domain.
    pub fn get_ref<'g>(&'g self, guard: &'g Guard<'_>, key: u32) -> Option<ValueRef<'g, M>> {
        let (object, first) = self.look_up(guard, key, |element| element.place())?;
        Some(ValueRef { memory: self.memory(), object, first, len: self.shape().words() })
    }
}
