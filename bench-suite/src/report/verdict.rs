//! What a comparison of immediate and deferred reuse comes to, in one screen.
//!
//! The rule. What was read and what was changed count the same, each as the geometric mean of its rows'
//! ratios, `after-rcu-gp` over `immediate`. A policy is recommended for its speed where the whole
//! interval of that mean lies beyond 5 %: readers that validate are work, and so is memory that waits.
//! Where all of it lies within, either will do, and what each asks for decides. Where it goes across the
//! border, the run was too short to tell.

use std::fmt::Write;

use memalloc::PolicyKind;

use super::figures;
use super::paragraph::paragraph;
use super::rows::{Row, rows};
use crate::measure::{Comparison, FEWEST_ROUNDS, Interval, Metric, Side, Verdict, ratios};
use crate::record::Record;
use crate::workload::reader::Reader;

/// A whole interval beyond this decides for a policy.
const WORTH_CHOOSING: f64 = 1.05;

/// The screen.
pub(crate) fn verdict(records: &[Record]) -> String {
    let Judgement { lines, recommendation } = Judgement::of(records);
    if lines.is_empty() {
        return recommendation + "\n";
    }
    let mut text = String::from(DEMANDS);
    // Writing to a string can't fail.
    let _ = writeln!(text, "\nafter-rcu-gp against immediate, as a factor:");
    for line in &lines {
        let _ = writeln!(text, "{}", line.text());
    }
    let _ = write!(text, "\n{}", paragraph(&recommendation));
    text
}

/// What the records come to.
#[derive(Debug)]
pub(super) struct Judgement {
    /// `after-rcu-gp` over `immediate`, for each kind of rows.
    pub(super) lines: Vec<Line>,
    /// What follows.
    pub(super) recommendation: String,
}

/// Rows of one kind, taken together.
#[derive(Debug)]
pub(super) struct Line {
    /// The kind.
    pub(super) what: String,
    /// The geometric mean of their ratios.
    pub(super) comparison: Option<Comparison>,
    /// How many there are.
    pub(super) rows: usize,
    /// Whether less is better.
    pub(super) is_memory: bool,
}

impl Judgement {
    /// Judges by the rule.
    pub(super) fn of(records: &[Record]) -> Self {
        let rows = rows(records);
        let pairs: Vec<Pair<'_>> = rows.iter().filter_map(Pair::of).collect();
        let (reading, changing) = (of(&pairs, Pair::is_reading), of(&pairs, Pair::is_changing));
        let mut kinds = vec![("reading, speed".to_owned(), reading.clone(), false)];
        kinds.push(("changing, speed".into(), changing.clone(), false));
        for reader in Reader::USUAL {
            let peaks = of(&pairs, |pair| pair.is_peak_beside(reader));
            kinds.push((format!("peak memory, {}", beside(reader)), peaks, true));
        }
        let stalled = of(&pairs, Pair::is_changing_behind_a_stall);
        kinds.push(("changing, while one sits".into(), stalled, false));
        let found = kinds.into_iter().filter(|(_, rows, _)| !rows.is_empty());
        let lines: Vec<Line> = found
            .map(|(what, rows, is_memory)| {
                let comparison = Comparison::of_groups(&[group(&rows)]);
                Line { what, comparison, rows: rows.len(), is_memory }
            })
            .collect();
        let recommendation = match Comparison::of_groups(&[group(&reading), group(&changing)]) {
            Some(speed) => recommendation(&speed),
            None if pairs.is_empty() => {
                "Recommendation: none: nothing was measured under both policies.".into()
            }
            None => "Recommendation: none: it takes reading and changing, and both were not \
                         measured under both policies."
                .into(),
        };
        Self { lines, recommendation }
    }
}

/// What the policies ask for, whatever they cost.
pub(super) const DEMANDS: &str = "\
immediate     a freed object may be another one at once: readers validate
after-rcu-gp  a freed object stays while a section lasts: what waits is memory
";

/// The same row under both policies.
struct Pair<'r> {
    common: &'r Record,
    /// Deferred over immediate, round by round.
    ratios: Vec<f64>,
}

impl<'r> Pair<'r> {
    fn of(row: &Row<'r>) -> Option<Self> {
        let immediate = row.under(&PolicyKind::Immediate.to_string())?;
        let deferred = row.under(&PolicyKind::AfterRcuGp.to_string())?;
        let ratios = ratios(&immediate.samples, &deferred.samples)?;
        Some(Self { common: row.common(), ratios })
    }

    fn is_of_keys(&self) -> bool {
        !self.common.param("data").is_empty()
    }

    fn is_reading(&self) -> bool {
        let is_lookup = self.common.metric == Metric::LookupsPerS
            || (self.common.metric == Metric::OpsPerS && self.common.case.starts_with("lookup"));
        is_lookup && self.is_of_keys()
    }

    fn is_change(&self) -> bool {
        let is_speed = [Metric::OpsPerS, Metric::UpdatesPerS].contains(&self.common.metric);
        is_speed && !self.common.case.starts_with("lookup")
    }

    fn is_stalled(&self) -> bool {
        self.common.param("reader") == Reader::Stall(100).to_string()
    }

    fn is_changing(&self) -> bool {
        self.is_change() && !self.is_stalled()
    }

    fn is_changing_behind_a_stall(&self) -> bool {
        self.is_change() && self.is_stalled()
    }

