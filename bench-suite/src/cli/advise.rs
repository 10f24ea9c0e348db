//! The options of `advise`: a workload, number by number.

use std::path::PathBuf;

use clap::Args;

use super::common::RunOptions;
use super::values;
use crate::shape::{
    PartialDemands, PartialNumbers, PartialShape, Shared, Signals, SizeWeights, ThreadGroups,
};

/// The examples shown below the options.
pub(super) const EXAMPLES: &str = "\
Examples:
  A read-mostly map whose readers validate:
    bench-suite advise --validate yes --threads 7:0.01,1:0.5 --live-objects 100000
  Tasks that keep references across .await, in at most 16 MiB:
    bench-suite advise --references yes --sleep yes --stall-ms 50 --budget-mib 16
  A shape from a file, with one number changed:
    bench-suite advise --shape shape.toml --section-us 40
  A recorded program whose readers validate; then its shape, for editing:
    bench-suite advise --recording program.rec --validate yes
    bench-suite advise --recording program.rec --print-shape > shape.toml";

/// The options of `advise`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AdviseOptions {
    /// The options of every run.
    #[command(flatten)]
    pub(crate) run: RunOptions,

    /// Read the workload from a TOML file; options override it
    #[arg(long, value_name = "FILE")]
    pub(crate) shape: Option<PathBuf>,

    /// Derive the workload from a recording of your own program (see docs/recording.md) and show
    /// it; options and --shape override it
    #[arg(long, value_name = "FILE")]
    pub(crate) recording: Option<PathBuf>,

    /// Print the workload as TOML, for editing, and measure nothing
    #[arg(long)]
    pub(crate) print_shape: bool,

    #[command(flatten)]
    demands: DemandOptions,

    #[command(flatten)]
    numbers: NumberOptions,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Correctness")]
struct DemandOptions {
    /// Can a thread read an object while another thread frees it? yes or no [default: yes]
    #[arg(long, value_name = "YES", value_parser = values::yes_or_no)]
    readers: Option<bool>,

    /// Can every reader validate what it read? [default: no]
    #[arg(long, value_name = "YES", value_parser = values::yes_or_no)]
    validate: Option<bool>,

    /// Do readers keep references to objects until their read section ends? [default: no]
    #[arg(long, value_name = "YES", value_parser = values::yes_or_no)]
    references: Option<bool>,

    /// Do readers block or await inside a read section? [default: no]
    #[arg(long, value_name = "YES", value_parser = values::yes_or_no)]
    sleep: Option<bool>,

    /// Calls by signal handlers: no (none), alloc, alloc-free [default: no]
    #[arg(long, value_name = "WHAT")]
    signals: Option<Signals>,

    /// Other users of the memory: nothing, other-types (other types in the same allocator),
    /// processes (other processes map it) [default: nothing]
    #[arg(long, value_name = "WHAT")]
    shared: Option<Shared>,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Workload")]
struct NumberOptions {
    /// Object sizes in bytes, with weights [default: 64]
    #[arg(long, value_name = "BYTES:WEIGHT,..", allow_hyphen_values = true)]
    sizes: Option<SizeWeights>,

    /// Number of live objects [default: 10000]
    #[arg(long, value_name = "N", value_parser = values::whole, allow_negative_numbers = true)]
    live_objects: Option<u64>,

    /// Threads, and the share of updates in their operations [default: 1:1,1:0.1]
    #[arg(long, value_name = "N:SHARE,..", allow_hyphen_values = true)]
    threads: Option<ThreadGroups>,

    /// Frees per second, of all threads together [default: as many as possible]
    #[arg(long, value_name = "N", value_parser = values::real, allow_negative_numbers = true)]
    frees_per_s: Option<f64>,

    /// Length of a read section, in microseconds [default: 1]
    #[arg(long, value_name = "US", value_parser = values::real, allow_negative_numbers = true)]
    section_us: Option<f64>,

    /// Longest read section, in milliseconds; one more reader stays in such a section half of the
    /// time [default: 0]
    #[arg(long, value_name = "MS", value_parser = values::real, allow_negative_numbers = true)]
    stall_ms: Option<f64>,

    /// Share of frees on another CPU than the allocation, 0 to 1 [default: 0]
    #[arg(long, value_name = "PART", value_parser = values::real, allow_negative_numbers = true)]
    other_cpu_frees: Option<f64>,

    /// Memory budget, in MiB [default: no limit]
    #[arg(long, value_name = "MIB", value_parser = values::real, allow_negative_numbers = true)]
    budget_mib: Option<f64>,

    /// Latency percentile to judge by [default: 99]
    #[arg(long, value_name = "P", value_parser = values::real, allow_negative_numbers = true)]
    percentile: Option<f64>,

    /// Limit for the update latency at that percentile, in microseconds [default: no limit]
    #[arg(long, value_name = "US", value_parser = values::real, allow_negative_numbers = true)]
    latency_limit_us: Option<f64>,
}

impl AdviseOptions {
    /// Returns what the options say about the workload.
    pub(crate) fn partial(&self) -> PartialShape {
        let DemandOptions { readers, validate, references, sleep, signals, shared } = self.demands;
        let numbers = self.numbers.clone();
        PartialShape {
            correct: PartialDemands { readers, validate, references, sleep, signals, shared },
            shape: PartialNumbers {
                sizes: numbers.sizes,
                live_objects: numbers.live_objects,
                threads: numbers.threads,
                frees_per_s: numbers.frees_per_s,
                section_us: numbers.section_us,
                stall_ms: numbers.stall_ms,
                other_cpu_frees: numbers.other_cpu_frees,
                budget_mib: numbers.budget_mib,
                percentile: numbers.percentile,
                latency_limit_us: numbers.latency_limit_us,
            },
        }
    }
}
