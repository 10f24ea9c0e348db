//! Tables: for each bench and set of keys one for the speeds, one for the times and one for the
//! memory. Subjects are side by side, followed by their ratios.

use std::fmt::Write;

use super::figures;
use super::labels::{heading, is_of, label, name, short, subject_name, threads, threads_of, title};
use super::layout::{Table, tied};
use super::paragraph::paragraph;
use super::rows::{Row, comparison, rows};
use super::width::width;
use crate::measure::{Metric, Summary};
use crate::record::{Host, Record};
use crate::workload::threads_in_words;

/// The baseline of ratios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    /// The first subject of the table.
    TheFirst,
    /// The best rival of each row, which the row names. A row without a rival has no ratio.
    TheFastestRival,
}

/// Returns the lines that come before the results: the machine, and how to read the figures.
pub(crate) fn preamble(title: &str, host: &Host, rounds: usize, has_tables: bool) -> String {
    let cpus = if host.cores == 1 { "1 CPU".into() } else { format!("{} CPUs", host.cores) };
    let rules = match has_tables {
        true => format!(
            "Values are medians of {rounds} interleaved rounds, with the middle half of the rounds \
             in brackets if there is room. Each sample runs in a separate process. Speeds are \
             totals over all threads. Ratios are computed round by round: the median and its 95 % \
             bootstrap interval; the ratio to a best rival is below or beside the value. No \
             difference: the whole interval is within 3 %. Not told apart: the interval crosses \
             that limit."
        ),
        false => format!(
            "{rounds} interleaved rounds, each sample in a separate process; ratios with their \
             95 % bootstrap intervals. No difference: the interval is within 3 %. Not told apart: it \
             crosses that limit."
        ),
    };
    let machine = format!(
        "{title}: {}, {cpus}, {}; CPU mode {}, barrier {}.",
        host.cpu, host.kernel, host.cpu_mode, host.barrier
    );
    paragraph(&machine) + &paragraph(&rules)
}

/// Formats all tables, each after its title.
pub(crate) fn tables(records: &[Record], against: Against) -> String {
    tables_within(records, against, width())
}

