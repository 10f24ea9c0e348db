//! `read-side`: the cost of read sections, and the latency of grace periods.

use super::Failure;
use super::run::{Program, run as run_program};
use super::select::Choices;
use crate::cli::CommonOptions;
use crate::report::{self, Against, Listing};
use crate::workload::read_side;

const CHOICES: Choices = Choices { cases: read_side::CASES, two_threads: &[], policies: &[] };

/// The default time for all samples together, in seconds.
const USUAL_SECONDS: u64 = 20;

/// Returns the cases and the defaults.
pub(super) fn listing() -> Listing {
    CHOICES.listing("read-side", USUAL_SECONDS, Vec::new())
}

/// Checks the request, measures, and reports.
pub(super) fn run(options: &CommonOptions) -> Result<(), Failure> {
    let selection = CHOICES.select(options).map_err(Failure::Request)?;
    run_program(Program {
        options: &options.run,
        selection: &selection,
        workloads: read_side::workloads(&selection),
        usual_seconds: USUAL_SECONDS,
        title: "Entering and leaving read sections, and grace periods",
        remarks: CHOICES.left_out(&selection),
        has_tables: true,
        has_control: true,
        show: &|records, _| report::tables(records, Against::TheFastestRival),
        closing: &String::new,
    })
}
