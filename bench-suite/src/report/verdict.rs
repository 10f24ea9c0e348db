//! The result of a comparison of immediate and deferred reuse, on one screen.
//!
//! The rule: there are two recommendations. One is for a map: lookups and changes have equal
//! weight, each as the geometric mean of the ratios of its rows, `after-rcu-gp` over `immediate`.
//! The other is for code that does little but allocate and free. A policy is recommended for its
//! speed if the whole interval is beyond 10 %: readers that validate are a cost, and so is pending
//! memory. If the whole interval is within 10 %, either policy will do, and demands and memory
//! decide. If the interval crosses the threshold, the run was too short to decide.

use std::collections::BTreeSet;
use std::fmt::Write;

use memalloc::PolicyKind;

use super::figures;
use super::paragraph::paragraph;
use super::rows::{Row, rows};
use crate::measure::{Comparison, FEWEST_ROUNDS, Interval, Metric, Side, Verdict, ratios};
use crate::record::{Part, Record};
use crate::workload::flood::OVERWRITE;
use crate::workload::reader::Reader;

/// A policy is chosen for its speed if the whole interval is beyond this ratio.
const WORTH_CHOOSING: f64 = 1.10;

/// Returns the screen. The recommendations from part of a run say so.
pub(crate) fn verdict(records: &[Record], part: Option<&Part>) -> String {
    let Judgement { scope, lines, recommendations } = Judgement::of(records, part);
    let mut text = String::new();
    // Writing to a string can't fail.
    if !lines.is_empty() {
        for (policy, demand) in DEMANDS {
            let _ = write!(text, "{}", paragraph(&format!("{policy}: {demand}")));
        }
        let _ = write!(text, "\n{}", paragraph(&scope));
        let (immediate, deferred) = (PolicyKind::Immediate, PolicyKind::AfterRcuGp);
        let _ = writeln!(text, "\n{:WHAT$}{immediate:>10}{deferred:>14}  ratio (95 %)", "");
        for line in &lines {
            let _ = writeln!(text, "{}", line.text());
        }
        text.push('\n');
    }
    for recommendation in &recommendations {
        let _ = write!(text, "{}", paragraph(recommendation));
    }
    text
}

/// The conclusions from the records.
#[derive(Debug)]
pub(super) struct Judgement {
    /// What was measured, as text.
    pub(super) scope: String,
    /// `immediate` and `after-rcu-gp`, one line for each kind of rows.
    pub(super) lines: Vec<Line>,
    /// The recommendations, as text.
    pub(super) recommendations: Vec<String>,
}

/// Rows of one kind, combined.
#[derive(Debug)]
pub(super) struct Line {
    /// The name of the kind.
    pub(super) what: String,
    /// The geometric means of the values under each policy, as text; empty for zeros.
    pub(super) values: [String; 2],
    /// The geometric mean of the ratios of the rows.
    pub(super) comparison: Option<Comparison>,
    /// The number of rows.
    pub(super) rows: usize,
    /// The quantity.
    pub(super) quantity: Quantity,
}

/// The quantity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    /// More is better.
    Speed,
    /// Less is better.
    Memory,
    /// Less is better.
    Time,
}

