//! The options of `torture`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use memalloc::{CpuMode, PolicyKind};

use super::values;

/// The options of `torture`.
#[derive(Clone, Debug, Args)]
pub(crate) struct TortureOptions {
    /// Duration of the run, in phases of half a second
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = values::seconds, allow_negative_numbers = true)]
    duration: u64,

    /// Only these CPU modes: rseq, active-cpu, active-thread [default: all that this system has]
    #[arg(long = "cpu-mode", value_name = "MODE,..", value_delimiter = ',')]
    pub(crate) modes: Vec<CpuMode>,

    /// Only these reuse policies [default: all]
    #[arg(long = "policy", value_name = "POLICY,..", value_delimiter = ',')]
    pub(crate) policies: Vec<PolicyKind>,

    /// Number of threads in each phase
    #[arg(long, value_name = "N", default_value = "8", value_parser = values::threads, allow_negative_numbers = true)]
    pub(crate) threads: usize,

    /// Seed of all random choices, which include the order of the phases
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::seed, allow_negative_numbers = true)]
    pub(crate) seed: u64,

    /// Number of the first phase, to repeat an error
    #[arg(long = "phase", value_name = "N", default_value = "0", value_parser = values::phase, allow_negative_numbers = true)]
    pub(crate) first: u64,

    /// Append one JSON object for each minute to FILE, a regular file, or print them (-)
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Leave out this step of a protocol, to test that torture detects it
    #[cfg(feature = "broken")]
    #[arg(long, value_name = "FAULT", value_parser = values::fault)]
    pub(crate) broken: Option<memalloc::broken::Fault>,
}

impl TortureOptions {
    /// Returns the duration of the run.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs(self.duration)
    }
}
