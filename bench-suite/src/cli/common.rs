//! Options that every command has. The command itself reports a value that it does not support.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use memalloc::PolicyKind;

use super::values;
use crate::measure::SampleRequest;

/// The options of every command that measures.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunOptions {
    /// Append one JSON object per measurement to FILE (a regular file), or print them (-)
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write a self-contained report with figures to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Set to write a report under the default name if `html` names no file.
    #[arg(skip)]
    pub(crate) has_usual_page: bool,

    /// Show no progress
    #[arg(long)]
    pub(crate) quiet: bool,

    /// Time for all measurements together; a run that does not fit takes longer. For signals, the
    /// time under each CPU mode with each number of threads [default: 100 for compare, 120 for
    /// advise, htab-mem and qp-trie, 20 for read-side, 3 for signals, 60 for all others]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds, allow_negative_numbers = true)]
    duration: Option<u64>,

    /// Unmeasured warm-up before each sample [default: an eighth of the sample]
    #[arg(long, value_name = "SECONDS", value_parser = values::warm_up, allow_negative_numbers = true)]
    pub(crate) warmup: Option<Duration>,

    /// Number of rounds; each round samples every subject once; at least 7 to detect a difference
    #[arg(long, value_name = "N", default_value = "9", value_parser = values::rounds, allow_negative_numbers = true)]
    pub(crate) rounds: usize,

    /// Seed of random keys and random orders
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::seed, allow_negative_numbers = true)]
    pub(crate) seed: u64,

    /// Take a single sample: the suite passes this to the child process that takes it
    #[arg(long = "sample", hide = true)]
    pub(crate) sample: Option<SampleRequest>,
}

/// The options of every command that has cases.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonOptions {
    /// The options of every command that measures.
    #[command(flatten)]
    pub(crate) run: RunOptions,

    /// Numbers of threads
    #[arg(long, value_name = "N,..", default_value = "1,2", value_delimiter = ',')]
    #[arg(value_parser = values::threads, allow_hyphen_values = true)]
    pub(crate) threads: Vec<usize>,

    /// Only these cases [default: all]
    #[arg(long = "case", value_name = "CASE,..", value_delimiter = ',')]
    pub(crate) cases: Vec<String>,

    /// Only these reuse policies [default: all that the command compares]
    #[arg(long = "policy", value_name = "POLICY,..", value_delimiter = ',')]
    pub(crate) policies: Vec<PolicyKind>,

    /// Also measure other implementations; needs a build with the feature `rivals`
    #[arg(long)]
    pub(crate) rivals: bool,
}

impl RunOptions {
    /// Returns the time for all measurements together: `usual` seconds unless `--duration` was
    /// given.
    pub(crate) fn budget(&self, usual: u64) -> Duration {
        Duration::from_secs(self.duration.unwrap_or(usual))
    }

    /// Returns these options with `has_usual_page` set.
    pub(crate) fn with_usual_page(&self, has_usual_page: bool) -> Self {
        Self { has_usual_page, ..self.clone() }
    }

    /// Returns these options with the time of `--duration`, if given, multiplied by `times`.
    pub(crate) fn times(&self, times: usize) -> Self {
        let duration = self.duration.map(|seconds| seconds.saturating_mul(times as u64));
        Self { duration, ..self.clone() }
    }
}
