//! The progress bar: on standard error, only where somebody looks at it.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far a run has come.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for so many samples; it is never drawn if `quiet`, or if standard error is not a
    /// terminal.
    pub(crate) fn new(samples: usize, quiet: bool) -> Self {
        let shown = !quiet && stderr().is_terminal();
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(samples as u64), target);
        let template = "{elapsed:>4} {bar:30} {pos}/{len} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// Says what runs now.
    pub(crate) fn show(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// One more sample is done.
    pub(crate) fn step(&self) {
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
