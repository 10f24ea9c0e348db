//! Stalls: the readers that hold a grace period up, and the handler that gets the reports.

use super::flavour::FlavourKind;
use crate::sys::thread;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A reader that a grace period waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reader {
    /// The number of the thread that began the section (on Linux the kernel's thread id), or 0 if
    /// that thread has ended while the section goes on.
    pub thread: u32,
    /// The least time that the reader has been inside: the time since the grace period began.
    pub inside_for: Duration,
}

impl Reader {
    /// The name of the thread, if it is alive and the system provides the name.
    #[must_use]
    pub fn thread_name(&self) -> Option<String> {
        thread::name_of(self.thread)
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.thread {
            0 => f.write_str("a thread that has ended")?,
            number => write!(f, "thread {number}")?,
        }
        if let Some(name) = self.thread_name() {
            write!(f, " ({name})")?;
        }
        write!(f, " has been inside a read section for at least {:?}", self.inside_for)
    }
}

/// A report to the stall handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StallReport {
    /// The flavour of the grace period that does not end.
    pub flavour: FlavourKind,
    /// A reader that the grace period waits for; there may be more.
    pub reader: Reader,
}

impl fmt::Display for StallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an {} grace period does not end: {}", self.flavour, self.reader)
    }
}

/// The time after which a grace period counts as stalled, and the handler of reports.
#[derive(Clone)]
pub(super) struct StallWatch {
    pub(super) after: Duration,
    pub(super) handler: Option<Arc<Handler>>,
}

pub(super) type Handler = dyn Fn(&StallReport) + Send + Sync;

impl Default for StallWatch {
    fn default() -> Self {
        Self { after: Duration::from_secs(1), handler: None }
    }
}

impl fmt::Debug for StallWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StallWatch").field("after", &self.after).finish_non_exhaustive()
    }
}
