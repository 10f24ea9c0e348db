//! Makes domains.

use super::domain::Domain;
use super::stall::{StallReport, StallWatch};
use crate::sys::membarrier::BarrierKind;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

impl Domain {
    /// Creates a domain with the barrier of [`BarrierKind::best`].
    #[must_use]
    pub fn new() -> Self {
        Self::configured(BarrierKind::best(), StallWatch::default())
    }

    /// Returns a builder, which configures a domain.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The domain of the process. Allocators and structures use it unless they are given another.
    #[must_use]
    #[cfg(not(loom))]
    pub fn global() -> &'static Self {
        // `OnceBox` never waits for the initialization by another thread, which may have vanished
        // in a fork.
        static GLOBAL: once_cell::race::OnceBox<Domain> = once_cell::race::OnceBox::new();
        GLOBAL.get_or_init(|| Box::new(Self::new()))
    }
}

impl Default for Domain {
    fn default() -> Self {
        Self::new()
    }
}

/// Configures a [`Domain`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    barrier: Option<BarrierKind>,
    stall: StallWatch,
}

impl Builder {
    /// Sets the kind of barrier for RCU readers. The default is [`BarrierKind::best`].
    pub fn barrier_kind(mut self, kind: BarrierKind) -> Self {
        self.barrier = Some(kind);
        self
    }

    /// Sets the time after which a grace period counts as stalled. The default is one second. A
    /// free waits for room behind a reader for at most this time (see `max_pending` of the
    /// allocator's builder).
    pub fn stall_after(mut self, time: Duration) -> Self {
        self.stall.after = time;
        self
    }

    /// Sets the function that receives reports of stalled grace periods. The thread that waits for
    /// the grace period calls it, holding no locks. The default is none. If signal handlers free
    /// deferred objects, the function may run in one and must be async-signal-safe.
    pub fn stall_handler(mut self, handler: impl Fn(&StallReport) + Send + Sync + 'static) -> Self {
        self.stall.handler = Some(Arc::new(handler));
        self
    }

    /// Builds the domain.
    ///
    /// # Errors
    ///
    /// [`UnsupportedBarrier`] if this system does not support the requested kind of barrier.
    pub fn build(self) -> Result<Domain, UnsupportedBarrier> {
        let kind = self.barrier.unwrap_or_else(BarrierKind::best);
        if kind.is_supported() {
            Ok(Domain::configured(kind, self.stall))
        } else {
            Err(UnsupportedBarrier(kind))
        }
    }
}

/// This system does not support the requested kind of barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsupportedBarrier(pub BarrierKind);

impl fmt::Display for UnsupportedBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "barrier kind {} is not available on this system; {} is",
            self.0,
            BarrierKind::best()
        )
    }
}

impl std::error::Error for UnsupportedBarrier {}