/// Formats all tables for a width.
pub(super) fn tables_within(records: &[Record], against: Against, width: usize) -> String {
    let rows = rows(records);
    let mut groups: Vec<Vec<&Row<'_>>> = Vec::new();
    for row in rows.iter().filter(|row| heading(row, &rows).is_some()) {
        match groups.iter_mut().find(|group| title(group[0]) == title(row)) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    let mut text = String::new();
    for group in groups {
        let table = table(&group, &rows, against).text(width);
        // Writing to a string can't fail.
        let _ = writeln!(text, "\n{}\n{table}", title(group[0]));
    }
    text.push('\n');
    text.extend(wrong_answers(&rows).chain(false_negatives(&rows)).map(|one| paragraph(&one)));
    text
}

/// Returns the table of a group of rows. Side by side it has a column for each subject. Against the
/// first subject, a column for the ratio of each other to it follows. Against the best rival, the
/// columns have no spreads, which would make them too wide, the ratio of ours is below the value,
/// and the last column names the rival; a subject whose answers were wrong in every row has a
/// column too.
fn table(group: &[&Row<'_>], rows: &[Row<'_>], against: Against) -> Table {
    let columns = columns(group, rows, against);
    let mut table = Table { header: header(&columns, against), ..Table::default() };
    for row in group {
        let base = match against {
            Against::TheFirst => of(row, columns[0]),
            Against::TheFastestRival => row.best_rival(),
        };
        let has_ratio = |record: &Record| match against {
            Against::TheFirst => !is_of(columns[0], record),
            Against::TheFastestRival => record.is_ours(),
        };
        let ratios: Vec<String> = columns
            .iter()
            .map(|column| {
                let pair = base.zip(of(row, column).filter(|record| has_ratio(record)));
                pair.map_or_else(String::new, |(base, record)| ratio(base, record))
            })
            .collect();
        let mut cells = vec![label(row, rows), threads(row.common())];
        let mut lines = Vec::new();
        for (column, ratio) in columns.iter().zip(&ratios) {
            let found = of(row, column);
            let is_wrong = against == Against::TheFastestRival && is_wrong(row, column, rows);
            let missing = || if is_wrong { WRONG.to_owned() } else { String::new() };
            let spread = found.map_or_else(missing, shown);
            cells.push(match (against, found) {
                (Against::TheFastestRival, Some(record)) => {
                    let median = tied(&figures::value(record.metric, record.value));
                    [&median, ratio].map(String::as_str).join("\n").trim_end().to_owned()
                }
                _ => tied(&spread),
            });
            if !spread.is_empty() {
                lines.push(vec![subject_name(column), spread, ratio.clone()]);
            }
        }
        match against {
            Against::TheFirst => cells.extend(ratios.iter().skip(1).cloned()),
            Against::TheFastestRival => {
                cells.extend(base.map(|best| best.subject.clone()));
            }
        }
        cells.resize(table.header.len(), String::new());
        let to = base.filter(|_| ratios.iter().any(|ratio| !ratio.is_empty()));
        let to = to.map_or_else(String::new, |base| format!("; ratios to {}", subject_name(base)));
        let heading = format!("{}, {}{to}", label(row, rows), threads_of(row.common()));
        table.rows.push(cells);
        table.groups.push((heading, lines));
    }
    table
}

/// Returns the names of the columns.
fn header(columns: &[&Record], against: Against) -> Vec<String> {
    let mut header = vec!["case".to_owned(), "threads".to_owned()];
    header.extend(columns.iter().map(|column| name(column)));
    match against {
        Against::TheFirst => {
            let base = short(columns[0]);
            let others = columns.iter().skip(1);
            header.extend(others.map(|other| format!("{}\n/ {base}", short(other))));
        }
        Against::TheFastestRival => {
            let has_rivals = columns.iter().any(|column| column.is_of_a_rival());
            header.extend(has_rivals.then(|| "best\nrival".to_owned()));
        }
    }
    header
}

/// Returns one record of each subject, in the order in which the subjects first occur.
fn columns<'r>(group: &[&Row<'r>], rows: &[Row<'r>], against: Against) -> Vec<&'r Record> {
    let mut columns: Vec<&'r Record> = Vec::new();
    let mut add = |record: &'r Record| {
        if !columns.iter().any(|column| is_of(column, record)) {
            columns.push(record);
        }
    };
    group.iter().flat_map(|row| row.records()).for_each(|record| add(record));
    if against == Against::TheFastestRival {
        let wrong = rows.iter().flat_map(|row| row.records());
        let wrong = wrong.filter(|record| record.wrong_answer().is_some());
        wrong
            .filter(|record| group.iter().any(|row| is_wrong(row, record, rows)))
            .for_each(|record| add(record));
    }
    columns
}

/// Returns the record of a column in a row.
fn of<'r>(row: &Row<'r>, column: &Record) -> Option<&'r Record> {
    row.records().iter().copied().find(|one| is_of(column, one))
}

/// Shown instead of a value if an answer was wrong.
const WRONG: &str = "wrong";

/// Returns whether the subject of a column was excluded from a row for a wrong answer.
fn is_wrong(row: &Row<'_>, column: &Record, rows: &[Row<'_>]) -> bool {
    let common = row.common();
    let fields = rows.iter().filter(|other| other.common().metric == Metric::WrongAnswers);
    let mut same = fields.filter(|other| other.is_of_the_same_task(common));
    same.any(|other| of(other, column).is_some())
}

