//! The options of `advise`: a workload, number by number.

use std::path::PathBuf;

use clap::Args;

use super::common::RunOptions;
use super::values;
use crate::shape::{
    PartialDemands, PartialNumbers, PartialShape, Shared, Signals, SizeWeights, ThreadGroups,
};

/// What stands below the options.
pub(super) const EXAMPLES: &str = "\
Examples:
  A read-mostly map whose readers validate:
    bench-suite advise --validate yes --threads 7:0.01,1:0.5 --live-objects 100000
  Tasks that keep references across .await, in at most 16 MiB:
    bench-suite advise --references yes --sleep yes --stall-ms 50 --budget-mib 16
  A shape from a file, with one number changed:
    bench-suite advise --shape shape.toml --section-us 40
  A recorded program, whose readers validate; and its shape, to be edited:
    bench-suite advise --recording program.rec --validate yes
    bench-suite advise --recording program.rec --print-shape > shape.toml";

/// The options of `advise`.
#[derive(Clone, Debug, Args)]
pub(crate) struct AdviseOptions {
    /// Those of every run.
    #[command(flatten)]
    pub(crate) run: RunOptions,

    /// A workload in TOML; options override what it says
    #[arg(long, value_name = "FILE")]
    pub(crate) shape: Option<PathBuf>,

    /// A recording of your own program (see docs/recording.md), from which the workload is derived and
    /// shown; options and --shape override what it says
    #[arg(long, value_name = "FILE")]
    pub(crate) recording: Option<PathBuf>,

    /// Print the workload as TOML, to be edited, and measure nothing
    #[arg(long)]
    pub(crate) print_shape: bool,

    #[command(flatten)]
    demands: DemandOptions,

    #[command(flatten)]
    numbers: NumberOptions,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What has to be correct")]
struct DemandOptions {
    /// Does any thread look at an object while another frees it? yes or no [default: yes]
    #[arg(long, value_name = "YES", value_parser = values::yes_or_no)]
    readers: Option<bool>,

    /// Can every reader validate what it read? [default: no]
    #[arg(long, value_name = "YES", value_parser = values::yes_or_no)]
    validate: Option<bool>,

    /// Do readers keep references to what they found, to the end of a section? [default: no]
    #[arg(long, value_name = "YES", value_parser = values::yes_or_no)]
    references: Option<bool>,

    /// Do readers block or await inside a section? [default: no]
    #[arg(long, value_name = "YES", value_parser = values::yes_or_no)]
    sleep: Option<bool>,

    /// What signal handlers do: no, alloc, alloc-free [default: no]
    #[arg(long, value_name = "WHAT")]
    signals: Option<Signals>,

    /// What else uses the memory: nothing, other-types, processes [default: nothing]
    #[arg(long, value_name = "WHAT")]
    shared: Option<Shared>,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What it does")]
struct NumberOptions {
    /// Sizes of objects in bytes, with weights [default: 64]
    #[arg(long, value_name = "BYTES:WEIGHT,..")]
    sizes: Option<SizeWeights>,

    /// Objects that live at the same time [default: 10000]
    #[arg(long, value_name = "N", value_parser = values::whole, allow_negative_numbers = true)]
    live_objects: Option<u64>,

    /// Threads, and the share of updates in what they do [default: 1:1,1:0.1]
    #[arg(long, value_name = "N:SHARE,..")]
    threads: Option<ThreadGroups>,

    /// Frees a second, of all threads [default: as many as can be]
    #[arg(long, value_name = "N", value_parser = values::real, allow_negative_numbers = true)]
    frees_per_s: Option<f64>,

    /// How long a read section lasts, in microseconds [default: 1]
    #[arg(long, value_name = "US", value_parser = values::real, allow_negative_numbers = true)]
    section_us: Option<f64>,

    /// The longest section, in milliseconds: a reader sits in one half of the time [default: 0]
    #[arg(long, value_name = "MS", value_parser = values::real, allow_negative_numbers = true)]
    stall_ms: Option<f64>,

    /// The part of frees on another CPU than the allocation, 0 to 1 [default: 0]
    #[arg(long, value_name = "PART", value_parser = values::real, allow_negative_numbers = true)]
    other_cpu_frees: Option<f64>,

    /// The most memory, in MiB [default: no limit]
    #[arg(long, value_name = "MIB", value_parser = values::real, allow_negative_numbers = true)]
    budget_mib: Option<f64>,

    /// The percentile of latencies that matters [default: 99]
    #[arg(long, value_name = "P", value_parser = values::real, allow_negative_numbers = true)]
    percentile: Option<f64>,

    /// The longest update at that percentile, in microseconds [default: no limit]
    #[arg(long, value_name = "US", value_parser = values::real, allow_negative_numbers = true)]
    latency_limit_us: Option<f64>,
}

impl AdviseOptions {
    /// What the options say of the workload.
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
