//! Recommends a policy for a user's own workload: from measurements to an answer, by a rule.
//!
//! The rule, for the policies that are correct:
//!
//! 1. *Limits*: the interval of the peak memory must be below the budget and that of the update
//!    latency below the limit; the policy must refuse no update and keep up with the requested
//!    frees. A policy that misses a limit is excluded; if an interval crosses a limit, the result
//!    is not told apart from it.
//! 2. *Speed*: of two policies that meet the limits, the one that is faster by 5 % in the whole
//!    interval is preferred.
//! 3. *Latency*, if the speeds are within 5 %: likewise, by 25 % and more than a microsecond.
//! 4. *Memory*, if speed and latency are similar: likewise, by 10 % and more than a MiB. An
//!    interval that crosses the threshold does not count.
//!    3 and 4 also prefer a policy if the interval of 2 excludes only that it is slower: it is then
//!    the better one, whether it is faster or only as fast.
//! 5. If no policy is preferred, either will do, and the one that demands less of readers is named.
//!    If the interval of 2 or 3 crosses its threshold, the answer is only how long a run would take
//!    to decide.

mod flip;
mod text;

use memalloc::PolicyKind;

pub(crate) use flip::{Axis, Flip, Opinion, search};
pub(crate) use text::{Advice, advice, correctness, derived, without_measuring};

use crate::measure::{Comparison, Interval, Metric, Placed, Side, Verdict};
use crate::record::Record;
use crate::shape::Numbers;

/// Speed decides if the whole interval is beyond this ratio.
const FASTER: f64 = 1.05;

/// The same for latency, and the least difference that counts.
const SOONER: f64 = 1.25;
const SOONER_NS: f64 = 1000.0;

/// The same for memory.
const SMALLER: f64 = 1.10;
const SMALLER_BYTES: f64 = 1_048_576.0;

/// Memory of a sample's process besides its allocator: stacks, and pages of the program.
const BESIDE_BYTES: f64 = 512.0 * 1024.0;

/// A policy that reaches less than this share of the requested frees does not keep up.
const KEEPS_UP: f64 = 0.97;

/// A longer run than this is not suggested.
const LONGEST_MINUTES: f64 = 60.0;

/// The measurements of one policy, round by round.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) policy: PolicyKind,
    /// The round trip before each sample, if the placement of the CPUs matters.
    pub(crate) round_trip_ns: Vec<Option<f64>>,
    pub(crate) speed: Vec<f64>,
    pub(crate) updates: Vec<f64>,
    pub(crate) latency_ns: Vec<f64>,
    pub(crate) peak_bytes: Vec<f64>,
    pub(crate) refused: Vec<f64>,
}

impl Measured {
    /// Collects the records of a policy; `None` if it has no speed.
    pub(crate) fn of(records: &[Record], policy: PolicyKind) -> Option<Self> {
        let name = policy.to_string();
        let of = |metric| {
            let own = |record: &&Record| record.policy.as_deref() == Some(name.as_str());
            records.iter().filter(own).find(|record| record.metric == metric)
        };
        let samples =
            |metric| of(metric).map_or_else(Vec::new, |record: &Record| record.samples.clone());
        let speed = of(Metric::OpsPerS)?;
        (!speed.samples.is_empty()).then(|| Self {
            policy,
            round_trip_ns: speed.placed().round_trips().to_vec(),
            speed: speed.samples.clone(),
            updates: samples(Metric::UpdatesPerS),
            latency_ns: samples(Metric::UpdateLatencyNs),
            peak_bytes: samples(Metric::MemPeakBytes),
            refused: samples(Metric::RefusedShare),
        })
    }

    /// Compares some samples of `other` with those of this policy.
    pub(super) fn compare(
        &self,
        other: &Self,
        of: impl Fn(&Self) -> &Vec<f64>,
    ) -> Option<Comparison> {
        let placed = |one| Placed::of(of(one), &one.round_trip_ns);
        Comparison::of(placed(self), placed(other))
    }
}

/// The limits that a policy must meet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) budget_bytes: Option<f64>,
    pub(crate) latency_ns: Option<f64>,
    pub(crate) frees_per_s: Option<f64>,
}

