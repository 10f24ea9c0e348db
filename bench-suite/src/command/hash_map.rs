//! `htab-mem` and `map-perf`: a hash map under every policy, next to the kernel's.

use memalloc::PolicyKind;

use super::Failure;
use super::run::{Program, run as run_program};
use super::select::{Choices, distinct, readers};
use crate::cli::{CommonOptions, HtabMemOptions};
use crate::report::{self, Against, Listing};
use crate::workload::Selection;
use crate::workload::hash_map::{self, htab_mem, map_perf};
use crate::workload::reader::Reader;

const HTAB_MEM: Choices = Choices {
    cases: htab_mem::CASES,
    two_threads: &[htab_mem::NEEDS_PAIRS],
    policies: PolicyKind::ALL,
};

const MAP_PERF: Choices =
    Choices { cases: map_perf::CASES, two_threads: &[], policies: PolicyKind::ALL };

/// The default time for all samples together, in seconds: of `htab-mem` and of `map-perf`.
const USUAL_SECONDS: (u64, u64) = (120, 60);

/// Returns the cases and the defaults of both.
pub(super) fn listings() -> [Listing; 2] {
    let sizes = htab_mem::VALUE_SIZES.iter().map(ToString::to_string).collect();
    let readers = vec![Reader::None.to_string()];
    let others = vec![("--value-size", sizes), ("--reader", readers)];
    [
        HTAB_MEM.listing("htab-mem", USUAL_SECONDS.0, others),
        MAP_PERF.listing("map-perf", USUAL_SECONDS.1, Vec::new()),
    ]
}

/// `htab-mem`: checks the request, measures, and reports.
pub(super) fn htab_mem(options: &HtabMemOptions) -> Result<(), Failure> {
    let selection = select(&HTAB_MEM, &options.common).map_err(Failure::Request)?;
    let sizes = match options.value_sizes.is_empty() {
        true => htab_mem::VALUE_SIZES.to_vec(),
        false => distinct(&options.value_sizes),
    };
    let readers = readers(&options.readers, &[Reader::None]).map_err(Failure::Request)?;
    let left_out = hash_map::kernel_is_left_out();
    run_program(Program {
        options: &options.common.run,
        selection: &selection,
        workloads: htab_mem::workloads(&selection, &sizes, &readers, left_out.is_none()),
        usual_seconds: USUAL_SECONDS.0,
        title: "The memory of a hash map while it is updated",
        remarks: HTAB_MEM.left_out(&selection) + &left_out.unwrap_or_default(),
        has_tables: true,
        has_control: true,
        show: &|records, _| {
            report::tables(records, Against::TheFastestRival) + &report::beside_htab_mem(records)
        },
        closing: &|| htab_mem::FOOTNOTE.into(),
    })
}

/// `map-perf`: checks the request, measures, and reports.
pub(super) fn map_perf(options: &CommonOptions) -> Result<(), Failure> {
    let selection = select(&MAP_PERF, options).map_err(Failure::Request)?;
    let left_out = hash_map::kernel_is_left_out();
    run_program(Program {
        options: &options.run,
        selection: &selection,
        workloads: map_perf::workloads(&selection, left_out.is_none()),
        usual_seconds: USUAL_SECONDS.1,
        title: "Updating and deleting from a hash map",
        remarks: left_out.unwrap_or_default(),
        has_tables: true,
        has_control: true,
        show: &|records, _| {
            report::tables(records, Against::TheFastestRival) + &report::beside_map_perf(records)
        },
        closing: &String::new,
    })
}

/// Selects from `choices`, and checks that every thread can have keys of its own.
fn select(choices: &Choices, options: &CommonOptions) -> Result<Selection, String> {
    let selection = choices.select(options)?;
    let most = hash_map::MOST_THREADS;
    match selection.threads.iter().find(|&&threads| threads > most) {
        Some(threads) => Err(format!("--threads {threads}: expected 1 to {most} here")),
        None => Ok(selection),
    }
}
