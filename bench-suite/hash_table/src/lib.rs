//! # A hash table for immediate reuse
//!
//! A chained hash table whose elements come from [`memalloc`], modelled on the kernel's BPF hash
//! map. Lookups take no lock. Under [`Immediate`](memalloc::Immediate) the element that a lookup
//! has reached may be freed and become an element of another chain; the lookup detects that and
//! restarts. Under a deferring policy the element stays, and a lookup may also keep a reference to
//! the value ([`HashTable::get_ref`]).
//!
//! ```
//! use hash_table::{HashTable, Shape};
//! use memalloc::{Immediate, MemAlloc, rcu::Domain};
//!
//! let shape = Shape::new(1024, 2)?; // 1024 buckets, values of two words
//! let domain = Domain::new();
//! let memory = shape.configure(MemAlloc::<Immediate>::builder().domain(domain.clone())).build()?;
//! let table = HashTable::new(shape, &memory);
//!
//! assert!(!table.update(7, &[1, 2])?, "it was not there");
//! assert!(table.update(7, &[3, 4])?, "it was replaced");
//!
//! let guard = domain.pin();
//! let mut value = [0; 2];
//! assert!(table.get(&guard, 7, &mut value) && value == [3, 4]);
//! assert!(!table.get(&guard, 8, &mut value));
//! drop(guard);
//!
//! assert!(table.remove(7));
//! drop(table);
//! memory.destroy()?; // says so if an element leaked
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## The protocol
//!
//! A chain ends in a marker that carries its bucket's number (the kernel's `hlist_nulls`). Elements
//! are inserted at the head only. The word of the head has a count of insertions next to the link.
//! An element has a version, which is even exactly while the element is linked, and odd before and
//! after.
//!
//! ```text
//! update K   fill the element (version odd)               outside the lock
//!            lock; link := head; head := (element, count + 1) (Release)
//!            version := next even (Release); unlink the old element of K (Release); unlock
//!            version of the old element := odd; free it
//! get K      h := head (Acquire)
//!            at an element: v := version (Acquire)
//!                its key is K: v even, copy the value, fence(Acquire), version still v? found
//!                else go on to its link (Acquire)
//!            at a marker: of this bucket? fence(Acquire), head still h? absent
//!            any answer "no": start again; after some attempts look under the lock
//! ```
//!
//! | check | without it |
//! |---|---|
//! | the marker | an element was freed and reused in another bucket: the lookup ends there and reports a key as absent that was always present |
//! | the head | a key was replaced during the lookup: the new element is before its position, the old one is gone |
//! | the version | the value is half of one life and half of another |
//!
//! Models under loom explore each of the three, and show the wrong answer with the check omitted.
//! The marker is needed only under immediate reuse, the head under every policy: the kernel's
//! table, which does not read it again, can miss a key while the key is overwritten.
//!
//! The count in the head has 32 bits: a lookup that sleeps through exactly 2^32 insertions into one
//! bucket does not detect them.
//!
//! ## Invariants
//!
//! - BEN-HT1: every element that a link names was handed out by the table's memory for the table's
//!   layout, and every value that an element names for the layout of values. All lives of an object
//!   have the same layout.
//! - BEN-HT2: words of elements and values are accessed only atomically, from the first life to the
//!   last.
//! - BEN-HT3: links and heads change only under the lock of the bucket. The writer that unlinks an
//!   element frees it, after that and once.
//!
//! ## Files
//!
//! `shape` (sizes), `link` (the two kinds of links, the head), `memory` (the allocator's
//! interface), `element` (the words of an element), `bucket` (a chain and its lock), `lookup`
//! (reading without the lock), `table` (the public type). A file imports only from those before it;
//! `fault` is for the models.

mod bucket;
mod element;
mod fault;
mod link;
mod lookup;
mod memory;
mod shape;
mod table;

#[cfg(all(test, loom))]
mod models;

#[cfg(loom)]
pub use fault::Fault;
pub use lookup::ValueRef;
pub use memory::{ElementMemory, KeepsIdentity, OneByOne};
pub use shape::{Shape, ShapeError};
pub use table::HashTable;

/// Runs the examples of the workspace's README as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
