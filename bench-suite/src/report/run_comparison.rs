//! Compares two files of records: which rows became faster, and which slower.
//!
//! Two runs of the same program differ by more than the samples within a run do, so the unit is the
//! run. A row is worse if it is worse in each of the new runs than in each of the old ones. With
//! `m` and `n` runs of the same program, taken in turn, that happens by chance in one of `m + n`
//! over `n` rows, so the more rows are compared, the more runs are needed.

use std::fmt::Write;

use super::figures;
use super::labels::{heading, label, name, subject_name, threads, threads_of};
use super::layout::{Table, tied};
use super::paragraph::paragraph;
use super::rows::{Row, rows};
use super::width::width;
use crate::measure::{Comparison, Metric, Summary, Verdict};
use crate::record::{Record, Run, pooled};

/// The result of the comparison.
#[derive(Debug)]
pub(crate) struct RunComparison {
    /// The table and the remarks on it.
    pub(crate) text: String,
    /// True if a row became worse beyond the threshold, or a subject began to give wrong answers.
    pub(crate) got_worse: bool,
    /// The reason why no row could be judged, if none could.
    pub(crate) unjudged: Option<String>,
}

/// Identical programs must not have a worse row in more than one comparison of this many.
const CHANCE: f64 = 20.0;

/// The verdict on a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Better,
    Worse,
    None,
    NotToldApart,
    TooFew,
    /// Some samples are zero, but not all.
    NoRatio,
}

impl RunComparison {
    /// Compares the rows that both sides have; a ratio from 1 / `margin` to `margin` is no
    /// difference.
    ///
    /// # Errors
    ///
    /// The two have no row in common.
    pub(crate) fn of(old: &[Run], new: &[Run], margin: f64) -> Result<Self, String> {
        Self::within(old, new, margin, width())
    }

    /// The same, with its table for a width.
    pub(super) fn within(
        old: &[Run],
        new: &[Run],
        margin: f64,
        width: usize,
    ) -> Result<Self, String> {
        let (old_records, new_records) = (pooled(old), pooled(new));
        let old_rows = rows(&old_records);
        let mut compared = Vec::new();
        for row in &old_rows {
            // The longest of many groups is longer in a longer sample: it is not compared.
            let is_compared = row.common().metric != Metric::UpdateGroupMaxNs
                && heading(row, &old_rows).is_some();
            let shown = row.records().iter().filter(|_| is_compared);
            for &before in shown {
                let Some(after) = new_records.iter().find(|record| record.is_same_row(before))
                else {
                    continue;
                };
                compared.push((row, before, after, [old, new].map(|runs| values(runs, before))));
            }
        }
        let rows = compared.len();
        let (mut changes, mut fewest) = (Vec::new(), None::<(usize, usize)>);
        let header = ["bench, case", "threads", "subject", "old", "new", "new / old", ""];
        let mut table = Table { header: header.map(str::to_owned).into(), ..Table::default() };
        for (row, before, after, [old, new]) in compared {
            let (mut change, ratio) = compare(&old, &new, before.metric, margin);
            if change != Change::NoRatio && !are_enough(old.len(), new.len(), rows) {
                change = Change::TooFew;
                let runs = (old.len(), new.len());
                fewest = Some(fewest.map_or(runs, |fewest| fewest.min(runs)));
            }
            changes.push(change);
            let told = format!("{}: {}", before.bench, full_label(row, &old_rows));
            let heading = format!("{told}, {}", threads_of(before));
            let word = word(change, before.metric);
            let [old, new] =
                [before, after].map(|record| figures::value(record.metric, record.value));
            let line = vec![subject_name(before), old, new, ratio.clone(), word.into()];
            match table.groups.last_mut().filter(|(last, _)| *last == heading) {
                Some((_, lines)) => lines.push(line),
                None => table.groups.push((heading, vec![line])),
            }
            let [old, new] = [before, after].map(|record| tied(&spread(record)));
            let ratio = tied(&ratio);
            table.rows.push(vec![
                told,
                threads(before),
                name(before),
                old,
                new,
                ratio,
                word.into(),
            ]);
        }
        if changes.is_empty() {
            return Err("the two have no row in common (same bench, case, subject, policy, \
                        threads and parameters; a workload that was cut off does not count)"
                .into());
        }
        let wrong = new_wrong_answers(&old_records, &new_records);
        let mut text = format!("{}\n\n", table.text(width));
        text.push_str(&paragraph(&summary(&changes, margin)));
        let unjudged = fewest.map(|(old, new)| more_runs(old, new, rows));
        text.push_str(&unjudged.as_deref().map_or_else(String::new, paragraph));
        let unjudged = unjudged.filter(|_| changes.iter().all(|&change| change == Change::TooFew));
        for line in wrong.iter().chain(&machines(old, new)) {
            text.push_str(&paragraph(line));
        }
        let got_worse = !wrong.is_empty() || changes.contains(&Change::Worse);
        Ok(Self { text, got_worse, unjudged })
    }
}

