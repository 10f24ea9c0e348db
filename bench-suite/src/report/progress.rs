//! How far a run has come, on standard error: a bar on a terminal, lines elsewhere.

use std::cell::Cell;
use std::io::{IsTerminal, Write as _, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far a run has come.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Whether a line is said for each workload.
    says_lines: bool,
    samples: usize,
    done: Cell<usize>,
}

impl Progress {
    /// A bar for so many samples, or a line for each workload where standard error is not a terminal;
    /// neither if `quiet`.
    pub(crate) fn new(samples: usize, quiet: bool) -> Self {
        let shown = !quiet && stderr().is_terminal();
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(samples as u64), target);
        let template = "{elapsed:>4} {bar:24} {pos}/{len}, {eta} left: {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, says_lines: !quiet && !shown, samples, done: Cell::new(0) }
    }

    /// Says what runs now.
    pub(crate) fn show(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        if self.says_lines {
            // Where nobody listens the run goes on.
            let _ = writeln!(stderr(), "{}/{}: {what}", self.done.get(), self.samples);
        }
    }

    /// One more sample is done.
    pub(crate) fn step(&self) {
        self.bar.inc(1);
        self.done.set(self.done.get() + 1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
