//! Somebody wants the run to end: what was measured until then is not to be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the program was asked to end, by an interrupt or a termination.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on. Who asks a second time gets what he wants at once. Where the system does
    /// not tell, asking ends the program as ever.
    pub(crate) fn listen() -> Self {
        let interrupt = Self::default();
        #[cfg(unix)]
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            use signal_hook::flag;
            let asked = || Arc::clone(&interrupt.0);
            // The first of the two looks before the second sets.
            let _ = flag::register_conditional_shutdown(signal, 128 + signal, asked());
            let _ = flag::register(signal, asked());
        }
        interrupt
    }

    /// Whether somebody has asked.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