/// Returns the label of a row, and its set of keys, which tables have in their title.
fn full_label(row: &Row<'_>, rows: &[Row<'_>]) -> String {
    match row.data() {
        data if data.is_empty() => label(row, rows),
        data => format!("{}, {data}", label(row, rows)),
    }
}

/// Returns the median of a row in each of the runs that have all of its rounds.
fn values(runs: &[Run], row: &Record) -> Vec<f64> {
    let in_run = |run: &Run| Some(run.whole().find(|record| record.is_same_row(row))?.value);
    runs.iter().filter_map(in_run).collect()
}

/// Returns whether some old and new runs are enough to judge this many rows.
fn are_enough(old: usize, new: usize, rows: usize) -> bool {
    // The number of ways to choose the new runs among all.
    let ways: f64 = (1..=new).map(|chosen| (old + chosen) as f64 / chosen as f64).product();
    ways >= CHANCE * rows as f64 - 1e-6
}

/// Returns what is needed to judge this many rows.
fn more_runs(old: usize, new: usize, rows: usize) -> String {
    let needed = (1..).find(|&runs| are_enough(runs, runs, rows)).unwrap_or(1);
    format!(
        "Too few runs: rows have {old} and {new}, and {rows} rows need {needed} in each, so that \
         chance is an unlikely reason for a worse one. Append more with the same --json FILE, old \
         and new ones in turn, or measure fewer rows."
    )
}

fn compare(old: &[f64], new: &[f64], metric: Metric, margin: f64) -> (Change, String) {
    let is_zero = |values: &[f64]| values.iter().all(|&value| value == 0.0);
    let Some(comparison) = Comparison::of_runs(old, new, margin) else {
        let change = if is_zero(old) && is_zero(new) { Change::None } else { Change::NoRatio };
        return (change, String::new());
    };
    let is_better = (comparison.ratio > 1.0) == metric.is_speed();
    let change = match comparison.verdict {
        Verdict::NoDifference => Change::None,
        Verdict::Differ if is_better => Change::Better,
        Verdict::Differ => Change::Worse,
        Verdict::NotToldApart | Verdict::TooFewRounds => Change::NotToldApart,
    };
    (change, figures::ratio_and_interval(&comparison))
}

fn spread(record: &Record) -> String {
    Summary::of(&record.samples)
        .map_or_else(String::new, |summary| figures::spread(record.metric, &summary))
}

fn word(change: Change, metric: Metric) -> &'static str {
    let is_memory = metric.unit() == "B";
    let is_count = metric.unit() == "1";
    match change {
        Change::Better if is_memory => "smaller",
        Change::Worse if is_memory => "larger",
        Change::Better if is_count => "fewer",
        Change::Worse if is_count => "more",
        Change::Better => "faster",
        Change::Worse => "slower",
        Change::None => "no difference",
        Change::NotToldApart => "not told apart",
        Change::TooFew => "too few runs",
        Change::NoRatio => "no ratio to 0",
    }
}

