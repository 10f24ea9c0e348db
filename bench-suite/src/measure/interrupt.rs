//! Interruption of a run by the user, without losing the measurements so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that an interrupt or termination signal sets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on. A second signal ends the program at once. If the system cannot report
    /// signals, the first one does.
    pub(crate) fn listen() -> Self {
        let interrupt = Self::default();
        #[cfg(unix)]
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            use signal_hook::flag;
            let asked = || Arc::clone(&interrupt.0);
            // The first handler checks the flag before the second one sets it.
            let _ = flag::register_conditional_shutdown(signal, 128 + signal, asked());
            let _ = flag::register(signal, asked());
        }
        interrupt
    }

    /// Returns whether a signal has arrived.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
