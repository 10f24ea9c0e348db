//! The result of a comparison of immediate and deferred reuse, on one screen.
//!
//! The rule: lookups and writes have equal weight, each as the geometric mean of the ratios of its
//! rows, `after-rcu-gp` over `immediate`. A policy is recommended for its speed if the whole
//! interval of that mean is beyond 5 %: readers that validate are a cost, and so is pending memory.
//! If the whole interval is within 5 %, either policy will do, and their demands decide. If the
//! interval crosses the threshold, the run was too short to decide.

use std::fmt::Write;

use memalloc::PolicyKind;

use super::figures;
use super::paragraph::paragraph;
use super::rows::{Row, rows};
use crate::measure::{Comparison, FEWEST_ROUNDS, Interval, Metric, Side, Verdict, ratios};
use crate::record::Record;
use crate::workload::reader::Reader;

/// A policy is chosen for its speed if the whole interval is beyond this ratio.
const WORTH_CHOOSING: f64 = 1.05;

/// Returns the screen.
pub(crate) fn verdict(records: &[Record]) -> String {
    let Judgement { lines, recommendation } = Judgement::of(records);
    if lines.is_empty() {
        return recommendation + "\n";
    }
    let mut text = String::from(DEMANDS);
    // Writing to a string can't fail.
    let _ = writeln!(text, "\nRatio of after-rcu-gp to immediate:");
    for line in &lines {
        let _ = writeln!(text, "{}", line.text());
    }
    let _ = write!(text, "\n{}", paragraph(&recommendation));
    text
}

/// The conclusions from the records.
#[derive(Debug)]
pub(super) struct Judgement {
    /// The ratios of `after-rcu-gp` to `immediate`, one line for each kind of rows.
    pub(super) lines: Vec<Line>,
    /// The recommendation, as text.
    pub(super) recommendation: String,
}

/// Rows of one kind, combined.
#[derive(Debug)]
pub(super) struct Line {
    /// The name of the kind.
    pub(super) what: String,
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
    pub(super) fn of(records: &[Record]) -> Self {
        let rows = rows(records);
        let pairs: Vec<Pair<'_>> = rows.iter().filter_map(Pair::of).collect();
        let (reading, changing) = (of(&pairs, Pair::is_reading), of(&pairs, Pair::is_changing));
        use Quantity::{Memory, Speed, Time};
        let mut kinds = vec![("lookup speed".to_owned(), reading.clone(), Speed)];
        kinds.push(("write speed".into(), changing.clone(), Speed));
        for reader in Reader::USUAL {
            let peaks = of(&pairs, |pair| pair.is_peak_beside(reader));
            kinds.push((format!("peak memory, {}", beside(reader)), peaks, Memory));
        }
        let stalled = of(&pairs, Pair::is_changing_behind_a_stall);
        kinds.push(("write speed during a stall".into(), stalled, Speed));
        let longest = of(&pairs, Pair::is_longest_behind_a_stall);
        kinds.push(("longest 512 writes in a stall".into(), longest, Time));
        let found = kinds.into_iter().filter(|(_, rows, _)| !rows.is_empty());
        let lines: Vec<Line> = found
            .map(|(what, rows, quantity)| {
                let comparison = Comparison::of_groups(&[group(&rows)]);
                Line { what, comparison, rows: rows.len(), quantity }
            })
            .collect();
        let recommendation = match Comparison::of_groups(&[group(&reading), group(&changing)]) {
            Some(speed) => recommendation(&speed),
            None if pairs.is_empty() => {
                "Recommendation: none. Nothing was measured under both policies.".into()
            }
            None => "Recommendation: none. It needs both lookups and writes, measured under both \
                         policies."
                .into(),
        };
        Self { lines, recommendation }
    }
}

/// The demands of each policy.
pub(super) const DEMANDS: &str = "\
immediate     freed objects are reused at once: readers must validate
after-rcu-gp  freed objects wait for a grace period: pending objects take memory
";

/// A row measured under both policies.
struct Pair<'r> {
    common: &'r Record,
    /// The ratios of deferred to immediate reuse.
    ratios: Vec<f64>,
}