impl Limits {
    /// Returns the limits of a shape.
    pub(crate) fn of(numbers: &Numbers) -> Self {
        Self {
            budget_bytes: numbers.budget_bytes().map(|bytes| bytes as f64),
            latency_ns: numbers.latency_limit_us.map(|us| us * 1e3),
            frees_per_s: numbers.frees_per_s,
        }
    }
}

/// A limit that a policy misses, or may miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The policy takes more memory than the budget.
    Budget,
    /// The policy refused updates, because its memory was exhausted.
    Refuses,
    /// The updates take longer than the limit.
    Latency,
    /// The policy frees less than requested.
    Pace,
}

/// The two that a comparison does not tell apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum NotToldApart {
    /// Of two policies, by speed or by latency.
    Between(PolicyKind, PolicyKind, &'static str),
    /// Of a policy with a limit.
    FromLimit(PolicyKind, Limit),
    /// Of everything: there were too few rounds.
    TooFewRounds,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Choice {
    /// One policy is preferred to all others, for a reason; or it alone meets the limits.
    Take { policy: PolicyKind, because: Option<&'static str> },
    /// These policies are similar; the first demands least of readers.
    Either(Vec<PolicyKind>),
    /// A longer run would decide; `minutes` is `None` if it would take too long.
    CannotTell { of: NotToldApart, minutes: Option<f64> },
    /// No policy meets the limits.
    NoneFits,
}

/// A choice, the next best policy, and the excluded ones.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) choice: Choice,
    pub(crate) runner_up: Option<PolicyKind>,
    pub(crate) misfits: Vec<(PolicyKind, Limit)>,
}

/// The result of checking a policy against its limits.
enum Fit {
    Fits,
    NotToldApart(Limit, f64),
    Misfit(Limit),
}

/// The preferred one of two policies.
enum Preference {
    First(&'static str),
    Second,
    Neither,
    /// Not told apart by this quantity; this many times the rounds would decide.
    NotToldApart(&'static str, f64),
    TooFewRounds,
}

/// Judges measurements that took `minutes`.
pub(crate) fn judge(all: &[Measured], limits: &Limits, minutes: f64) -> Judgement {
    let mut misfits = Vec::new();
    let mut open = Vec::new();
    let mut fitting = Vec::new();
    for one in all {
        match fit(one, limits) {
            Fit::Misfit(limit) => misfits.push((one.policy, limit)),
            Fit::Fits => fitting.push(one),
            Fit::NotToldApart(limit, times) => {
                open.push((one.policy, limit, times));
                fitting.push(one);
            }
        }
    }
    let Some(first) = best(&fitting) else {
        return Judgement { choice: Choice::NoneFits, runner_up: None, misfits };
    };
    let others: Vec<&Measured> =
        fitting.iter().copied().filter(|one| one.policy != first.policy).collect();
    let next = best(&others);
    let mut choice = choose(first, &others, &open, minutes);
    if let (Choice::Take { because, .. }, Some(next)) = (&mut choice, next)
        && let Preference::First(reason) = prefer(first, next)
    {
        *because = Some(reason);
    }
    let runner_up = next.map(|one| one.policy);
    Judgement { choice, runner_up, misfits }
}

fn choose(
    first: &Measured,
    others: &[&Measured],
    open: &[(PolicyKind, Limit, f64)],
    minutes: f64,
) -> Choice {
    let longer = |times: f64| {
        let minutes = (minutes * times).ceil().max(1.0);
        (minutes <= LONGEST_MINUTES).then_some(minutes)
    };
    if let Some(&(policy, limit, times)) = open.iter().find(|(one, ..)| *one == first.policy) {
        let of = NotToldApart::FromLimit(policy, limit);
        return Choice::CannotTell { of, minutes: longer(times) };
    }
    let mut alike = vec![first.policy];
    for other in others {
        match prefer(first, other) {
            Preference::First(_) => {}
            // The preferences form a cycle: none of them wins.
            Preference::Neither | Preference::Second => alike.push(other.policy),
            Preference::NotToldApart(by, times) => {
                let of = NotToldApart::Between(first.policy, other.policy, by);
                return Choice::CannotTell { of, minutes: longer(times) };
            }
            Preference::TooFewRounds => {
                let of = NotToldApart::TooFewRounds;
                return Choice::CannotTell { of, minutes: longer(2.0) };
            }
        }
    }
    if alike.len() == 1 {
        return Choice::Take { policy: first.policy, because: None };
    }
    alike.sort_by_key(|&policy| asks(policy));
    Choice::Either(alike)
}

/// Ranks the demands of a policy on readers, least first. Validation is the greatest demand; of the
/// policies that do not need it, the usual one comes first.
fn asks(policy: PolicyKind) -> u8 {
    match policy {
        PolicyKind::AfterRcuGp => 0,
        PolicyKind::AfterTasksTraceGp => 1,
        PolicyKind::FreeAfterRcuGp => 2,
        _ => 3,
    }
}

/// Returns the policy that is preferred to those before it and to which none behind it is
/// preferred; without a preference, the fastest.
fn best<'m>(candidates: &[&'m Measured]) -> Option<&'m Measured> {
    let median = |one: &Measured| interval(&one.speed).map_or(0.0, |(_, median)| median);
    let mut sorted = candidates.to_vec();
    sorted.sort_by(|one, two| median(two).total_cmp(&median(one)));
    let mut sorted = sorted.into_iter();
    let mut best = sorted.next()?;
    for other in sorted {
        if matches!(prefer(best, other), Preference::Second) {
            best = other;
        }
    }
    Some(best)
}

