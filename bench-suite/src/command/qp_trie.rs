//! `qp-trie`: the trie under each reader, next to other ordered maps.

use memalloc::PolicyKind;
use qptrie::Hints;

use super::Failure;
use super::run::{Program, run as run_program};
use super::select::{Choices, distinct};
use super::sets;
use crate::cli::QpTrieOptions;
use crate::data::DataName;
use crate::record::{Part, Record};
use crate::report::{self, Against, Listing};
use crate::workload::Selection;
use crate::workload::reader::Reader as ConcurrentReader;
use crate::workload::trie::{self, Reader};

const CHOICES: Choices = Choices {
    cases: trie::CASES,
    two_threads: &[trie::NEEDS_TWO_THREADS],
    policies: &[PolicyKind::Immediate, PolicyKind::AfterRcuGp],
};

/// The default sets of keys.
const USUAL_DATA: [DataName; 2] = [DataName::Symbols, DataName::Random];

/// The default time for all samples together, in seconds.
const USUAL_SECONDS: u64 = 120;

/// Returns the cases and the defaults.
pub(super) fn listing() -> Listing {
    CHOICES.listing(
        "qp-trie",
        USUAL_SECONDS,
        vec![
            ("--data", USUAL_DATA.map(|name| name.to_string()).to_vec()),
            ("--reader", Reader::ALL.map(|reader| reader.to_string()).to_vec()),
            ("--hints", vec![trie::hints_in_words(Hints::default()).to_owned()]),
        ],
    )
}

/// Checks the request, measures, and reports.
pub(super) fn run(options: &QpTrieOptions) -> Result<(), Failure> {
    let selection = CHOICES.select(&options.common).map_err(Failure::Request)?;
    let readers = readers(options, &selection).map_err(Failure::Request)?;
    let sample = options.common.run.sample.as_ref();
    let data = sets::load(&options.data.names(), &USUAL_DATA, CHOICES.cases, &selection, sample);
    let data = data.map_err(Failure::Request)?;
    let hints = match &options.hints[..] {
        [] => vec![Hints::default()],
        wanted => distinct(wanted),
    };
    let concurrent = vec![ConcurrentReader::None];
    let lineup = trie::Lineup { readers, hints, concurrent, others: true };
    run_program(Program {
        options: &options.common.run,
        selection: &selection,
        workloads: trie::workloads(&data, &selection, &lineup),
        usual_seconds: USUAL_SECONDS,
        title: "Ordered maps of byte strings",
        remarks: CHOICES.left_out(&selection) + &trie::left_out(&data, &selection),
        has_tables: true,
        has_control: true,
        show: &show,
        closing: &String::new,
    })
}

fn show(records: &[Record], _part: Option<&Part>) -> String {
    report::tables(records, Against::TheFastestRival)
        + &report::slower_in_batches(records)
        + &report::beside_the_kernel(records)
}

/// Returns the readers asked for, or all that the selected policies have.
fn readers(options: &QpTrieOptions, selection: &Selection) -> Result<Vec<Reader>, String> {
    let has_policy = |reader: &Reader| selection.policies.contains(&reader.policy());
    let names = options.readers.iter();
    let wanted: Vec<Reader> = names.map(|name| name.parse()).collect::<Result<_, _>>()?;
    if let Some(reader) = wanted.iter().find(|reader| !has_policy(reader)) {
        let policies: Vec<_> = selection.policies.iter().map(ToString::to_string).collect();
        return Err(format!(
            "--reader {reader} with --policy {}: it needs the policy {}",
            policies.join(","),
            reader.policy()
        ));
    }
    let all = Reader::ALL.into_iter().filter(has_policy);
    Ok(if wanted.is_empty() { all.collect() } else { distinct(&wanted) })
}
