//! `flood`: memory under deferred freeing, next to other reclamation schemes.

use memalloc::PolicyKind;

use super::Failure;
use super::run::{Program, run as run_program};
use super::select::{Choices, all_readers, distinct};
use crate::cli::FloodOptions;
use crate::report::{self, Against, Listing};
use crate::workload::flood;
use crate::workload::reader::Reader;

const CHOICES: Choices =
    Choices { cases: flood::CASES, two_threads: &[flood::NEEDS_PAIRS], policies: PolicyKind::ALL };

/// Object sizes: the largest with deep caches, and a page.
const SIZES: [usize; 2] = [256, 4096];

/// The default time for all samples together, in seconds.
const USUAL_SECONDS: u64 = 60;

/// Returns the cases and the defaults.
pub(super) fn listing() -> Listing {
    CHOICES.listing(
        "flood",
        USUAL_SECONDS,
        vec![
            ("--size", SIZES.map(|size| size.to_string()).to_vec()),
            ("--reader", Reader::USUAL.map(|reader| reader.to_string()).to_vec()),
        ],
    )
}

/// Checks the request, measures, and reports.
pub(super) fn run(options: &FloodOptions) -> Result<(), Failure> {
    let selection = CHOICES.select(&options.common).map_err(Failure::Request)?;
    let sizes = match options.sizes.is_empty() {
        true => SIZES.to_vec(),
        false => distinct(&options.sizes),
    };
    let readers = all_readers(&options.readers, &Reader::USUAL).map_err(Failure::Request)?;
    run_program(Program {
        options: &options.common.run,
        selection: &selection,
        workloads: flood::workloads(&selection, &sizes, &readers, flood::Lineup::Others),
        usual_seconds: USUAL_SECONDS,
        title: "Memory under deferred freeing",
        remarks: CHOICES.left_out(&selection),
        has_tables: true,
        has_control: true,
        show: &|records, _| report::tables(records, Against::TheFastestRival),
        closing: &flood::footnote,
    })
}
