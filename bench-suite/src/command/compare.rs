//! `compare`: immediate against deferred reuse, all that decides between them.

use memalloc::PolicyKind;

use super::Failure;
use super::run::{Program, run as run_program};
use super::select::Offer;
use super::sets;
use crate::cli::CompareOptions;
use crate::data::DataName;
use crate::record::Record;
use crate::report::{self, Against};
use crate::workload::{alloc, trie};

const OFFER: Offer = Offer {
    cases: &[
        "lookup-hit",
        "update",
        "insert",
        "delete",
        trie::NEEDS_TWO_THREADS,
        "memory",
        alloc::HOT_PAIR,
        alloc::BATCH_64,
    ],
    two_threads: &[trie::NEEDS_TWO_THREADS],
    policies: &[PolicyKind::Immediate, PolicyKind::AfterRcuGp],
};

/// Sizes of objects: one cache line, the largest whose caches are deep, one page.
const SIZES: [usize; 3] = [64, 256, 4096];

/// Checks the request, measures, and reports.
pub(super) fn run(options: &CompareOptions) -> Result<(), Failure> {
    let selection = OFFER.select(&options.common).map_err(Failure::Request)?;
    let usual = [DataName::Symbols, DataName::Random];
    let data = sets::load(&options.data.names(), &usual, &selection).map_err(Failure::Request)?;
    let lineup =
        trie::Lineup { readers: vec![trie::Reader::Validated, trie::Reader::Plain], others: false };
    let mut contests = trie::contests(&data, &selection, &lineup);
    contests.extend(alloc::contests(&selection, &SIZES));
    run_program(Program {
        options: &options.common,
        selection: &selection,
        contests,
        usual_seconds: 75,
        title: "Immediate against deferred reuse",
        remarks: OFFER.left_out(&selection),
        show,
    })
}

fn show(records: &[Record]) -> String {
    let tables = report::tables(records, Against::TheFirst);
    format!("{tables}\n{}", report::paragraph(&report::advice(records)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_offer_are_cases_of_the_trie_and_of_the_allocator() {
        let known = |case| trie::CASES.contains(case) || alloc::CASES.contains(case);
        assert!(OFFER.cases.iter().all(known));
    }
}