impl Judgement {
    /// Applies the rule.
    pub(super) fn of<'r>(records: &'r [Record], part: Option<&Part>) -> Self {
        let rows = rows(records);
        let pairs: Vec<Pair<'r>> = rows.iter().filter_map(Pair::of).collect();
        // Speeds behind a stall do not decide.
        let speeds = |is_it: IsOfKind<'r>| of(&pairs, |pair| is_it(pair) && !pair.sits());
        let (lookups, changes) = (speeds(Pair::is_lookup), speeds(Pair::is_map_change));
        let allocating = speeds(Pair::is_overwriting);
        use Quantity::{Memory, Speed, Time};
        let mut kinds = vec![("map lookups".to_owned(), lookups.clone(), Speed)];
        kinds.push(("map changes".into(), changes.clone(), Speed));
        kinds.push(("allocate and free".into(), allocating.clone(), Speed));
        let readers = readers(pairs.iter());
        let stalls = readers.iter().filter(|reader| reader.sits());
        for (what, is_it) in Pair::STALLED {
            for &reader in stalls.clone() {
                let rows = of(&pairs, |pair| is_it(pair) && pair.is_beside(reader));
                kinds.push((format!("{what}, {}", beside(reader)), rows, Speed));
            }
        }
        for &reader in &readers {
            let peaks = of(&pairs, |pair| pair.is_peak() && pair.is_beside(reader));
            kinds.push((format!("peak memory, {}", beside(reader)), peaks, Memory));
        }
        let longest = of(&pairs, Pair::is_longest_behind_a_stall);
        kinds.push(("512 writes in a stall, max".into(), longest, Time));
        let found = kinds.into_iter().filter(|(_, rows, _)| !rows.is_empty());
        let lines = found.map(|(what, rows, quantity)| Line::of(what, &rows, quantity)).collect();

        let map = Comparison::of_groups(&[group(&lookups), group(&changes)]);
        let alone = Comparison::of_groups(&[group(&allocating)]);
        let recommended = [
            map.map(|speed| (" for a map like this", answer(&speed))),
            alone.map(|speed| (" for code that mostly allocates and frees", answer(&speed))),
        ];
        let from = if part.is_some() { ", from part of a run" } else { "" };
        let recommendation = |(whom, answer)| format!("Recommendation{whom}{from}: {answer}");
        let mut recommendations: Vec<String> =
            recommended.into_iter().flatten().map(recommendation).collect();
        if recommendations.is_empty() {
            let has = |is_it: IsOfKind<'r>| pairs.iter().any(is_it);
            let has_speeds = has(Pair::is_lookup) && has(Pair::is_map_change);
            let reason = match () {
                () if pairs.is_empty() => "Nothing was measured under both policies.",
                () if has_speeds || has(Pair::is_overwriting) => {
                    "Speeds beside a reader that stays in its section do not decide."
                }
                () => "A map needs both lookups and changes, under both policies.",
            };
            recommendations.push(recommendation(("", format!("none. {reason}"))));
        }
        Self { scope: scope(&pairs), lines, recommendations }
    }
}

/// The demands of each policy.
pub(super) const DEMANDS: [(PolicyKind, &str); 2] = [
    (
        PolicyKind::Immediate,
        "a freed object may be reused at once, so readers have to validate what they read (in the \
         map: its branches; its values wait in both columns).",
    ),
    (
        PolicyKind::AfterRcuGp,
        "a freed object waits until all readers that were there have left. They need not validate, \
         but must leave soon and never sleep: beyond 4 MiB (max_pending) writers wait for them.",
    ),
];

/// A row measured under both policies.
struct Pair<'r> {
    common: &'r Record,
    /// The values under immediate and deferred reuse.
    values: [f64; 2],
    /// The ratios of deferred to immediate reuse.
    ratios: Vec<f64>,
}

/// Returns whether a row is of a kind.
type IsOfKind<'r> = fn(&Pair<'r>) -> bool;

impl<'r> Pair<'r> {
    fn of(row: &Row<'r>) -> Option<Self> {
        let immediate = row.under(&PolicyKind::Immediate.to_string())?;
        let deferred = row.under(&PolicyKind::AfterRcuGp.to_string())?;
        let ratios = ratios(immediate.placed(), deferred.placed())?;
        Some(Self { common: row.common(), values: [immediate.value, deferred.value], ratios })
    }

    fn is_of_keys(&self) -> bool {
        !self.common.param("data").is_empty()
    }

    fn is_lookup(&self) -> bool {
        let is_lookup = self.common.metric == Metric::LookupsPerS
            || (self.common.metric == Metric::OpsPerS && self.common.case.starts_with("lookup"));
        is_lookup && self.is_of_keys()
    }

    fn is_change(&self) -> bool {
        let is_speed = [Metric::OpsPerS, Metric::UpdatesPerS].contains(&self.common.metric);
        is_speed && !self.common.case.starts_with("lookup")
    }

    fn is_map_change(&self) -> bool {
        self.is_change() && self.is_of_keys()
    }

    /// The kinds of rows that have a line of their own behind a stall.
    const STALLED: [(&'static str, IsOfKind<'r>); 3] = [
        ("map lookups", Self::is_lookup),
        ("map changes", Self::is_map_change),
        ("allocate", Self::is_overwriting),
    ];

    fn is_beside(&self, reader: Reader) -> bool {
        self.common.concurrent_reader() == Some(reader)
    }

    fn sits(&self) -> bool {
        self.common.concurrent_reader().is_some_and(Reader::sits)
    }

    fn is_overwriting(&self) -> bool {
        self.is_change() && self.common.case == OVERWRITE && !self.is_of_keys()
    }

    fn is_longest_behind_a_stall(&self) -> bool {
        self.common.metric == Metric::UpdateGroupMaxNs && self.sits()
    }

    fn is_peak(&self) -> bool {
        self.common.metric == Metric::MemPeakBytes && !self.is_of_keys()
    }
}

