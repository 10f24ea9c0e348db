//! A chained hash table whose readers take no lock, in the manner of the kernel's.

use crate::sync::{AtomicPtr, Mutex, Ordering};
use memalloc::rcu::{Domain, Guard};
use memalloc::{AllocError, BuildError, Cache};
use std::fmt;
use std::ptr::{self, NonNull};

/// A hash table from numbers to values, with a fixed number of chains.
///
/// A value is replaced in its place: a reader finds the old one or the new one, never none.
pub struct Table<V: Send + Sync + 'static> {
    chains: Box<[Chain<V>]>,
    nodes: Cache<Node<V>>,
    defers: bool,
}

struct Chain<V> {
    first: AtomicPtr<Node<V>>,
    /// Held by a thread that changes the chain.
    lock: Mutex<()>,
}

struct Node<V> {
    key: u64,
    value: V,
    next: AtomicPtr<Node<V>>,
}

/// The node that a link names.
type Linked<'g, V> = Option<(NonNull<Node<V>>, &'g Node<V>)>;

/// The link that names a node, or the null link at the end of a chain; and that node.
type Found<'g, V> = (&'g AtomicPtr<Node<V>>, Linked<'g, V>);

impl<V: Send + Sync + 'static> Table<V> {
    /// An empty table with so many chains, at least one, whose readers are those of `domain`.
    ///
    /// # Errors
    ///
    /// When `V` is too large for a cache, or there is no memory.
    pub fn new(chains: usize, domain: &Domain) -> Result<Self, BuildError> {
        let chain = |_| Chain { first: AtomicPtr::new(ptr::null_mut()), lock: Mutex::new(()) };
        let nodes = Cache::<Node<V>>::builder().domain(domain.clone()).build()?;
        let chains = (0..chains.max(1)).map(chain).collect();
        Ok(Self { chains, nodes, defers: true })
    }

    /// As [`new`](Self::new), with nodes that are freed at once: wrong, to show that a model finds
    /// it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    #[cfg(loom)]
    pub fn that_frees_at_once(chains: usize, domain: &Domain) -> Result<Self, BuildError> {
        let mut table = Self::new(chains, domain)?;
        table.defers = false;
        Ok(table)
    }

    /// The domain whose guards [`get`](Self::get) takes.
    pub fn domain(&self) -> &Domain {
        self.nodes.domain()
    }

    /// The value of `key`, for as long as the section lasts.
    pub fn get<'g>(&'g self, key: u64, guard: &'g Guard<'_>) -> Option<&'g V> {
        let (_, found) = self.find(key, guard);
        found.map(|(_, node)| &node.value)
    }

    /// Adds a key, or replaces its value. Returns whether the key was there.
    ///
    /// # Errors
    ///
    /// When there is no memory; the error has the value.
    pub fn insert(&self, key: u64, value: V) -> Result<bool, AllocError<V>> {
        let place = match self.nodes.alloc_uninit() {
            Ok(place) => place,
            Err(error) => return Err(error.with_value(value)),
        };
        let new = place.write(Node { key, value, next: AtomicPtr::new(ptr::null_mut()) });
        let _lock = self.chain(key).lock.lock().expect("no thread panics with the lock");
        let guard = self.domain().pin();
        let (link, old) = self.find(key, &guard);
        if let Some((_, old)) = old {
            new.next.store(old.next.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        // Release pairs with the Acquire in `find`: the node arrives whole.
        link.store(new.into_raw().as_ptr(), Ordering::Release);
        self.free(old);
        Ok(old.is_some())
    }

    /// Removes a key. Returns whether it was there.
    pub fn remove(&self, key: u64) -> bool {
        let _lock = self.chain(key).lock.lock().expect("no thread panics with the lock");
        let guard = self.domain().pin();
        let (link, old) = self.find(key, &guard);
        if let Some((_, node)) = old {
            link.store(node.next.load(Ordering::Relaxed), Ordering::Release);
        }
        self.free(old);
        old.is_some()
    }

    /// Frees a node that was just unlinked. Readers on it find their way by its link.
    fn free(&self, unlinked: Linked<'_, V>) {
        if let Some((place, _)) = unlinked {
            // SAFETY: of this cache, unlinked under the lock of its chain, and freed once. (A model
            // that frees it at once breaks this on purpose.)
            unsafe {
                match self.defers {
                    true => self.nodes.free_raw(place),
                    false => self.nodes.free_unshared(place),
                }
            }
        }
    }

    fn chain(&self, key: u64) -> &Chain<V> {
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.chains[(hash >> 32) as usize % self.chains.len()]
    }

    fn find<'g>(&'g self, key: u64, guard: &'g Guard<'_>) -> Found<'g, V> {
        let mut link = &self.chain(key).first;
        while let Some(place) = NonNull::new(link.load(Ordering::Acquire)) {
            // SAFETY: found inside the section, so it is freed after that began.
            let node = unsafe { self.nodes.read(place, guard) };
            if node.key == key {
                return (link, Some((place, node)));
            }
            link = &node.next;
        }
        (link, None)
    }
}

impl<V: Send + Sync + 'static> Drop for Table<V> {
    fn drop(&mut self) {
        for chain in &self.chains {
            let mut next = chain.first.load(Ordering::Acquire);
            while let Some(place) = NonNull::new(next) {
                // SAFETY: readers borrow the table, so there are none: the node is unshared.
                unsafe {
                    next = place.as_ref().next.load(Ordering::Relaxed);
                    self.nodes.free_unshared(place);
                }
            }
        }
    }
}

impl<V: Send + Sync + 'static> fmt::Debug for Table<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("chains", &self.chains.len()).finish_non_exhaustive()
    }
}
