//! `compare`: everything that decides between immediate and deferred reuse.

use memalloc::PolicyKind;
use qptrie::Hints;

use super::Failure;
use super::run::{Program, run as run_program};
use super::select::{Choices, readers};
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

/// Sizes of overwritten objects: the largest with deep caches, and a page.
const SIZES: [usize; 2] = [256, 4096];

/// The text after a complete run.
const CLOSING: &str = "Your own workload: bench-suite advise. Every measurement: --tables.\n";

/// The default time for all samples together, in seconds.
const USUAL_SECONDS: u64 = 100;

/// Returns the cases and the defaults.
pub(super) fn listing() -> Listing {
    let readers = format!("{} for the trie", Reader::None);
    let flooding = Reader::USUAL.map(|reader| reader.to_string()).join(", ");
    CHOICES.listing(
        "compare",
        USUAL_SECONDS,
        vec![
            ("--data", vec![DataName::Symbols.to_string()]),
            ("--reader", vec![readers, format!("{flooding} for {}", flood::OVERWRITE)]),
        ],
    )
}

/// Checks the request, measures, and reports.
pub(super) fn run(options: &CompareOptions) -> Result<(), Failure> {
    let selection = CHOICES.select(&options.common).map_err(Failure::Request)?;
    let wanted = |usual| readers(&options.readers, usual).map_err(Failure::Request);
    let (concurrent, flooding) = (wanted(&[Reader::None])?, wanted(&Reader::USUAL)?);
    let sample = options.common.run.sample.as_ref();
    let data =
        sets::load(&options.data.names(), &[DataName::Symbols], CHOICES.cases, &selection, sample);
    let data = data.map_err(Failure::Request)?;
    let lineup = trie::Lineup {
        readers: vec![trie::Reader::Validated, trie::Reader::Plain],
        hints: vec![Hints::default()],
        concurrent,
        others: false,
    };
    let mut workloads = trie::workloads(&data, &selection, &lineup);
    // The largest number of threads: here the readers matter more than the number of threads.
    let most = selection.threads.iter().max().copied().unwrap_or(1);
    let flooded = Selection { threads: vec![most], ..selection.clone() };
    workloads.extend(flood::workloads(&flooded, &SIZES, &flooding, flood::Lineup::Policies));
    let show = |records: &[_], part: Option<&_>| {
        let tables = match options.tables {
            true => report::tables(records, Against::TheFirst) + "\n",
            false => String::new(),
        };
        tables + &report::verdict(records, part)
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
        closing: &|| CLOSING.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_compare_is_a_case_of_a_bench() {
        let known = |case| trie::CASES.contains(case) || flood::CASES.contains(case);
        assert!(CHOICES.cases.iter().all(known));
    }
}
