//! Progress of a run, on standard error: a bar on a terminal, lines elsewhere.

use std::cell::Cell;
use std::io::{IsTerminal, Write as _, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Displays the progress of a run.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Set to print a line for each workload.
    says_lines: bool,
    samples: usize,
    done: Cell<usize>,
}

impl Progress {
    /// Shows a bar for `samples` samples, or a line for each workload if standard error is not a
    /// terminal; neither if `quiet`.
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

    /// Displays what runs now.
    pub(crate) fn show(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        if self.says_lines {
            // If standard error is closed, the run goes on.
            let _ = writeln!(stderr(), "{}/{}: {what}", self.done.get(), self.samples);
        }
    }

    /// Counts one more sample.
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