/// Returns the concurrent readers, in the order in which they first occur.
fn readers<'p>(pairs: impl Iterator<Item = &'p Pair<'p>>) -> Vec<Reader> {
    let mut readers = Vec::new();
    for reader in pairs.filter_map(|pair| pair.common.concurrent_reader()) {
        if !readers.contains(&reader) {
            readers.push(reader);
        }
    }
    readers
}

/// Returns the rows of a kind. Those with too few rounds for a verdict, which are of a workload
/// that was cut off, do not count beside others: their line would have no verdict either.
fn of<'p, 'r>(pairs: &'p [Pair<'r>], wanted: impl Fn(&Pair<'r>) -> bool) -> Vec<&'p Pair<'r>> {
    let mut found: Vec<_> = pairs.iter().filter(|pair| wanted(pair)).collect();
    let is_enough = |pair: &&Pair<'r>| pair.ratios.len() >= FEWEST_ROUNDS;
    if found.iter().any(is_enough) {
        found.retain(is_enough);
    }
    found
}

fn group(rows: &[&Pair<'_>]) -> Vec<Vec<f64>> {
    rows.iter().map(|pair| pair.ratios.clone()).collect()
}

fn beside(reader: Reader) -> String {
    match reader {
        Reader::None => "no reader".into(),
        Reader::Idle => "idle readers".into(),
        Reader::Busy => "busy reader".into(),
        Reader::Stall(milliseconds) => format!("{milliseconds} ms stalls"),
        Reader::Sleep(milliseconds) => format!("{milliseconds} ms sleeps"),
    }
}

/// Returns the concurrent readers as text, as in ", beside no reader, busy reader"; an empty text
/// if there was none.
fn readers_beside<'p>(pairs: impl Iterator<Item = &'p Pair<'p>>) -> String {
    let readers = readers(pairs);
    if readers.iter().all(|&reader| reader == Reader::None) {
        return String::new();
    }
    let names: Vec<String> = readers.into_iter().map(beside).collect();
    format!(", beside {}", names.join(", "))
}

