//! The recommendation: one paragraph, made of the measured values.
//!
//! The rule: what may be claimed of reading and what may be claimed of changing count the same,
//! each as the geometric mean of its ratios (1 where no difference may be claimed). The faster
//! policy of the two is recommended; where they are as fast as each other, the one that holds
//! less memory; where that is the same too, the one whose readers need not validate.

use memalloc::PolicyKind;

use super::figures;
use super::rows::{Row, contrast, rows};
use crate::measure::{Contrast, Metric, Verdict, WORTH_CLAIMING};
use crate::record::Record;
use crate::workload::threads_in_words;

/// The paragraph.
pub(crate) fn advice(records: &[Record]) -> String {
    let rows = rows(records);
    let speeds = |wanted: &dyn Fn(&Record) -> bool| {
        Aspect::of(rows.iter().filter(|row| row.common().metric.is_speed() && wanted(row.common())))
    };
    let reading = speeds(&is_reading);
    let changing = speeds(&|record| !is_reading(record) && !is_bare_allocation(record));
    let allocating = speeds(&is_bare_allocation);
    let peaks = |bare: bool| {
        let peaks = rows.iter().filter(|row| row.common().metric == Metric::MemPeakBytes);
        Aspect::of(peaks.filter(move |row| is_bare_allocation(row.common()) == bare))
    };
    let (memory, flood) = (peaks(false), peaks(true));

    let all = [&reading, &changing, &allocating, &memory];
    if all.iter().all(|aspect| aspect.pairs.is_empty()) {
        return "Recommendation: none, because nothing was measured under both policies.".into();
    }
    if all.iter().flat_map(|aspect| &aspect.pairs).any(Pair::has_too_few_rounds) {
        return "Recommendation: none, because with fewer than 5 rounds no difference can be told \
                from chance."
            .into();
    }
    let mut sentences = vec![choice(&reading, &changing, &allocating, &memory)];
    let said = [
        reading.sentence("Looking up", "faster"),
        changing.sentence("Overwriting, inserting and deleting", "faster"),
        memory.sentence("Peak memory under a writer that never rests", "larger"),
        allocating.sentence("Allocating and freeing alone", "faster"),
        flood.sentence("What is held meanwhile", "larger"),
    ];
    sentences.extend(said.into_iter().flatten());
    sentences.extend(rows.iter().find_map(beside_the_rival));
    sentences.join(" ")
}

fn is_bare_allocation(record: &Record) -> bool {
    record.param("data").is_empty()
}

fn is_reading(record: &Record) -> bool {
    !is_bare_allocation(record)
        && (record.metric == Metric::LookupsPerS || record.case.starts_with("lookup"))
}

/// The same row under both policies.
struct Pair<'r> {
    row: &'r Row<'r>,
    immediate: &'r Record,
    deferred: &'r Record,
    /// The second over the first.
    contrast: Contrast,
}

impl<'r> Pair<'r> {
    fn of(row: &'r Row<'r>) -> Option<Self> {
        let immediate = row.under(&PolicyKind::Immediate.to_string())?;
        let deferred = row.under(&PolicyKind::AfterRcuGp.to_string())?;
        let contrast = contrast(immediate, deferred)?;
        Some(Self { row, immediate, deferred, contrast })
    }

    fn has_too_few_rounds(&self) -> bool {
        self.contrast.verdict == Verdict::TooFewRounds
    }

    /// How far it is from no difference.
    fn distance(&self) -> f64 {
        self.contrast.claimed_ratio().ln().abs()
    }

    /// "lookup-hit of symbols with 2 threads: 3.20 M/s against 2.71 M/s", the larger one first.
    fn evidence(&self) -> String {
        let common = self.row.common();
        let metric = common.metric;
        let (immediate, deferred) = (self.immediate.value, self.deferred.value);
        let values = [deferred.max(immediate), deferred.min(immediate)];
        let [more, less] = values.map(|value| figures::value(metric, value));
        let what = match self.row.data() {
            data if data.is_empty() => format!("{} of {} bytes", common.case, common.param("size")),
            data => format!("{} of {data}", common.case),
        };
        format!("{what} with {}: {more} against {less}", threads_in_words(common.threads))
    }
}