fn fit(one: &Measured, limits: &Limits) -> Fit {
    if interval(&one.refused).is_some_and(|(_, median)| median > 0.0) {
        return Fit::Misfit(Limit::Refuses);
    }
    let budget = limits.budget_bytes.map(|bytes| bytes + BESIDE_BYTES);
    let checks = [
        (Limit::Budget, &one.peak_bytes, budget, false),
        (Limit::Latency, &one.latency_ns, limits.latency_ns, false),
        (Limit::Pace, &one.updates, limits.frees_per_s.map(|frees| frees * KEEPS_UP), true),
    ];
    let mut open = None;
    for (limit, samples, border, at_least) in checks {
        let Some((border, (Interval { low, high }, median))) = border.zip(interval(samples)) else {
            continue;
        };
        let (is_out, is_in) = match at_least {
            true => (high < border, low >= border),
            false => (low > border, high <= border),
        };
        if is_out {
            return Fit::Misfit(limit);
        }
        if !is_in {
            open.get_or_insert((limit, times_longer(low, high, median, &[border])));
        }
    }
    open.map_or(Fit::Fits, |(limit, times)| Fit::NotToldApart(limit, times))
}

fn prefer(one: &Measured, two: &Measured) -> Preference {
    let Some(speed) = one.compare(two, |one| &one.speed) else {
        return Preference::TooFewRounds;
    };
    if speed.verdict == Verdict::TooFewRounds {
        return Preference::TooFewRounds;
    }
    // One policy is not the slower one, wherever in the interval the ratio is. If the other
    // quantities prefer it too, a narrower interval would change nothing.
    let (first_keeps_up, second_keeps_up) =
        (speed.interval.high <= FASTER, speed.interval.low >= FASTER.recip());
    match (speed.interval.side(FASTER), prefer_at_similar_speed(one, two)) {
        (Side::Above, _) => Preference::Second,
        (Side::Below, _) => Preference::First("faster"),
        (Side::Within, otherwise) => otherwise,
        (_, first @ Preference::First(_)) if first_keeps_up => first,
        (_, Preference::Second) if second_keeps_up => Preference::Second,
        _ => Preference::NotToldApart("speed", times_for(&speed, FASTER)),
    }
}

/// Compares two policies by latency and memory.
fn prefer_at_similar_speed(one: &Measured, two: &Measured) -> Preference {
    if let Some(latency) = one.compare(two, |one| &one.latency_ns)
        && differ_by(&one.latency_ns, &two.latency_ns, SOONER_NS)
    {
        match latency.interval.side(SOONER) {
            Side::Above => return Preference::First("sooner"),
            Side::Below => return Preference::Second,
            Side::Across => {
                return Preference::NotToldApart("latency", times_for(&latency, SOONER));
            }
            Side::Within => {}
        }
    }
    match one.compare(two, |one| &one.peak_bytes) {
        Some(memory) if differ_by(&one.peak_bytes, &two.peak_bytes, SMALLER_BYTES) => {
            match memory.interval.side(SMALLER) {
                Side::Above => Preference::First("smaller"),
                Side::Below => Preference::Second,
                Side::Within | Side::Across => Preference::Neither,
            }
        }
        _ => Preference::Neither,
    }
}

