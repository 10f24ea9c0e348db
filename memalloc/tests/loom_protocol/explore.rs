//! Runs one model under every schedule that loom tells apart, up to a number of preemptions, and
//! returns the result.
//!
//! Each exploration has its own thread, so that a failing one can be reported as a value: the
//! mutation table consists of failures. There is no limit on time or executions, because loom
//! passes silently if a limit cuts it short. An exploration without a violation is complete.

#[path = "../loom/record.rs"]
mod record;

use std::fmt;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use record::Record;

/// The name of the threads on which explorations run.
const EXPLORER: &str = "loom explorer";

/// The result of an exploration.
pub(crate) struct Exploration {
    pub(crate) executions: usize,
    /// The maximum number of times that a schedule took the processor from a thread that could go
    /// on.
    pub(crate) preemptions: usize,
    pub(crate) elapsed: Duration,
    /// The message of the first failing execution. The exploration ended there.
    pub(crate) violation: Option<String>,
}

impl fmt::Display for Exploration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.violation.is_none() { "complete" } else { "failed" };
        let (executions, seconds) = (self.executions, self.elapsed.as_secs_f64());
        write!(f, "{end}, {executions} executions, {seconds:.2} s")
    }
}

impl Exploration {
    /// Records the exploration of a scenario, and of a mutation of its protocol.
    pub(crate) fn record(&self, scenario: &str, mutation: Option<&str>, covered_by: Option<&str>) {
        let record = Record {
            model: Some(scenario),
            mutation,
            covered_by,
            executions: self.executions,
            bound: Some(self.preemptions),
            violation: self.violation.as_deref(),
        };
        record.append();
    }
}

/// Explores `model`, which runs `threads` threads, to the end or to its first failure.
pub(crate) fn explore(threads: usize, model: impl Fn() + Send + Sync + 'static) -> Exploration {
    // A single preemption is known to miss errors, two have found nearly every known one; two
    // threads can afford a third.
    explore_within(if threads > 2 { 2 } else { 3 }, model)
}

/// As [`explore`], with at most this many preemptions.
pub(crate) fn explore_within(
    preemptions: usize,
    model: impl Fn() + Send + Sync + 'static,
) -> Exploration {
    silence_explorers();
    let executions = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();

    let counted = Arc::clone(&executions);
    let run = thread::Builder::new().name(EXPLORER.to_owned()).spawn(move || {
        let mut loom = loom::model::Builder::new();
        loom.preemption_bound = Some(preemptions);
        // The environment may have set limits.
        loom.max_duration = None;
        loom.max_permutations = None;
        loom.check(move || {
            counted.fetch_add(1, Relaxed);
            model();
        });
    });
    let end = run.expect("a thread to explore on").join();

    Exploration {
        executions: executions.load(Relaxed),
        preemptions,
        elapsed: start.elapsed(),
        violation: end.err().map(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let first_line = text.and_then(|text| text.lines().next());
            first_line.unwrap_or("a panic without a message").to_owned()
        }),
    }
}

/// Keeps panics of explorations off the output: the caller of the exploration reports them.
fn silence_explorers() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if thread::current().name() != Some(EXPLORER) {
                default(panic);
            }
        }));
    });
}
