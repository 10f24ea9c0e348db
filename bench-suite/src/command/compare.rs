//! `compare`: immediate against deferred reuse, all that decides between them.

use std::sync::Arc;
use std::time::Duration;

use memalloc::PolicyKind;

use super::{Failure, failed, print};
use crate::cli::CompareOptions;
use crate::data::{DataName, DataSet};
use crate::measure::{Entrant, Pace, play};
use crate::record::{Host, Record, Sink};
use crate::report::{self, Progress};
use crate::workload::{Contest, Selection, alloc, trie};

/// Checks the request, measures, and reports.
pub(super) fn run(options: &CompareOptions) -> Result<(), Failure> {
    let selection = selection(options).map_err(Failure::Request)?;
    let data = load(options, &selection).map_err(Failure::Request)?;
    let mut sink = Sink::open(options.json.as_deref()).map_err(Failure::Request)?;
    let mut contests = trie::contests(&data, &selection);
    contests.extend(alloc::contests(&selection));

    let host = Arc::new(Host::here());
    print(&report::preamble(&host, options.rounds))?;
    if selection.wants(trie::NEEDS_TWO_THREADS) && !has_two_threads(&selection.threads) {
        print(&format!("{} is left out: it needs 2 threads.\n", trie::NEEDS_TWO_THREADS))?;
    }
    let mut records = Vec::new();
    let rounds = options.rounds;
    let samples = |contest: &Contest<'_>| contest.competitors.len() * rounds;
    let progress = Progress::new(contests.iter().map(samples).sum(), options.quiet);
    let shares = contests.iter().map(|contest| contest.share * samples(contest) as f64).sum();
    let mut pace = Pace::new(Duration::from_secs(options.duration), shares);
    for contest in &mut contests {
        progress.show(&contest.title);
        let made = measure(contest, rounds, &mut pace, &progress, &selection, &host)?;
        sink.append(&made).map_err(|error| Failure::Run(format!("--json: {error}")))?;
        records.extend(made);
    }
    drop(progress);
    print(&report::tables(&records))?;
    let advice = report::advice(&records);
    print(&format!("\n{}", report::paragraph(&advice)))
}

fn measure(
    contest: &mut Contest<'_>,
    rounds: usize,
    pace: &mut Pace,
    progress: &Progress,
    selection: &Selection,
    host: &Arc<Host>,
) -> Result<Vec<Record>, Failure> {
    let mut entrants: Vec<&mut dyn Entrant> =
        contest.competitors.iter_mut().map(|one| &mut *one.entrant as &mut dyn Entrant).collect();
    let series = play(&mut entrants, rounds, pace, contest.share, || progress.step())
        .map_err(|wrong| failed(&contest.title, &wrong))?;
    let of_each = contest.competitors.iter().zip(series);
    let records = of_each
        .map(|(competitor, series)| Record::of(contest, competitor, series, selection, host));
    Ok(records.flatten().collect())
}

/// What the options ask for, if it can be had.
fn selection(options: &CompareOptions) -> Result<Selection, String> {
    let known: Vec<&'static str> = [trie::CASES, alloc::CASES].concat();
    let mut cases = Vec::new();
    for name in &options.cases {
        let case = known
            .iter()
            .find(|case| *case == name)
            .ok_or_else(|| format!("unknown case \"{name}\": allowed are {}", known.join(", ")))?;
        cases.push(*case);
    }
    let threads = distinct(&options.threads);
    if !has_two_threads(&threads) && cases.contains(&trie::NEEDS_TWO_THREADS) {
        return Err(format!(
            "--case {} needs a number of --threads of 2 or more",
            trie::NEEDS_TWO_THREADS
        ));
    }
    if cases.is_empty() {
        cases = known;
    }
    if !options.data.is_empty() && !cases.iter().any(|case| trie::CASES.contains(case)) {
        return Err(format!(
            "--data is for the cases {}, and none of them is in --case",
            trie::CASES.join(", ")
        ));
    }
    let policies = match options.policies.is_empty() {
        true => vec![PolicyKind::Immediate, PolicyKind::AfterRcuGp],
        false => distinct(&options.policies),
    };
    Ok(Selection { cases, threads, policies })
}

/// Loads the sets of keys, if any case needs them.
fn load(options: &CompareOptions, selection: &Selection) -> Result<Vec<DataSet>, String> {
    if !trie::CASES.iter().any(|case| selection.wants(case)) {
        return Ok(Vec::new());
    }
    let names = match options.data.is_empty() {
        true => vec![DataName::Symbols, DataName::Random],
        false => distinct(&options.data),
    };
    let most = selection.threads.iter().max().copied().unwrap_or(1);
    let sets = names.iter().map(|name| {
        let set = DataSet::load(name, options.seed)?;
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

fn has_two_threads(threads: &[usize]) -> bool {
    threads.iter().any(|&threads| threads >= 2)
}

/// The values without repetitions, in the order in which they first come.
fn distinct<T: Clone + PartialEq>(values: &[T]) -> Vec<T> {
    let mut distinct: Vec<T> = Vec::new();
    for value in values {
        if !distinct.contains(value) {
            distinct.push(value.clone());
        }
    }
    distinct
}
