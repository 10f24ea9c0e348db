//! `compare`: immediate against deferred reuse, all that decides between them.

use memalloc::PolicyKind;

use super::Failure;
use super::run::{Program, run as run_program};
use super::select::Choices;
use super::sets;
use crate::cli::CompareOptions;
use crate::data::DataName;
use crate::report::{self, Against, Listing};
use crate::workload::reader::Reader;
use crate::workload::{Selection, flood, trie};

const CHOICES: Choices = Choices {
    cases: &["lookup-hit", "update", "insert", "delete", trie::NEEDS_TWO_THREADS, flood::OVERWRITE],
    two_threads: &[trie::NEEDS_TWO_THREADS],
    policies: &[PolicyKind::Immediate, PolicyKind::AfterRcuGp],
};

/// Sizes of objects that are overwritten: the largest whose caches are deep, and a page.
const SIZES: [usize; 2] = [256, 4096];

/// The time for all samples together, in seconds, where nobody says.
const USUAL_SECONDS: u64 = 100;

/// What it measures.
pub(super) fn listing() -> Listing {
    CHOICES.listing("compare", USUAL_SECONDS, vec![("--data", vec![DataName::Symbols.to_string()])])
}

/// Checks the request, measures, and reports.
pub(super) fn run(options: &CompareOptions) -> Result<(), Failure> {
    let selection = CHOICES.select(&options.common).map_err(Failure::Request)?;
    let sample = options.common.run.sample.as_ref();
    let data =
        sets::load(&options.data.names(), &[DataName::Symbols], CHOICES.cases, &selection, sample);
    let data = data.map_err(Failure::Request)?;
    let lineup =
        trie::Lineup { readers: vec![trie::Reader::Validated, trie::Reader::Plain], others: false };
    let mut workloads = trie::workloads(&data, &selection, &lineup);
    // The most threads: how many there are matters less here than who reads.
    let most = selection.threads.iter().max().copied().unwrap_or(1);
    let flooded = Selection { threads: vec![most], ..selection.clone() };
    workloads.extend(flood::workloads(&flooded, &SIZES, &Reader::USUAL, flood::Lineup::Policies));
    let show = |records: &[_]| {
        let tables = match options.tables {
            true => report::tables(records, Against::TheFirst) + "\n",
            false => String::new(),
        };
        tables + &report::verdict(records)
    };
    let run = options.common.run.with_usual_page(!options.no_html);
    run_program(Program {
        options: &run,
        selection: &selection,
        workloads,
        usual_seconds: USUAL_SECONDS,
        title: "Immediate against deferred reuse",
        remarks: CHOICES.left_out(&selection),
        has_tables: options.tables,
        has_control: true,
        show: &show,
        closing: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_offer_are_cases_of_the_benches() {
        let known = |case| trie::CASES.contains(case) || flood::CASES.contains(case);
        assert!(CHOICES.cases.iter().all(known));
    }
}