/// Returns one sentence for each wrong answer of a rival.
fn wrong_answers(rows: &[Row<'_>]) -> impl Iterator<Item = String> {
    let records = rows.iter().flat_map(|row| row.records());
    records.filter_map(|record| {
        let (answer, case) = (record.wrong_answer()?, &record.case);
        let (threads, data) = (threads_in_words(record.threads), record.param("data"));
        let of = if data.is_empty() { data } else { format!(" of {data}") };
        let subject = &record.subject;
        Some(format!(
            "No values for {subject} in {case}{of}, {threads}, because of a wrong answer: {answer}"
        ))
    })
}

/// Returns the ratio of `other` to `base`; empty for a metric whose ratio means nothing.
fn ratio(base: &Record, other: &Record) -> String {
    let says_something = base.metric != Metric::RetriesPerLookup;
    let comparison = comparison(base, other).filter(|_| says_something);
    comparison.as_ref().map_or_else(String::new, figures::ratio)
}

fn shown(record: &Record) -> String {
    Summary::of(&record.samples)
        .map_or_else(String::new, |summary| figures::spread(record.metric, &summary))
}

/// Returns one sentence about all lookups of existing keys: a missed key would have failed the run.
fn false_negatives(rows: &[Row<'_>]) -> Option<String> {
    let (count, total) = samples(rows, Metric::FalseNegatives)
        .fold((0, 0.0), |(count, total), sample| (count + 1, total + sample));
    (count > 0).then(|| format!("Lookups that missed an existing key: {total} in {count} samples."))
}

/// Returns all samples of a metric.
fn samples<'r>(
    rows: impl IntoIterator<Item = &'r Row<'r>>,
    metric: Metric,
) -> impl Iterator<Item = f64> {
    let rows = rows.into_iter().filter(move |row| row.common().metric == metric);
    let records = rows.flat_map(|row| row.records());
    records.flat_map(|record| record.samples.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::specimen;

    #[test]
    fn a_table_has_policies_side_by_side_and_their_ratio() {
        let records = [
            specimen::of("lookup-hit", "immediate", Metric::OpsPerS, &[2e6; 7]),
            specimen::of("lookup-hit", "after-rcu-gp", Metric::OpsPerS, &[3e6; 7]),
            specimen::of("lookup-hit", "immediate", Metric::FalseNegatives, &[0.0; 7]),
        ];
        let text = tables(&records, Against::TheFirst);
        assert!(text.contains("qp-trie, speed: symbols (121,015 keys, /proc/kallsyms)"), "{text}");
        assert!(text.contains("/ immediate"), "{text}");
        let line = text.lines().find(|line| line.contains("lookup-hit")).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words, ["lookup-hit", "2", "2.00", "M/s", "3.00", "M/s", "1.50"]);
        assert!(text.contains("existing key: 0 in 7 samples"), "{text}");
    }

    #[test]
    fn the_best_rival_is_the_one_with_the_better_value_and_only_ours_have_a_ratio_to_it() {
        let rival = |subject: &str, speed| {
            let mut record = specimen::of("hot-pair", "none", Metric::OpsPerS, &[speed; 7]);
            (record.subject, record.policy) = (subject.into(), None);
            record.params.insert("version".into(), subject.into());
            record
        };
        let records = [
            specimen::of("hot-pair", "immediate", Metric::OpsPerS, &[6e6; 7]),
            rival("glibc", 2e6),
            rival("snmalloc", 3e6),
        ];
        let text = tables(&records, Against::TheFastestRival);
        let after = text.lines().skip_while(|line| !line.contains("hot-pair"));
        let words: Vec<_> = after.take(2).flat_map(str::split_whitespace).collect();
        let values = ["hot-pair", "2", "6.00", "M/s", "2.00", "M/s", "3.00", "M/s", "snmalloc"];
        assert_eq!(words[..9], values, "{text}");
        assert_eq!(words[9..], ["2.00"], "{text}");
    }

    #[test]
    fn a_wrong_answer_replaces_the_value_and_is_reported() {
        let mut wrong = specimen::of("seek", "none", Metric::WrongAnswers, &[1.0]);
        (wrong.subject, wrong.policy) = ("masstree".into(), None);
        wrong.params.insert("wrong_answer".into(), "found nothing".into());
        let records = [specimen::of("seek", "immediate", Metric::OpsPerS, &[2e6; 7]), wrong];
        let text = tables(&records, Against::TheFastestRival);
        let line = text.lines().find(|line| line.contains("2.00 M/s")).unwrap();
        assert!(text.contains("masstree") && line.contains("wrong"), "{text}");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let sentence = "No values for masstree in seek of symbols, 2 threads, because of a wrong \
                        answer: found nothing";
        assert!(text.contains(sentence), "{text}");
    }

    #[test]
    fn more_threads_than_cpus_are_marked() {
        let mut record = specimen::of("update", "immediate", Metric::OpsPerS, &[2e6; 7]);
        assert!(
            !tables(std::slice::from_ref(&record), Against::TheFirst).contains("oversubscribed")
        );
        record.params.insert("oversubscribed".into(), true.into());
        assert!(tables(&[record], Against::TheFirst).contains("2 (oversubscribed)"));
    }
}
