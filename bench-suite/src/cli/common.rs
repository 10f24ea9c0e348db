//! Options that every command has. What a command can't do with one of them it says itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use memalloc::PolicyKind;

use super::values;
use crate::measure::SampleRequest;

/// How a command runs, whatever it measures.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunOptions {
    /// Append one JSON object per measurement to FILE, a regular file, or print them (-)
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write a report with figures to FILE, a page that has all in itself
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Whether there is a report where no file is named for it.
    #[arg(skip)]
    pub(crate) has_usual_page: bool,

    /// Show no progress
    #[arg(long)]
    pub(crate) quiet: bool,

    /// Time for all measurements together; what can't be done in it takes longer. For signals,
    /// the time under each CPU mode with each number of threads [default: 100 for compare, 120 for
    /// advise, htab-mem and qp-trie, 20 for read-side, 3 for signals, 60 for all else]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds, allow_negative_numbers = true)]
    duration: Option<u64>,

    /// Unmeasured work before each sample [default: an eighth of the sample]
    #[arg(long, value_name = "SECONDS", value_parser = values::warm_up, allow_negative_numbers = true)]
    pub(crate) warmup: Option<Duration>,

    /// Rounds, in which all that is compared takes its turn; at least 7 to see a difference
    #[arg(long, value_name = "N", default_value = "9", value_parser = values::rounds, allow_negative_numbers = true)]
    pub(crate) rounds: usize,

    /// Where random keys and random orders begin
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::seed, allow_negative_numbers = true)]
    pub(crate) seed: u64,

    /// One sample, for a process of its own: the suite says this to itself
    #[arg(long = "sample", hide = true)]
    pub(crate) sample: Option<SampleRequest>,
}

/// The options of every command that has cases.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonOptions {
    /// How it runs.
    #[command(flatten)]
    pub(crate) run: RunOptions,

    /// Numbers of threads
    #[arg(long, value_name = "N,..", default_value = "1,2", value_delimiter = ',')]
    #[arg(value_parser = values::threads, allow_negative_numbers = true)]
    pub(crate) threads: Vec<usize>,

    /// Only these cases [default: all]
    #[arg(long = "case", value_name = "CASE,..", value_delimiter = ',')]
    pub(crate) cases: Vec<String>,

    /// Only these reuse policies [default: all that the command compares]
    #[arg(long = "policy", value_name = "POLICY,..", value_delimiter = ',')]
    pub(crate) policies: Vec<PolicyKind>,

    /// Measure what others have made too; needs a build with the feature `rivals`
    #[arg(long)]
    pub(crate) rivals: bool,
}

impl RunOptions {
    /// The time for all measurements together, `usual` seconds where nobody says.
    pub(crate) fn budget(&self, usual: u64) -> Duration {
        Duration::from_secs(self.duration.unwrap_or(usual))
    }

    /// The same with or without a report where no file is named for it.
    pub(crate) fn with_usual_page(&self, has_usual_page: bool) -> Self {
        Self { has_usual_page, ..self.clone() }
    }

    /// The same with so many times the time, if somebody says how much.
    pub(crate) fn times(&self, times: usize) -> Self {
        let duration = self.duration.map(|seconds| seconds.saturating_mul(times as u64));
        Self { duration, ..self.clone() }
    }
}
