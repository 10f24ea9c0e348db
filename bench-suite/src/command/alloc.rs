//! `alloc`: allocating and freeing, next to other allocators.

use memalloc::PolicyKind;

use super::Failure;
use super::run::{Program, run as run_program};
use super::select::{Choices, distinct, readers};
use crate::cli::AllocOptions;
use crate::report::{self, Against, Listing};
use crate::workload::alloc;
use crate::workload::reader::Reader;

const CHOICES: Choices = Choices {
    cases: alloc::CASES,
    two_threads: &[alloc::PRODUCER_CONSUMER],
    policies: PolicyKind::ALL,
};

/// From the smallest class to the largest.
const SIZES: [usize; 5] = [16, 64, 256, 1024, 4096];

/// The default time for all samples together, in seconds.
const USUAL_SECONDS: u64 = 60;

/// Returns the cases and the defaults.
pub(super) fn listing() -> Listing {
    CHOICES.listing(
        "alloc",
        USUAL_SECONDS,
        vec![
            ("--size", SIZES.map(|size| size.to_string()).to_vec()),
            ("--reader", vec![Reader::None.to_string()]),
        ],
    )
}

/// Checks the request, measures, and reports.
pub(super) fn run(options: &AllocOptions) -> Result<(), Failure> {
    let selection = CHOICES.select(&options.common).map_err(Failure::Request)?;
    let sizes = match options.sizes.is_empty() {
        true => SIZES.to_vec(),
        false => distinct(&options.sizes),
    };
    let readers = readers(&options.readers, &[Reader::None]).map_err(Failure::Request)?;
    run_program(Program {
        options: &options.common.run,
        selection: &selection,
        workloads: alloc::workloads(&selection, &sizes, &readers),
        usual_seconds: USUAL_SECONDS,
        title: "Allocating and freeing",
        remarks: CHOICES.left_out(&selection),
        has_tables: true,
        has_control: true,
        show: &|records, _| report::tables(records, Against::TheFastestRival),
        closing: &String::new,
    })
}