/// Rows that say something about the same question.
struct Aspect<'r> {
    pairs: Vec<Pair<'r>>,
}

impl<'r> Aspect<'r> {
    fn of(rows: impl Iterator<Item = &'r Row<'r>>) -> Self {
        Self { pairs: rows.filter_map(Pair::of).collect() }
    }

    /// The geometric mean of what may be claimed, deferred over immediate.
    fn mean(&self) -> f64 {
        let logs = self.pairs.iter().map(|pair| pair.contrast.claimed_ratio().ln());
        (logs.sum::<f64>() / self.pairs.len().max(1) as f64).exp()
    }

    /// What was seen, with the clearest case for each side; nothing if it was not measured.
    fn sentence(&self, what: &str, larger: &str) -> Option<String> {
        let measured = self.pairs.len();
        let clearest = |deferred_is_more: bool| {
            let side = self.pairs.iter().filter(move |pair| {
                pair.contrast.verdict == Verdict::Differ
                    && (pair.contrast.ratio.median > 1.0) == deferred_is_more
            });
            let count = side.clone().count();
            let clearest = side.max_by(|a, b| a.distance().total_cmp(&b.distance()))?;
            let by = figures::times(clearest.contrast.ratio.median);
            let policy =
                if deferred_is_more { PolicyKind::AfterRcuGp } else { PolicyKind::Immediate };
            Some(format!(
                "{larger} under {policy} in {count} of {measured} cases, up to {by} ({})",
                clearest.evidence()
            ))
        };
        match (clearest(true), clearest(false)) {
            _ if measured == 0 => None,
            (None, None) => {
                Some(format!("{what}: no difference in {measured} of {measured} cases."))
            }
            (Some(one), None) | (None, Some(one)) => Some(format!("{what} is {one}.")),
            (Some(one), Some(other)) => Some(format!("{what} is {one}, and {other}.")),
        }
    }
}

/// The first sentence: which policy, and on which ground.
fn choice(
    reading: &Aspect<'_>,
    changing: &Aspect<'_>,
    allocating: &Aspect<'_>,
    memory: &Aspect<'_>,
) -> String {
    let mut speeds: Vec<&Aspect<'_>> =
        [reading, changing].into_iter().filter(|aspect| !aspect.pairs.is_empty()).collect();
    if speeds.is_empty() {
        speeds.push(allocating);
    }
    let logs: f64 = speeds.iter().map(|aspect| aspect.mean().ln()).sum();
    let speed = (logs / speeds.len() as f64).exp();
    let larger = |ratio: f64| match ratio > 1.0 {
        true => (PolicyKind::AfterRcuGp, PolicyKind::Immediate),
        false => (PolicyKind::Immediate, PolicyKind::AfterRcuGp),
    };
    let counts = |ratio: f64| ratio.max(ratio.recip()) >= WORTH_CLAIMING;
    let price = memory.mean();
    if counts(speed) {
        let (faster, slower) = larger(speed);
        let by = figures::times(speed);
        let wins =
            |aspect: &&&Aspect<'_>| counts(aspect.mean()) && larger(aspect.mean()).0 == slower;
        let mut text = format!("Recommendation: {faster}, on the whole {by} as fast as {slower}");
        if let Some(other) = speeds.iter().find(wins) {
            let what = if std::ptr::eq(*other, reading) { "lookups" } else { "changes" };
            let by = figures::times(other.mean());
            text.push_str(&format!("; take {slower} where nearly all is {what} ({by} as fast)"));
        }
        if counts(price) && larger(price).0 == faster {
            let more = figures::times(price);
            text.push_str(&format!("; its price is {more} the memory at the peak"));
        }
        return text + ".";
    }
    if counts(price) {
        let (more, less) = larger(price);
        let by = figures::times(price);
        return format!(
            "Recommendation: {less}. On the whole no difference in speed can be told, and {more} \
             holds {by} the memory at the peak."
        );
    }
    format!(
        "Recommendation: {}. On the whole no difference in speed or memory can be told, and \
         its readers need not validate what they read.",
        PolicyKind::AfterRcuGp
    )
}