/// Returns whether the medians differ by more than `least`.
fn differ_by(one: &[f64], two: &[f64], least: f64) -> bool {
    let medians = interval(one).zip(interval(two));
    medians.is_some_and(|((_, one), (_, two))| (one - two).abs() > least)
}

/// Returns by how much to multiply the rounds so that the interval of a ratio ends before the
/// nearest threshold.
fn times_for(comparison: &Comparison, margin: f64) -> f64 {
    let Interval { low, high } = comparison.interval;
    times_longer(low, high, comparison.ratio, &[margin, margin.recip()])
}

/// Returns by how much to multiply the rounds; four times the rounds halve the width of an
/// interval.
fn times_longer(low: f64, high: f64, middle: f64, borders: &[f64]) -> f64 {
    let half = (high / low.max(f64::MIN_POSITIVE)).ln() / 2.0;
    let nearest =
        borders.iter().map(|border| (middle / border).ln().abs()).fold(f64::MAX, f64::min);
    (half / nearest.max(1e-6)).powi(2).clamp(2.0, 1e9)
}

/// Returns the bootstrap interval of the median, and the median, of samples above zero; if some
/// samples are zero, their extremes.
fn interval(samples: &[f64]) -> Option<(Interval, f64)> {
    let ones = vec![1.0; samples.len()];
    if let Some(comparison) = Comparison::of(Placed::anywhere(&ones), Placed::anywhere(samples)) {
        return Some((comparison.interval, comparison.ratio));
    }
    let median = crate::measure::Summary::of(samples)?.median;
    let low = samples.iter().copied().fold(f64::MAX, f64::min);
    Some((Interval { low, high: samples.iter().copied().fold(0.0, f64::max) }, median))
}

#[cfg(test)]
mod tests {
    use super::*;
    use PolicyKind::{AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate};

    const STEADY: [f64; 7] = [1.0, 1.01, 0.99, 1.0, 1.005, 0.995, 1.0];
    const MIB: f64 = 1_048_576.0;

    fn one(policy: PolicyKind, speed: f64, latency_us: f64, peak_mib: f64) -> Measured {
        let times = |value: f64| STEADY.map(|sample| sample * value).to_vec();
        Measured {
            policy,
            round_trip_ns: Vec::new(),
            speed: times(speed),
            updates: times(speed / 2.0),
            latency_ns: times(latency_us * 1e3),
            peak_bytes: times(peak_mib * MIB),
            refused: vec![0.0; 7],
        }
    }

    fn judged(all: &[Measured], limits: Limits) -> Judgement {
        judge(all, &limits, 1.0)
    }

