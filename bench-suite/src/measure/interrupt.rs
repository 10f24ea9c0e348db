//! Interruption of a run by a signal, without losing the measurements so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Signals within this time are one request: `timeout` sends one to the process and another to its
/// group.
const ONE_REQUEST: Duration = Duration::from_millis(100);

/// Reports an interrupt or termination signal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt {
    /// The number of the last signal; 0 if there was none.
    signal: Arc<AtomicUsize>,
    /// Set if a further signal ends the program at once.
    is_reported: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens from now on. Once a signal has been reported, another one ends the program at once.
    /// If the system cannot report signals, the first one does.
    pub(crate) fn listen() -> Self {
        let interrupt = Self::default();
        #[cfg(unix)]
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            use signal_hook::flag;
            let at_once = Arc::clone(&interrupt.is_reported);
            let _ = flag::register_conditional_shutdown(signal, 128 + signal, at_once);
            let _ = flag::register_usize(signal, Arc::clone(&interrupt.signal), signal as usize);
        }
        interrupt
    }

    /// Returns the signal that has arrived, if any.
    pub(crate) fn signal(&self) -> Option<i32> {
        let signal = match self.signal.load(Ordering::Relaxed) {
            0 => return None,
            signal => signal as i32,
        };
        self.report();
        Some(signal)
    }

    /// Reports a request to end. Once its signals have arrived, another one ends the program at
    /// once.
    pub(crate) fn report(&self) {
        if !self.is_reported.load(Ordering::Relaxed) {
            thread::sleep(ONE_REQUEST);
            self.end_at_once();
        }
    }

    /// From now on a signal ends the program at once.
    pub(crate) fn end_at_once(&self) {
        self.is_reported.store(true, Ordering::Relaxed);
    }
}

/// Returns the name of a signal.
pub(crate) fn signal_name(signal: i32) -> String {
    #[cfg(unix)]
    if let Some(name) = signal_hook::low_level::signal_name(signal) {
        return name.into();
    }
    format!("signal {signal}")
}
