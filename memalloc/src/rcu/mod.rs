//! Grace periods: who is reading, and when everybody who could hold a freed object has left.
//!
//! A [`Domain`] is a set of readers and the grace periods that wait for them. Readers
//! [`pin`](Domain::pin) it; a writer unlinks an object, takes a [`Cookie`], and may reuse the
//! object once [`poll`](Domain::poll) says that the cookie's grace period has passed. Nothing
//! needs a background thread: whoever asks moves the grace period along.
//!
//! There are two flavours of readers, over one engine:
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
//! // A reader: what it loads inside the section stays until the guard is dropped.
//! let guard = domain.pin();
//! // SAFETY: the pointer was loaded inside the section, and is freed after a grace period.
//! assert_eq!(unsafe { *shared.load(Ordering::Acquire) }, 1);
//! drop(guard);
//!
//! // A writer: unlink, wait for the readers, free.
//! let old = shared.swap(Box::into_raw(Box::new(2)), Ordering::AcqRel);
//! domain.synchronize().expect("this thread is not inside a read section");
//! // SAFETY: unlinked, and every reader that could have found it has left.
//! drop(unsafe { Box::from_raw(old) });
//! # // SAFETY: nobody else knows the pointer any more.
//! # drop(unsafe { Box::from_raw(shared.into_inner()) });
//! ```
//!
//! # What is ordered
//!
//! If a read section began before a cookie was taken, it has ended, with everything that it read,
//! before `poll` returns `true` for that cookie. If it begins later, it sees everything that
//! happened before the cookie was taken.
//!
//! - INV-R1: a reader's slot holds a number that is not zero for as long as the outermost of its
//!   sections lasts, and the number is an epoch that was current at or before its start.
//! - INV-R2: `completed` is `e` only when every section that began before a cookie `e` was taken
//!   has ended.
//! - INV-R3: slots are freed with the domain only; a [`Guard`] borrows the domain.
//! - INV-R4: `completed` and the phase of a grace period are changed by the thread alone that
//!   put itself down as the `driver`; one such thread follows another.
//! - INV-R5: what of a slot is not atomic is touched, and a section is announced in it, by the
//!   thread alone that claimed it. An RCU section is ended by that thread too, a section that may
//!   sleep by whoever has its guard.
//! - INV-R6: a thread announces sections in a slot only after a SeqCst fence since it claimed the
//!   slot, and the slot names it for as long as it may do so.
//! - INV-R7: a slot names the domain whose it is, which stays at its place until its slots are freed.

mod backoff;
mod barrier;
mod callback;
mod debt;
mod domain;
mod epoch;
mod flavour;
mod reader;
mod sleepable;
mod slots;
mod stall;
mod stamp;
mod thread_slots;

pub use crate::sys::membarrier::BarrierKind;
pub(crate) use backoff::Backoff;
pub use domain::{Builder, Domain, UnsupportedBarrier};
pub use flavour::{
    Cookie, Flavour, FlavourKind, FlavourStats, GracePeriods, Rcu, SynchronizeError, TasksTrace,
    drop_box,
};
pub use reader::{Guard, LocalReader};
pub use sleepable::{OwnedTraceGuard, TraceGuard};
pub use stall::{Reader, StallReport};
pub(crate) use stamp::{Stamp, WaitFor};