    fn is_peak_beside(&self, reader: Reader) -> bool {
        self.common.metric == Metric::MemPeakBytes
            && !self.is_of_keys()
            && self.common.param("reader") == reader.to_string()
    }
}

fn of<'p, 'r>(pairs: &'p [Pair<'r>], wanted: impl Fn(&Pair<'r>) -> bool) -> Vec<&'p Pair<'r>> {
    pairs.iter().filter(|pair| wanted(pair)).collect()
}

fn group(rows: &[&Pair<'_>]) -> Vec<Vec<f64>> {
    rows.iter().map(|pair| pair.ratios.clone()).collect()
}

fn beside(reader: Reader) -> &'static str {
    match reader {
        Reader::None => "nobody reads",
        Reader::Idle => "readers idle",
        Reader::Busy => "one reads on",
        Reader::Stall(_) => "one sits 100 ms",
    }
}

impl Line {
    /// "reading, speed                1.05 (1.03..1.07)         6 rows".
    fn text(&self) -> String {
        let Self { what, comparison, rows, .. } = self;
        let ratio = comparison.as_ref().map_or_else(String::new, figures::ratio);
        let count = if *rows == 1 { "1 row ".into() } else { format!("{rows} rows") };
        format!("  {what:<29} {ratio:<32} {count:>8}").trim_end().to_owned()
    }
}

fn recommendation(speed: &Comparison) -> String {
    let Interval { low, high } = speed.interval;
    let interval = figures::interval(&speed.interval);
    match speed.interval.side(WORTH_CHOOSING) {
        _ if speed.verdict == Verdict::TooFewRounds => {
            format!("Recommendation: none: fewer than {FEWEST_ROUNDS} rounds tell nothing.")
        }
        Side::Above => format!(
            "Recommendation: after-rcu-gp. On the whole it is {} as fast ({interval}), and its \
             readers need not validate; the memory above is its price.",
            figures::times(speed.ratio)
        ),
        Side::Below => format!(
            "Recommendation: immediate, if your readers can validate. On the whole it is {} as \
             fast ({} to {}), and nothing waits in memory.",
            figures::times(speed.ratio),
            figures::times(high),
            figures::times(low)
        ),
        Side::Within => format!(
            "Recommendation: either will do for speed (after-rcu-gp is {interval} times as fast on \
             the whole, less than 5 % either way). Take after-rcu-gp where readers keep \
             references or can't validate; take immediate where memory is short, or where \
             readers may stay in a section for long."
        ),
        Side::Across => format!(
            "Recommendation: none yet. On the whole after-rcu-gp is {interval} times as fast, which \
             is neither beyond 5 % nor within: a longer run tells (--rounds 21 --duration 300)."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::specimen;

    fn pair(case: &'static str, metric: Metric, immediate: f64, deferred: f64) -> Vec<Record> {
        vec![
            specimen::of(case, "immediate", metric, &[immediate; 7]),
            specimen::of(case, "after-rcu-gp", metric, &[deferred; 7]),
        ]
    }

    fn speeds(lookup: f64, update: f64) -> String {
        let lookups = pair("lookup-hit", Metric::OpsPerS, 1e6, lookup * 1e6);
        verdict(&[lookups, pair("update", Metric::OpsPerS, 1e6, update * 1e6)].concat())
    }

    #[test]
    fn a_policy_is_recommended_where_it_is_clearly_faster() {
        assert!(speeds(1.5, 1.0).contains("Recommendation: after-rcu-gp."), "{}", speeds(1.5, 1.0));
        assert!(speeds(0.9, 0.7).contains("Recommendation: immediate,"), "{}", speeds(0.9, 0.7));
        assert!(speeds(1.2, 0.85).contains("either will do"), "{}", speeds(1.2, 0.85));
    }

    #[test]
    fn reading_and_changing_have_a_line_each() {
        let text = speeds(1.5, 1.0);
        assert!(text.contains("reading, speed                1.50"), "{text}");
        assert!(text.contains("changing, speed               no difference"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn a_wide_interval_asks_for_a_longer_run() {
        let samples = [0.9, 1.3, 1.0, 1.2, 1.15, 0.95, 1.25].map(|ratio| ratio * 1e6);
        let lookups = pair("lookup-hit", Metric::OpsPerS, 1e6, 1e6);
        let updates = [
            specimen::of("update", "immediate", Metric::OpsPerS, &[1e6; 7]),
            specimen::of("update", "after-rcu-gp", Metric::OpsPerS, &samples),
        ];
        let records = [lookups, updates.to_vec()].concat();
        assert!(verdict(&records).contains("none yet"), "{}", verdict(&records));
    }

    #[test]
    fn without_two_policies_or_enough_rounds_nothing_is_recommended() {
        let one = [specimen::of("update", "immediate", Metric::OpsPerS, &[1e6; 7])];
        assert!(verdict(&one).contains("none: nothing was measured under both"));
        let half = pair("update", Metric::OpsPerS, 1e6, 2e6);
        assert!(verdict(&half).contains("it takes reading and changing"));
        let few: Vec<_> = ["update", "lookup-hit"]
            .into_iter()
            .flat_map(|case| {
                let of = |policy, speed| specimen::of(case, policy, Metric::OpsPerS, &[speed; 6]);
                [of("immediate", 1e6), of("after-rcu-gp", 2e6)]
            })
            .collect();
        assert!(verdict(&few).contains("fewer than 7 rounds"));
    }
}