fn summary(changes: &[Change], margin: f64) -> String {
    let count = |wanted| changes.iter().filter(|&&change| change == wanted).count();
    let mut text = format!(
        "{}: {} better, {} worse, {} without a difference, {} not told apart",
        if changes.len() == 1 { "1 row".into() } else { format!("{} rows", changes.len()) },
        count(Change::Better),
        count(Change::Worse),
        count(Change::None),
        count(Change::NotToldApart),
    );
    let few = count(Change::TooFew) + count(Change::NoRatio);
    if few > 0 {
        // Writing to a string can't fail.
        let _ = write!(text, ", {few} not comparable");
    }
    let _ = write!(text, ". The threshold is {:.3} %.", (margin - 1.0) * 100.0);
    text.replace(".000 %", " %")
}

/// Returns a sentence for each subject whose answers are wrong in the new records only.
fn new_wrong_answers(old: &[Record], new: &[Record]) -> Vec<String> {
    let wrong = new.iter().filter(|record| record.wrong_answer().is_some());
    let fresh = wrong.filter(|record| !old.iter().any(|before| before.is_same_row(record)));
    let sentences = fresh.filter_map(|record| {
        let (answer, Record { subject, case, .. }) = (record.wrong_answer()?, record);
        Some(format!("Wrong answer in the new records: {subject} in {case}: {answer}."))
    });
    sentences.collect()
}

/// Returns the differences of machine and build between the runs, one sentence each.
fn machines(old: &[Run], new: &[Run]) -> Vec<String> {
    let mut said = Vec::new();
    if let (Some(old), Some(new)) = (old.last(), new.last()) {
        let (before, after) = (&old.header, &new.header);
        let differences: Vec<String> = [
            ("processor", &before.host.cpu, &after.host.cpu),
            ("kernel", &before.host.kernel, &after.host.kernel),
            ("CPUs", &before.host.cores.to_string(), &after.host.cores.to_string()),
            ("CPU mode", &before.host.cpu_mode, &after.host.cpu_mode),
            ("barrier", &before.host.barrier, &after.host.barrier),
            ("compiler", &before.build.rustc, &after.build.rustc),
            ("profile", &before.build.profile, &after.build.profile),
        ]
        .into_iter()
        .filter(|(_, before, after)| before != after && !before.is_empty() && !after.is_empty())
        .map(|(what, before, after)| format!("{what} {before} / {after}"))
        .collect();
        if !differences.is_empty() {
            said.push(format!("The runs also differ in: {}.", differences.join("; ")));
        }
    }
    if let Some(ratio) = arithmetic(new).zip(arithmetic(old)).map(|(new, old)| new / old)
        && !(0.97..=1.03).contains(&ratio)
    {
        said.push(format!(
            "The machine's speed differed: an arithmetic step took {ratio:.2} times as long as in \
             the old runs. Differences of that size may come from the machine."
        ));
    }
    said
}

