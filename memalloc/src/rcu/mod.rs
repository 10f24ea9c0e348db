//! Grace periods. A grace period ends once every reader that could hold a freed object has left its
//! read section.
//!
//! A [`Domain`] is a set of readers and the grace periods that wait for them. Readers
//! [`pin`](Domain::pin) it. A writer unlinks an object, takes a [`Cookie`], and may reuse the
//! object once [`poll`](Domain::poll) returns `true` for the cookie. No background thread is
//! needed: the threads that ask for a grace period drive it.
//!
//! There are two flavours of readers, which share one engine:
//!
//! | | [`Rcu`] | [`TasksTrace`] |
//! |---|---|---|
//! | begins with | [`pin`](Domain::pin) | [`pin_trace`](Domain::pin_trace) |
//! | the guard | stays on its thread, nests | is `Send`, may be held across blocking calls and `.await` |
//! | a grace period | microseconds | as long as the slowest sleeper |
//! | is waited for by | [`Domain::rcu`] | [`Domain::trace`] |
//!
//! ```
//! use memalloc::rcu::Domain;
//! use std::sync::atomic::{AtomicPtr, Ordering};
//!
//! let domain = Domain::new();
//! let shared = AtomicPtr::new(Box::into_raw(Box::new(1)));
//!
//! // A reader: an object loaded inside the section stays valid until the guard is dropped.
//! let guard = domain.pin();
//! // SAFETY: the pointer was loaded inside the section, and is freed after a grace period.
//! assert_eq!(unsafe { *shared.load(Ordering::Acquire) }, 1);
//! drop(guard);
//!
//! // A writer: unlink, wait for the readers, free.
//! let old = shared.swap(Box::into_raw(Box::new(2)), Ordering::AcqRel);
//! domain.synchronize().expect("this thread is not inside a read section");
//! // SAFETY: the object is unlinked, and every reader that could have found it has left.
//! drop(unsafe { Box::from_raw(old) });
//! # // SAFETY: no other thread has the pointer.
//! # drop(unsafe { Box::from_raw(shared.into_inner()) });
//! ```
//!
//! # Ordering
//!
//! A read section that began before a cookie was taken has ended, with all its reads, before `poll`
//! returns `true` for that cookie. A section that begins later sees everything that happened before
//! the cookie was taken.

// Invariants:
//
// - MEM-R1: while the outermost section of a reader lasts, its slot holds a non-zero number: an
//   epoch that was current at or before the start of the section.
// - MEM-R2: `completed` is `e` only when every section that began before a cookie `e` was taken
//   has ended.
// - MEM-R3: slots are freed only with their domain; a [`Guard`] borrows the domain.
// - MEM-R4: only the thread that has entered itself as the `driver` changes `completed` and the
//   phase of a grace period. There is one driver at a time.
// - MEM-R5: only the thread that claimed a slot touches the non-atomic fields of the slot and
//   announces sections in it. That thread also ends an RCU section. A section that may sleep is
//   ended by the thread that drops its guard.
// - MEM-R6: a thread announces sections in a slot only after a SeqCst fence that follows its claim
//   of the slot, and the slot names the thread for as long as it may announce sections there.
// - MEM-R7: a claimed slot has the address of its domain, and the domain does not move until its
//   slots are freed.

// The order of these modules is that of the methods of `Domain` in the documentation.
mod builder;

mod reader;

mod sleepable;

mod domain;

mod backoff;
mod barrier;
mod callback;
mod debt;
mod epoch;
mod flavour;
mod grace_period;
mod handover;
mod slots;
mod stall;
mod stamp;
mod thread_slots;

pub use crate::sys::membarrier::BarrierKind;
pub(crate) use backoff::Backoff;
#[cfg(all(test, not(loom)))]
pub(crate) use backoff::waits;
pub use builder::{Builder, UnsupportedBarrier};
pub use domain::Domain;
pub use flavour::{Flavour, FlavourKind, Rcu, TasksTrace};
pub use grace_period::{Cookie, FlavourStats, GracePeriods, SynchronizeError, drop_box};
pub use reader::{Guard, LocalReader};
pub use sleepable::{OwnedTraceGuard, TraceGuard};
pub use stall::{Reader, StallReport};
pub(crate) use stamp::{Stamp, WaitFor};