impl<'r> Pair<'r> {
    fn of(row: &Row<'r>) -> Option<Self> {
        let immediate = row.under(&PolicyKind::Immediate.to_string())?;
        let deferred = row.under(&PolicyKind::AfterRcuGp.to_string())?;
        let ratios = ratios(immediate.placed(), deferred.placed())?;
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

    fn is_longest_behind_a_stall(&self) -> bool {
        self.common.metric == Metric::UpdateGroupMaxNs && self.is_stalled()
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
        Reader::None => "no reader",
        Reader::Idle => "idle readers",
        Reader::Busy => "busy reader",
        Reader::Stall(_) => "100 ms stalls",
    }
}

impl Line {
    /// Formats a line, as in "lookup speed                  1.05 (1.03..1.07)         6 rows".
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
            format!("Recommendation: none. At least {FEWEST_ROUNDS} rounds are needed.")
        }
        Side::Above => format!(
            "Recommendation: after-rcu-gp. Overall it is {} as fast ({interval}), and its \
             readers need not validate; in exchange it takes the memory shown above.",
            figures::times(speed.ratio)
        ),
        Side::Below => format!(
            "Recommendation: immediate, if your readers can validate. Overall it is {} as \
             fast ({} to {}), and no freed memory is pending.",
            figures::times(speed.ratio),
            figures::times(high),
            figures::times(low)
        ),
        Side::Within => format!(
            "Recommendation: either will do for speed (overall after-rcu-gp is {interval} times as \
             fast, a difference of less than 5 %). Choose after-rcu-gp if readers keep \
             references or can't validate; choose immediate if memory is limited, or if \
             readers may stay in a section for a long time."
        ),
        Side::Across => format!(
            "Recommendation: none yet. Overall after-rcu-gp is {interval} times as fast, an \
             interval that crosses the 5 % threshold: run longer (--rounds 21 --duration 300)."
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
    fn a_policy_is_recommended_if_it_is_clearly_faster() {
        assert!(speeds(1.5, 1.0).contains("Recommendation: after-rcu-gp."), "{}", speeds(1.5, 1.0));
        assert!(speeds(0.9, 0.7).contains("Recommendation: immediate,"), "{}", speeds(0.9, 0.7));
        assert!(speeds(1.2, 0.85).contains("either will do"), "{}", speeds(1.2, 0.85));
    }

    #[test]
    fn lookups_and_writes_have_a_line_each() {
        let text = speeds(1.5, 1.0);
        assert!(text.contains("lookup speed                  1.50"), "{text}");
        assert!(text.contains("write speed                   no difference"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    /// Only the writes beside a stalled reader have the line, and it decides nothing.
    #[test]
    fn the_longest_writes_in_a_stall_have_a_line() {
        let longest = |reader: &str| {
            let mut rows = pair("overwrite", Metric::UpdateGroupMaxNs, 1e5, 1e8);
            for row in &mut rows {
                row.params.retain(|name, _| name == "oversubscribed");
                row.params.insert("reader".into(), reader.into());
            }
            rows
        };
        let speeds = [
            pair("lookup-hit", Metric::OpsPerS, 1e6, 2e6),
            pair("update", Metric::OpsPerS, 1e6, 2e6),
        ];
        let of = |reader| verdict(&[speeds.concat(), longest(reader)].concat());
        let stalled = of("stall-100ms");
        assert!(stalled.contains("longest 512 writes in a stall 1000"), "{stalled}");
        assert!(stalled.contains("Recommendation: after-rcu-gp."), "{stalled}");
        assert!(!of("busy").contains("longest"), "{}", of("busy"));
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
        assert!(verdict(&one).contains("none. Nothing was measured under both"));
        let half = pair("update", Metric::OpsPerS, 1e6, 2e6);
        assert!(verdict(&half).contains("It needs both lookups and writes"));
        let few: Vec<_> = ["update", "lookup-hit"]
            .into_iter()
            .flat_map(|case| {
                let of = |policy, speed| specimen::of(case, policy, Metric::OpsPerS, &[speed; 6]);
                [of("immediate", 1e6), of("after-rcu-gp", 2e6)]
            })
            .collect();
        assert!(verdict(&few).contains("At least 7 rounds"));
    }
}