/// Returns the median of all probes of an arithmetic step, in nanoseconds.
fn arithmetic(runs: &[Run]) -> Option<f64> {
    let records = runs.iter().flat_map(|run| &run.records);
    let looks: Vec<f64> =
        records.flat_map(|record| record.looks.arithmetic_ns.iter().copied()).collect();
    Summary::of(&looks).map(|summary| summary.median)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::specimen;

    fn run(speed: f64, memory: f64) -> Vec<Run> {
        let calm = |middle: f64| [0.99, 1.0, 1.01, 1.0, 0.995, 1.005, 1.0].map(|one| one * middle);
        let records = vec![
            specimen::of("update", "immediate", Metric::OpsPerS, &calm(speed)),
            specimen::of("mixed", "immediate", Metric::MemPeakBytes, &calm(memory)),
        ];
        // Enough for two rows.
        vec![Run { header: records[0].run.clone(), records, end: None }; 4]
    }

    fn compared(new: &[Run]) -> RunComparison {
        RunComparison::of(&run(1e6, 1e6), new, 1.03).unwrap()
    }

    #[test]
    fn each_row_has_a_verdict_and_only_worse_ones_count() {
        let same = compared(&run(1e6, 1e6));
        assert!(!same.got_worse && same.text.contains("no difference"), "{}", same.text);
        let better = compared(&run(2e6, 0.5e6));
        assert!(!better.got_worse, "{}", better.text);
        assert!(better.text.contains("faster") && better.text.contains("smaller"));
        let slower = compared(&run(0.5e6, 1e6));
        assert!(slower.got_worse && slower.text.contains("slower"), "{}", slower.text);
        let larger = compared(&run(1e6, 2e6));
        assert!(larger.got_worse && larger.text.contains("larger"), "{}", larger.text);
        assert!(larger.text.contains("2 rows: 0 better, 1 worse, 1 without"), "{}", larger.text);
    }

    /// The longest of more groups is longer: it says nothing about two runs of different lengths.
    #[test]
    fn the_longest_group_of_updates_is_not_compared() {
        let with = |metric, time: f64| {
            let mut runs = run(1e6, 1e6);
            for run in &mut runs {
                run.records.push(specimen::of("overwrite", "immediate", metric, &[time; 7]));
            }
            runs
        };
        let worse = |metric| {
            RunComparison::of(&with(metric, 1e4), &with(metric, 1e8), 1.03).unwrap().got_worse
        };
        assert!(worse(Metric::UpdateGroupP99Ns) && !worse(Metric::UpdateGroupMaxNs));
    }

    #[test]
    fn a_wider_threshold_allows_more() {
        let of = |margin| RunComparison::of(&run(1e6, 1.0), &run(0.9e6, 1.0), margin).unwrap();
        assert!(of(1.03).got_worse);
        let wider = of(1.2);
        // The line may be folded anywhere.
        let words: Vec<_> = wider.text.split_whitespace().collect();
        assert!(
            !wider.got_worse && words.join(" ").contains("threshold is 20 %"),
            "{}",
            wider.text
        );
    }

    #[test]
    fn the_more_rows_the_more_runs_are_needed() {
        assert!(are_enough(3, 3, 1) && !are_enough(2, 2, 1) && !are_enough(3, 3, 2));
        assert!(are_enough(7, 7, 140) && !are_enough(6, 6, 140));
        let one = |runs: Vec<Run>| runs.into_iter().take(1).collect::<Vec<Run>>();
        let few = RunComparison::of(&one(run(1e6, 1e6)), &one(run(0.5e6, 1e6)), 1.03).unwrap();
        assert!(!few.got_worse && few.text.contains("too few runs"), "{}", few.text);
        assert!(few.text.contains("2 rows need 4 in each"), "{}", few.text);
    }

    /// The spread within a run is not that between runs.
    #[test]
    fn one_old_run_that_is_as_slow_as_a_new_one_leaves_it_open() {
        let mut old = run(1e6, 1e6);
        old.extend(run(0.5e6, 1e6).into_iter().take(1));
        let compared = RunComparison::of(&old, &run(0.5e6, 1e6), 1.03).unwrap();
        assert!(
            !compared.got_worse && compared.text.contains("not told apart"),
            "{}",
            compared.text
        );
    }

    #[test]
    fn runs_that_share_no_row_cannot_be_compared() {
        let mut other = run(1e6, 1e6);
        let records = other.iter_mut().flat_map(|run| &mut run.records);
        records.for_each(|record| record.threads = 77);
        let error = RunComparison::of(&run(1e6, 1e6), &other, 1.03).unwrap_err();
        assert!(error.contains("no row in common"), "{error}");
    }

    #[test]
    fn answers_that_have_become_wrong_are_worse() {
        let mut new = run(1e6, 1e6);
        let mut wrong = specimen::of("seek", "immediate", Metric::WrongAnswers, &[1.0]);
        wrong.params.insert("wrong_answer".into(), "found nothing".into());
        new[0].records.push(wrong);
        let compared = compared(&new);
        assert!(compared.got_worse && compared.text.contains("found nothing"));
    }
}