/// How allocating compares with somebody who has no policy, for the first size measured.
fn beside_the_rival(row: &Row<'_>) -> Option<String> {
    let common = row.common();
    if common.metric != Metric::NsPerOp || !is_bare_allocation(common) {
        return None;
    }
    let rival = row.rival()?;
    let pair = Pair::of(row)?;
    let cost = |record: &Record| figures::value(Metric::NsPerOp, record.value);
    Some(format!(
        "For scale: an allocation of {} bytes and its free ({}, {}) take {} \
         immediate, {} deferred, {} with {}.",
        common.param("size"),
        common.case,
        threads_in_words(common.threads),
        cost(pair.immediate),
        cost(pair.deferred),
        cost(rival),
        rival.subject
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::specimen;

    const SPEED: Metric = Metric::OpsPerS;

    fn pair(case: &'static str, metric: Metric, immediate: f64, deferred: f64) -> Vec<Record> {
        vec![
            specimen::of(case, "immediate", metric, &[immediate; 5]),
            specimen::of(case, "after-rcu-gp", metric, &[deferred; 5]),
        ]
    }

    #[test]
    fn the_faster_policy_is_recommended_with_its_numbers() {
        let records =
            [pair("lookup-hit", SPEED, 2e6, 3e6), pair("update", SPEED, 1e6, 1e6)].concat();
        let text = advice(&records);
        assert!(
            text.starts_with("Recommendation: after-rcu-gp, on the whole 1.22 times as fast"),
            "{text}"
        );
        assert!(text.contains("up to 1.50 times (lookup-hit of symbols with 2 threads"), "{text}");
        assert!(text.contains("3.00 M/s against 2.00 M/s"), "{text}");
        assert!(text.contains("deleting: no difference in 1 of 1 cases"), "{text}");
    }

    #[test]
    fn what_it_costs_in_memory_is_said() {
        let records =
            [pair("lookup-hit", SPEED, 2e6, 3e6), pair("mixed", Metric::MemPeakBytes, 10e6, 15e6)]
                .concat();
        let text = advice(&records);
        assert!(text.contains("its price is 1.50 times the memory at the peak"), "{text}");
    }

    #[test]
    fn where_the_loser_wins_is_said() {
        let records =
            [pair("lookup-hit", SPEED, 1e6, 2e6), pair("update", SPEED, 1.25e6, 1e6)].concat();
        let text = advice(&records);
        assert!(text.starts_with("Recommendation: after-rcu-gp"), "{text}");
        assert!(
            text.contains("take immediate where nearly all is changes (1.25 times as fast)"),
            "{text}"
        );
    }

    #[test]
    fn memory_decides_between_equal_speeds_and_readers_between_equal_memory() {
        let equal = pair("lookup-hit", SPEED, 2e6, 2e6);
        let text =
            advice(&[equal.clone(), pair("mixed", Metric::MemPeakBytes, 10e6, 15e6)].concat());
        assert!(
            text.starts_with("Recommendation: immediate. On the whole no difference"),
            "{text}"
        );
        let text = advice(&equal);
        assert!(
            text.starts_with(
                "Recommendation: after-rcu-gp. On the whole no difference in speed or"
            ),
            "{text}"
        );
    }

    #[test]
    fn without_two_policies_or_enough_rounds_nothing_is_recommended() {
        let one = [specimen::of("update", "immediate", SPEED, &[1e6; 5])];
        assert!(advice(&one).contains("none, because nothing was measured under both"));
        let few = [
            specimen::of("update", "immediate", SPEED, &[1e6; 4]),
            specimen::of("update", "after-rcu-gp", SPEED, &[2e6; 4]),
        ];
        assert!(advice(&few).contains("none, because with fewer than 5 rounds"));
    }
}