/// Returns what was measured, as text.
fn scope(pairs: &[Pair<'_>]) -> String {
    let all = |name: &str, of_keys: bool| -> String {
        let pairs = pairs.iter().filter(|pair| pair.is_of_keys() == of_keys);
        let numbers: BTreeSet<u64> = match name {
            "threads" => pairs.map(|pair| pair.common.threads as u64).collect(),
            _ => pairs.filter_map(|pair| pair.common.param(name).parse().ok()).collect(),
        };
        let numbers: Vec<String> =
            numbers.iter().map(|number| figures::grouped(&number.to_string())).collect();
        numbers.join(" and ")
    };
    let mut scope = String::from("Measured: ");
    if let Some(map) = pairs.iter().find(|pair| pair.is_of_keys()) {
        let (entries, data) = (all("entries", true), map.common.param("data"));
        let threads = all("threads", true);
        let readers = readers_beside(pairs.iter().filter(|pair| pair.is_of_keys()));
        let _ = write!(scope, "a trie of {entries} keys ({data}), {threads} threads{readers}; ");
    }
    if pairs.iter().any(Pair::is_overwriting) {
        let (threads, sizes) = (all("threads", false), all("size", false));
        let readers = readers_beside(pairs.iter().filter(|pair| !pair.is_of_keys()));
        let _ = write!(
            scope,
            "{threads} threads that only allocate and free objects of {sizes} bytes{readers}; "
        );
    }
    scope.truncate(scope.trim_end_matches("; ").len());
    scope + ". A line is the geometric mean of its rows."
}

/// The width of the names.
const WHAT: usize = 26;

impl Line {
    fn of(what: String, rows: &[&Pair<'_>], quantity: Quantity) -> Self {
        let values = [0, 1].map(|policy| {
            let sum: f64 = rows.iter().map(|pair| pair.values[policy].ln()).sum();
            let mean = (sum / rows.len() as f64).exp();
            if mean > 0.0 { figures::value(rows[0].common.metric, mean) } else { String::new() }
        });
        let comparison = Comparison::of_groups(&[group(rows)]);
        Self { what, values, comparison, rows: rows.len(), quantity }
    }

    /// Formats a line, as in
    /// "map changes                 1.92 M/s      1.83 M/s  0.95 (0.94..0.96) slower".
    fn text(&self) -> String {
        let Self { what, values: [immediate, deferred], comparison, .. } = self;
        let ratio = comparison.as_ref().map_or_else(String::new, |comparison| {
            let word = if comparison.verdict == Verdict::Differ { self.word() } else { "" };
            format!("{} {word}", figures::ratio(comparison))
        });
        format!("{what:WHAT$}{immediate:>10}{deferred:>14}  {ratio}").trim_end().to_owned()
    }

    /// Returns the verdict on `after-rcu-gp` in a word.
    pub(super) fn word(&self) -> &'static str {
        let Some(Comparison { ratio, verdict, .. }) = self.comparison else { return "no ratio" };
        match (verdict, self.quantity) {
            (Verdict::Differ, Quantity::Speed) if ratio > 1.0 => "faster",
            (Verdict::Differ, Quantity::Speed) => "slower",
            (Verdict::Differ, Quantity::Memory) if ratio > 1.0 => "larger",
            (Verdict::Differ, Quantity::Memory) => "smaller",
            (Verdict::Differ, Quantity::Time) if ratio > 1.0 => "longer",
            (Verdict::Differ, Quantity::Time) => "shorter",
            (Verdict::NoDifference, _) => "no difference",
            (Verdict::NotToldApart, _) => "not told apart",
            (Verdict::TooFewRounds, _) => "too few rounds",
        }
    }
}

fn answer(speed: &Comparison) -> String {
    let Interval { low, high } = speed.interval;
    let interval = figures::interval(&speed.interval);
    match speed.interval.side(WORTH_CHOOSING) {
        _ if speed.verdict == Verdict::TooFewRounds => {
            format!("none. At least {FEWEST_ROUNDS} rounds are needed.")
        }
        Side::Above => format!(
            "after-rcu-gp. It is {} as fast ({interval}), and its readers need not validate; in \
             exchange more freed objects wait.",
            figures::times(speed.ratio)
        ),
        Side::Below => format!(
            "immediate, if its readers can validate. It is {} as fast ({} to {}), and fewer freed \
             objects wait.",
            figures::times(speed.ratio),
            figures::times(high),
            figures::times(low)
        ),
        Side::Within => format!(
            "either will do. after-rcu-gp is {interval} times as fast, less than 10 % apart. \
             Choose after-rcu-gp if readers keep references or can't validate; choose immediate \
             if memory is limited, or if readers may stay in a section for long."
        ),
        Side::Across => format!(
            "none yet. after-rcu-gp is {interval} times as fast, an interval that crosses the \
             10 % threshold: run longer (--rounds 21 --duration 300)."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::specimen;
    use crate::workload::trie::CONCURRENT_READER;

    fn pair(case: &'static str, metric: Metric, immediate: f64, deferred: f64) -> Vec<Record> {
        vec![
            specimen::of(case, "immediate", metric, &[immediate; 7]),
            specimen::of(case, "after-rcu-gp", metric, &[deferred; 7]),
        ]
    }

    /// Removes the keys: what is left is of allocation alone.
    fn without_keys(mut records: Vec<Record>, reader: &str) -> Vec<Record> {
        for record in &mut records {
            record.params.retain(|name, _| name == "oversubscribed");
            record.params.insert("reader".into(), reader.into());
        }
        records
    }

    fn speeds(lookup: f64, update: f64) -> String {
        let lookups = pair("lookup-hit", Metric::OpsPerS, 2e6, lookup * 2e6);
        verdict(&[lookups, pair("update", Metric::OpsPerS, 2e6, update * 2e6)].concat(), None)
    }

    #[test]
    fn a_policy_is_recommended_if_it_is_clearly_faster() {
        let of = |lookup, update| speeds(lookup, update).replace('\n', " ");
        assert!(of(1.5, 1.0).contains("a map like this: after-rcu-gp."), "{}", of(1.5, 1.0));
        assert!(of(0.9, 0.7).contains("a map like this: immediate,"), "{}", of(0.9, 0.7));
        assert!(of(1.2, 0.8).contains("a map like this: either will do"), "{}", of(1.2, 0.8));
    }

    #[test]
    fn what_only_allocates_and_frees_has_a_recommendation_of_its_own() {
        let alone = without_keys(pair("overwrite", Metric::OpsPerS, 1e8, 5e7), "busy");
        let map = [("lookup-hit", 1e6), ("update", 0.97e6)]
            .map(|(case, deferred)| pair(case, Metric::OpsPerS, 1e6, deferred));
        let text = verdict(&[map.concat(), alone].concat(), None).replace('\n', " ");
        assert!(text.contains("a map like this: either will do"), "{text}");
        assert!(text.contains("mostly allocates and frees: immediate,"), "{text}");
    }

    #[test]
    fn each_kind_has_a_line_with_both_values() {
        let text = speeds(1.5, 1.0);
        assert!(
            text.contains("map lookups                 2.00 M/s      3.00 M/s  1.50 faster\n"),
            "{text}"
        );
        assert!(
            text.contains("map changes                 2.00 M/s      2.00 M/s  no difference\n"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    /// Only the writes beside a stalled reader have the line, and it decides nothing.
    #[test]
    fn the_longest_writes_in_a_stall_have_a_line() {
        let longest = |reader: &str| {
            without_keys(pair("overwrite", Metric::UpdateGroupMaxNs, 1e5, 1e8), reader)
        };
        let speeds = [
            pair("lookup-hit", Metric::OpsPerS, 1e6, 2e6),
            pair("update", Metric::OpsPerS, 1e6, 2e6),
        ];
        let of = |reader| verdict(&[speeds.concat(), longest(reader)].concat(), None);
        let stalled = of("stall-100ms");
        let line = "512 writes in a stall, max    100 µs        100 ms  1000 longer";
        assert!(stalled.contains(line), "{stalled}");
        assert!(stalled.contains("a map like this: after-rcu-gp."), "{stalled}");
        assert!(!of("busy").contains("512"), "{}", of("busy"));
    }

    #[test]
    fn speeds_beside_a_stalled_reader_alone_do_not_decide() {
        let beside = |case, reader: &str| {
            let mut records = pair(case, Metric::OpsPerS, 1e6, 2e6);
            for record in &mut records {
                record.params.insert(CONCURRENT_READER.into(), reader.into());
            }
            records
        };
        let of = |reader| {
            let records = [beside("lookup-hit", reader), beside("update", reader)].concat();
            verdict(&records, None).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let stalled = of("stall-100ms");
        assert!(stalled.contains("none. Speeds beside a reader that stays"), "{stalled}");
        assert!(stalled.contains("2 threads, beside 100 ms stalls."), "{stalled}");
        let none = of("none");
        assert!(none.contains("map like this: after-rcu-gp."), "{none}");
        assert!(!none.contains("beside"), "{none}");
    }

    #[test]
    fn rounds_of_a_workload_that_was_cut_off_leave_the_recommendation_from_the_others() {
        let few = |policy, speed| specimen::of("mixed", policy, Metric::UpdatesPerS, &[speed; 2]);
        let cut_off = [few("immediate", 1e6), few("after-rcu-gp", 1e6)];
        let speeds = ["lookup-hit", "update"].map(|case| pair(case, Metric::OpsPerS, 1e6, 2e6));
        let text = verdict(&[speeds.concat(), cut_off.to_vec()].concat(), None);
        assert!(text.contains("a map like this: after-rcu-gp."), "{text}");
        let few = [pair("lookup-hit", Metric::OpsPerS, 1e6, 2e6), cut_off.to_vec()].concat();
        assert!(verdict(&few, None).contains("none. At least 7 rounds"), "it is the only change");
    }

    #[test]
    fn a_wide_interval_asks_for_a_longer_run() {
        let samples = [0.9, 1.5, 1.0, 1.4, 1.35, 0.95, 1.45].map(|ratio| ratio * 1e6);
        let lookups = pair("lookup-hit", Metric::OpsPerS, 1e6, 1e6);
        let updates = [
            specimen::of("update", "immediate", Metric::OpsPerS, &[1e6; 7]),
            specimen::of("update", "after-rcu-gp", Metric::OpsPerS, &samples),
        ];
        let records = [lookups, updates.to_vec()].concat();
        assert!(verdict(&records, None).contains("none yet"), "{}", verdict(&records, None));
    }

    #[test]
    fn without_two_policies_or_enough_rounds_nothing_is_recommended() {
        let one = [specimen::of("update", "immediate", Metric::OpsPerS, &[1e6; 7])];
        assert!(verdict(&one, None).contains("none. Nothing was measured under both"));
        let half = pair("update", Metric::OpsPerS, 1e6, 2e6);
        assert!(verdict(&half, None).contains("needs both lookups and changes"));
        let few: Vec<_> = ["update", "lookup-hit"]
            .into_iter()
            .flat_map(|case| {
                let of = |policy, speed| specimen::of(case, policy, Metric::OpsPerS, &[speed; 6]);
                [of("immediate", 1e6), of("after-rcu-gp", 2e6)]
            })
            .collect();
        assert!(verdict(&few, None).contains("At least 7 rounds"));
    }
}
