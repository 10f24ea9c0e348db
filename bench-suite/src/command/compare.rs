//! `compare`: immediate against deferred reuse, all that decides between them.

use memalloc::PolicyKind;

use super::Failure;
use super::run::{Program, run as run_program};
use super::select::{Offer, distinct};
use crate::cli::CompareOptions;
use crate::data::{DataName, DataSet};
use crate::record::Record;
use crate::report::{self, Against};
use crate::workload::{Selection, alloc, trie};

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
    let data = load(options, &selection).map_err(Failure::Request)?;
    let mut contests = trie::contests(&data, &selection);
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

/// Loads the sets of keys, if any case needs them.
fn load(options: &CompareOptions, selection: &Selection) -> Result<Vec<DataSet>, String> {
    if !trie::CASES.iter().any(|case| selection.wants(case)) {
        if !options.data.is_empty() {
            let cases = trie::CASES.join(", ");
            return Err(format!("--data is for the cases {cases}, and none of them is in --case"));
        }
        return Ok(Vec::new());
    }
    let names = match options.data.is_empty() {
        true => vec![DataName::Symbols, DataName::Random],
        false => distinct(&options.data),
    };
    let most = selection.threads.iter().max().copied().unwrap_or(1);
    let sets = names.iter().map(|name| {
        let set = DataSet::load(name, selection.seed)?;
        // Every thread has a part of the keys, and the readers of a mix share half of them.
        match set.keys.len() / 2 {
            keys if keys < most => Err(format!(
                "--threads {most} is too much for {name}: allowed are 1 to {keys} with so few keys"
            )),
            _ => Ok(set),
        }
    });
    sets.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_the_trie_is_on_offer() {
        assert_eq!(&OFFER.cases[..trie::CASES.len()], trie::CASES);
    }
}