    fn taken(all: &[Measured], limits: Limits) -> (PolicyKind, Option<&'static str>) {
        match judged(all, limits).choice {
            Choice::Take { policy, because } => (policy, because),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_faster_policy_wins_and_the_next_one_is_the_runner_up() {
        let all = [
            one(FreeAfterRcuGp, 1e6, 1.0, 9.0),
            one(AfterRcuGp, 2e6, 1.0, 8.0),
            one(Immediate, 3e6, 1.0, 2.0),
        ];
        assert_eq!(taken(&all, Limits::default()), (Immediate, Some("faster")));
        assert_eq!(judged(&all, Limits::default()).runner_up, Some(AfterRcuGp));
    }

    #[test]
    fn if_speeds_are_similar_latency_decides_and_then_memory() {
        let all = [one(AfterRcuGp, 1e6, 9.0, 2.0), one(Immediate, 1.01e6, 2.0, 9.0)];
        assert_eq!(taken(&all, Limits::default()), (Immediate, Some("sooner")));
        // A difference below a microsecond does not count.
        let all = [one(AfterRcuGp, 1e6, 0.9, 2.0), one(Immediate, 1.01e6, 0.2, 9.0)];
        assert_eq!(taken(&all, Limits::default()), (AfterRcuGp, Some("smaller")));
    }

    #[test]
    fn if_nothing_differs_either_will_do_and_the_less_demanding_is_named_first() {
        let all = [one(Immediate, 1e6, 1.0, 2.0), one(AfterRcuGp, 1.01e6, 1.0, 2.5)];
        let Judgement { choice, .. } = judged(&all, Limits::default());
        assert_eq!(choice, Choice::Either(vec![AfterRcuGp, Immediate]));
    }

    #[test]
    fn a_policy_that_misses_a_limit_is_excluded_even_if_it_is_fast() {
        let all = [one(AfterRcuGp, 9e6, 1.0, 20.0), one(Immediate, 1e6, 5.0, 3.0)];
        let budget = Limits { budget_bytes: Some(8.0 * MIB), ..Limits::default() };
        assert_eq!(taken(&all, budget), (Immediate, None));
        assert_eq!(judged(&all, budget).misfits, [(AfterRcuGp, Limit::Budget)]);
        let latency = Limits { latency_ns: Some(2000.0), ..Limits::default() };
        assert_eq!(taken(&all, latency).0, AfterRcuGp);
        let pace = Limits { frees_per_s: Some(4e6), ..Limits::default() };
        assert_eq!(judged(&all, pace).misfits, [(Immediate, Limit::Pace)]);
        let refusing = Measured { refused: vec![0.1; 7], ..all[0].clone() };
        let end = judged(&[refusing, all[1].clone()], Limits::default());
        assert_eq!(end.misfits, [(AfterRcuGp, Limit::Refuses)]);
        let none = Limits { budget_bytes: Some(MIB), ..Limits::default() };
        assert_eq!(judged(&all, none).choice, Choice::NoneFits);
    }

    #[test]
    fn an_interval_across_a_threshold_is_not_told_apart_and_a_longer_run_is_suggested() {
        let wild = [0.9, 1.3, 1.0, 1.2, 1.15, 0.95, 1.25].map(|ratio| ratio * 1e6).to_vec();
        let all = [
            Measured { speed: wild, ..one(AfterRcuGp, 1e6, 1.0, 2.0) },
            one(Immediate, 1e6, 1.0, 2.0),
        ];
        let Choice::CannotTell { of, minutes } = judged(&all, Limits::default()).choice else {
            panic!("a decision");
        };
        assert!(matches!(of, NotToldApart::Between(.., "speed")), "{of:?}");
        assert!(minutes.is_some_and(|minutes| (2.0..=60.0).contains(&minutes)), "{minutes:?}");
        // A policy whose interval crosses its budget.
        let near = one(Immediate, 1e6, 1.0, 8.5);
        let limits = Limits { budget_bytes: Some(8.0 * MIB), ..Limits::default() };
        let Choice::CannotTell { of, .. } = judged(&[near], limits).choice else {
            panic!("a decision");
        };
        assert_eq!(of, NotToldApart::FromLimit(Immediate, Limit::Budget));
    }

    /// A policy that may be faster, and is not slower, needs no narrower interval if it is sooner.
    #[test]
    fn a_policy_that_keeps_up_is_decided_for_by_the_other_quantities() {
        // Up to a quarter slower, or as fast.
        let slower = [0.78, 0.95, 1.0, 0.85, 0.9, 1.02, 0.8].map(|ratio| ratio * 1e6).to_vec();
        let of = |latency_us| {
            let other = Measured { speed: slower.clone(), ..one(AfterRcuGp, 1e6, latency_us, 2.0) };
            [one(Immediate, 1e6, 5.0, 2.0), other]
        };
        let none = Limits::default();
        assert_eq!(taken(&of(9.0), none), (Immediate, Some("sooner")));
        let cannot_tell = |latency_us| {
            let choice = judged(&of(latency_us), none).choice;
            matches!(choice, Choice::CannotTell { .. })
        };
        assert!(cannot_tell(5.0), "nothing else decides");
        assert!(cannot_tell(1.0), "it is sooner, but may be slower");
    }

    #[test]
    fn too_few_rounds_cannot_decide_between_two_policies_but_suffice_for_one() {
        let few = |policy| Measured { speed: vec![1e6; 3], ..one(policy, 1e6, 1.0, 2.0) };
        let two = judged(&[few(AfterRcuGp), few(Immediate)], Limits::default()).choice;
        let of = NotToldApart::TooFewRounds;
        assert!(matches!(two, Choice::CannotTell { of: found, .. } if found == of));
        let alone = judged(&[few(AfterTasksTraceGp)], Limits::default()).choice;
        assert_eq!(alone, Choice::Take { policy: AfterTasksTraceGp, because: None });
    }

    /// Workloads that need different policies: the correct ones, and their measurements in M/s, µs
    /// and MiB.
    #[test]
    fn different_workloads_get_different_answers() {
        let answer = |toml: &str, measured: &[(PolicyKind, f64, f64, f64)]| {
            let partial = crate::shape::PartialShape::from_toml(toml).unwrap();
            let shape = partial.complete().unwrap();
            let correct = crate::shape::standings(&shape.demands);
            let correct =
                |policy| correct.iter().any(|one| one.policy == policy && one.out.is_none());
            let all: Vec<Measured> = measured
                .iter()
                .filter(|(policy, ..)| correct(*policy))
                .map(|&(policy, speed, latency, peak)| one(policy, speed * 1e6, latency, peak))
                .collect();
            judged(&all, Limits::of(&shape.numbers)).choice
        };
        let take = |policy, because| Choice::Take { policy, because };
        // A read-mostly map with short sections: too few updates to make a difference.
        let map = [
            (Immediate, 5.0, 0.6, 2.0),
            (AfterRcuGp, 4.98, 0.8, 2.7),
            (FreeAfterRcuGp, 4.7, 3.0, 4.0),
            (AfterTasksTraceGp, 4.7, 0.9, 2.9),
        ];
        let validating = "[correct]\nvalidate = true\n[shape]\nthreads = \"2:0.01\"";
        assert_eq!(answer(validating, &map), Choice::Either(vec![AfterRcuGp, Immediate]));
        let blind = "[shape]\nthreads = \"2:0.01\"";
        assert_eq!(answer(blind, &map), take(AfterRcuGp, Some("faster")));
        // Many threads that allocate and free small objects.
        let churn = [
            (Immediate, 90.0, 0.2, 1.5),
            (AfterRcuGp, 40.0, 0.3, 5.0),
            (FreeAfterRcuGp, 4.0, 9.0, 6.0),
            (AfterTasksTraceGp, 35.0, 0.3, 6.0),
        ];
        let many = "[correct]\nvalidate = true\n[shape]\nthreads = \"16:1\"\nsizes = \"16,32\"";
        assert_eq!(answer(many, &churn), take(Immediate, Some("faster")));
        // Readers that sleep, with references.
        let sleepers = "[correct]\nsleep = true\nreferences = true";
        assert_eq!(answer(sleepers, &churn), take(AfterTasksTraceGp, None));
        // A hard memory limit with stalls.
        let stalled = [
            (Immediate, 3.0, 0.3, 2.0),
            (AfterRcuGp, 2.9, 90_000.0, 19.0),
            (FreeAfterRcuGp, 2.8, 90_000.0, 21.0),
            (AfterTasksTraceGp, 2.9, 90_000.0, 22.0),
        ];
        let limit = "[shape]\nstall_ms = 100.0\nbudget_mib = 16";
        assert_eq!(answer(limit, &stalled), Choice::NoneFits);
        let validating = format!("[correct]\nvalidate = true\n{limit}");
        assert_eq!(answer(&validating, &stalled), take(Immediate, None));
        // Allocation in signal handlers.
        let handlers = "[correct]\nsignals = \"alloc\"";
        assert_eq!(answer(handlers, &churn), take(AfterRcuGp, Some("faster")));
    }

    #[test]
    fn the_same_measurements_give_the_same_answer_in_any_order() {
        let mut all = vec![
            one(FreeAfterRcuGp, 1e6, 1.0, 9.0),
            one(AfterRcuGp, 2.0e6, 1.0, 8.0),
            one(Immediate, 2.01e6, 1.0, 2.0),
            one(AfterTasksTraceGp, 1.9e6, 1.0, 8.0),
        ];
        let answer = judged(&all, Limits::default()).choice;
        all.reverse();
        assert_eq!(judged(&all, Limits::default()).choice, answer);
        assert_eq!(answer, Choice::Take { policy: Immediate, because: Some("smaller") });
    }
}
