//! Formats an answer.

use std::fmt::Write as _;

use memalloc::PolicyKind;

use super::{
    Axis, Choice, Flip, Judgement, Limit, Limits, Measured, NotToldApart, Opinion, interval,
};
use crate::measure::{FEWEST_ROUNDS, Interval, Metric};
use crate::report::figures;
use crate::report::layout::{Table, tied};
use crate::report::paragraph::paragraph;
use crate::report::width::width;
use crate::shape::{Numbers, Plan, Shape, Standing};

/// Everything that goes into an answer.
#[derive(Debug)]
pub(crate) struct Advice<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) measured: &'a [Measured],
    pub(crate) judgement: &'a Judgement,
    pub(crate) flips: &'a [Flip],
    /// Axes that were not searched for lack of time, or because the run ended early.
    pub(crate) unasked: &'a [Axis],
    /// True if the run ended early.
    pub(crate) is_part: bool,
    /// Rounds at each point of the search.
    pub(crate) rounds_a_point: usize,
}

/// Lists the policies with whether they are correct, and the assumptions behind it.
pub(crate) fn correctness(standings: &[Standing], assumptions: &[&str]) -> String {
    let mut text = String::from("Correct for these readers:\n");
    for Standing { policy, out } in standings {
        let said = out.map_or_else(|| "yes".to_owned(), |reason| format!("no: {reason}"));
        // Writing to a string can't fail.
        let _ = writeln!(text, "  {:<21} {said}", policy.to_string());
    }
    if !assumptions.is_empty() {
        text += &paragraph(&format!("Assumed: {}.", assumptions.join("; ")));
    }
    text
}

/// Formats the shape derived from a recording, after a remark on the recording.
pub(crate) fn derived(remark: &str, shape: &Shape) -> String {
    let said = format!("{remark} Its shape, which you can edit and pass to --shape:");
    format!("{}\n{}\n", paragraph(&said), shape.to_toml())
}

/// Returns the answer if a measurement would add nothing: there are no readers, or no policy is
/// correct.
pub(crate) fn without_measuring(shape: &Shape, correct: &[PolicyKind]) -> Option<String> {
    if correct.is_empty() {
        let said = "Answer: none. No policy protects these readers: keep them in this process, or give \
                    each process its own copy.";
        return Some(format!("\n{}", paragraph(said)));
    }
    if shape.demands.readers {
        return None;
    }
    let said = "Answer: any. No thread reads an object while another frees it, so every policy is \
                correct: free with `free_unshared`, which reuses at once under every policy.";
    let lines = Plan::new(PolicyKind::Immediate, shape).lines();
    Some(format!("\n{}\n{lines}", paragraph(said)))
}

/// Formats the answer.
pub(crate) fn advice(advice: &Advice<'_>) -> String {
    advice_within(advice, width())
}

/// Formats the answer, with its table for a width.
fn advice_within(advice: &Advice<'_>, width: usize) -> String {
    let Advice { shape, measured, judgement, .. } = advice;
    let table = table(measured, judgement, &shape.numbers).text(width);
    let mut text = format!("\n{table}\n\n");
    let from = if advice.is_part { ", from part of a run" } else { "" };
    text += &paragraph(&format!("Answer{from}: {}", answer(advice)));
    for (policy, limit) in &judgement.misfits {
        text += &paragraph(&format!("Excluded: {policy} {}.", misfit(*limit, &shape.numbers)));
    }
    text += &flips(advice);
    for policy in pasted(judgement) {
        let _ = write!(text, "\n{}", Plan::new(policy, shape).lines());
    }
    text
}

/// Returns the policies whose code is shown.
fn pasted(judgement: &Judgement) -> Vec<PolicyKind> {
    match &judgement.choice {
        Choice::Take { policy, .. } => vec![*policy],
        Choice::Either(policies) => policies[..1].to_vec(),
        Choice::CannotTell { .. } | Choice::NoneFits => Vec::new(),
    }
}

/// Formats the median and its interval, as in "3.91 (3.80..4.02) M/s".
fn figure(metric: Metric, samples: &[f64]) -> String {
    let known = interval(samples);
    known.map_or_else(
        || "-".into(),
        |(Interval { low, high }, median)| {
            figures::spread(metric, &crate::measure::Summary { low, median, high })
        },
    )
}

fn table(measured: &[Measured], judgement: &Judgement, numbers: &Numbers) -> Table {
    let latency = format!("p{} of an update", numbers.percentile);
    let header = ["median (95 % interval)", "operations", &latency, "peak memory", ""];
    let mut table = Table { header: header.map(str::to_owned).into(), ..Table::default() };
    for one in measured {
        let is_out = judgement.misfits.iter().any(|(policy, _)| *policy == one.policy);
        let out = if is_out { "excluded" } else { "" };
        let values = [
            figure(Metric::OpsPerS, &one.speed),
            figure(Metric::UpdateLatencyNs, &one.latency_ns),
            figure(Metric::MemPeakBytes, &one.peak_bytes),
        ];
        let lines = header[1..4].iter().zip(&values);
        let lines = lines.map(|(&name, value)| vec![name.to_owned(), value.clone()]).collect();
        let comma = if is_out { ", " } else { "" };
        table.groups.push((format!("{}{comma}{out}", one.policy), lines));
        let cells = values.iter().map(|value| tied(value));
        let cells = [one.policy.to_string()].into_iter().chain(cells).chain([out.to_owned()]);
        table.rows.push(cells.collect());
    }
    table
}

fn answer(advice: &Advice<'_>) -> String {
    let Advice { measured, judgement, .. } = advice;
    let runner_up = judgement.runner_up.map(|policy| format!(" Runner-up: {policy}."));
    let runner_up = runner_up.unwrap_or_default();
    match &judgement.choice {
        Choice::Take { policy, because } => {
            let against = |judgement: &Judgement| {
                let of = |policy| measured.iter().find(|one| one.policy == policy);
                let (one, two) = (of(*policy)?, of(judgement.runner_up?)?);
                let ratio = |base: &Measured, other, of: fn(&Measured) -> &Vec<f64>| {
                    Some(figures::interval(&base.compare(other, of)?.interval))
                };
                match (*because)? {
                    "faster" => {
                        let ratio = ratio(two, one, |one| &one.speed)?;
                        Some(format!("it is {ratio} times as fast as the runner-up"))
                    }
                    "sooner" => {
                        let ratio = ratio(one, two, |one| &one.latency_ns)?;
                        Some(format!(
                            "it is at least about as fast, and the runner-up's updates take {ratio} times as \
                             long"
                        ))
                    }
                    _ => {
                        let ratio = ratio(one, two, |one| &one.peak_bytes)?;
                        Some(format!(
                            "it is at least about as fast, latencies are similar, and the runner-up takes {ratio} \
                             times the memory"
                        ))
                    }
                }
            };
            let because =
                against(judgement).unwrap_or_else(|| match judgement.misfits.is_empty() {
                    true => "no other policy is correct".into(),
                    false => "no other policy meets the limits".into(),
                });
            format!("{policy}: {because}.{runner_up}")
        }
        Choice::Either(policies) => {
            let names: Vec<_> = policies.iter().map(ToString::to_string).collect();
            format!(
                "either will do ({}): speed, latency and memory are similar. {} demands \
                 least of readers.",
                names.join(", "),
                names[0]
            )
        }
        Choice::CannotTell { of, minutes } => {
            let what = match of {
                NotToldApart::Between(one, two, by) => {
                    format!("{one} and {two} are not told apart by {by}")
                }
                NotToldApart::FromLimit(policy, limit) => {
                    format!("the rounds do not show whether {policy} {}", limit_name(*limit))
                }
                NotToldApart::TooFewRounds => {
                    format!("at least {FEWEST_ROUNDS} rounds are needed")
                }
            };
            let longer = match minutes {
                Some(minutes) => {
                    let rounds = advice.measured.first().map_or(0, |one| one.speed.len());
                    let rounds = (rounds * 2).max(21);
                    format!(
                        "Run for about {minutes:.0} min to decide: --duration {:.0} --rounds \
                         {rounds}.",
                        minutes * 60.0
                    )
                }
                None => {
                    "An hour is not enough: take the policy that demands less of readers.".into()
                }
            };
            format!("cannot tell: {what}. {longer}{runner_up}")
        }
        Choice::NoneFits => "none. No correct policy meets the limits. A larger budget, \
                             shorter sections or readers that validate would help."
            .into(),
    }
}

fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Budget => "stays within its memory budget",
        Limit::Refuses => "accepts all updates",
        Limit::Latency => "stays within the latency limit",
        Limit::Pace => "keeps up with the requested frees",
    }
}

fn misfit(limit: Limit, numbers: &Numbers) -> String {
    let Limits { budget_bytes, latency_ns, frees_per_s } = Limits::of(numbers);
    let value = |metric, value: Option<f64>| {
        value.map_or_else(String::new, |value| format!(" of {}", figures::value(metric, value)))
    };
    match limit {
        Limit::Budget => {
            format!(
                "takes more memory than the budget{}",
                value(Metric::MemPeakBytes, budget_bytes)
            )
        }
        Limit::Refuses => format!(
            "exhausted the budget{} and refused updates",
            value(Metric::MemPeakBytes, budget_bytes)
        ),
        Limit::Latency => {
            format!("exceeds the latency limit{}", value(Metric::UpdateLatencyNs, latency_ns))
        }
        Limit::Pace => {
            format!(
                "does not keep up with the requested frees{}",
                value(Metric::UpdatesPerS, frees_per_s)
            )
        }
    }
}

fn flips(advice: &Advice<'_>) -> String {
    let Advice { flips, unasked, rounds_a_point, .. } = advice;
    if flips.is_empty() && unasked.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\nWhere the answer flips (one number changed at a time, {rounds_a_point} rounds each):\n"
    );
    for flip in *flips {
        let _ = write!(text, "{}", paragraph(&format!("- {}", flipped(flip))));
    }
    if !unasked.is_empty() {
        let names: Vec<_> = unasked.iter().map(|axis| axis_name(*axis)).collect();
        let names = names.join(", ");
        let said = match advice.is_part {
            true => format!("The run ended before it had searched {names}."),
            false => format!("No time was left for {names}: increase --duration."),
        };
        text += &paragraph(&said);
    }
    text
}

fn axis_name(axis: Axis) -> &'static str {
    match axis {
        Axis::LongerSections => "longer sections",
        Axis::ShorterSections => "shorter sections",
        Axis::LongerStalls => "longer stalls",
        Axis::ShorterStalls => "shorter stalls",
        Axis::SmallerBudget => "a smaller budget",
        Axis::LargerBudget => "a larger budget",
        Axis::MoreUpdates => "more updates",
        Axis::FewerUpdates => "fewer updates",
    }
}

fn flipped(flip: &Flip) -> String {
    let (name, unit) = match flip.axis {
        Axis::LongerSections | Axis::ShorterSections => ("sections", " µs"),
        Axis::LongerStalls | Axis::ShorterStalls => ("stalls", " ms"),
        Axis::SmallerBudget | Axis::LargerBudget => ("a budget", " MiB"),
        Axis::MoreUpdates | Axis::FewerUpdates => ("updates", " % of operations"),
    };
    let figure = |value: f64| format!("{}{unit}", figures::digits(value));
    let to = if flip.axis.goes_down() { "down to" } else { "up to" };
    let held = figure(flip.held_to);
    match (flip.flipped_at, flip.cannot_tell_at) {
        (None, None) => format!("{name}: the same {to} {held}, where the search ended."),
        (None, Some(open)) => {
            format!("{name}: the same {to} {held}; cannot tell at {}.", figure(open))
        }
        (Some((at, other)), open) => {
            let other = match other {
                Opinion::Take(policy) => format!("{policy} wins"),
                Opinion::Either => "either will do".into(),
                Opinion::NoneFits => "no policy meets the limits".into(),
                Opinion::CannotTell => "cannot tell".into(),
            };
            let between = match open {
                Some(open) => format!("; cannot tell at {}", figure(open)),
                None => String::new(),
            };
            format!("{name}: the same {to} {held}{between}; at {} {other}.", figure(at))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{PartialShape, standings};
    use PolicyKind::{AfterRcuGp, Immediate};

    fn measured(policy: PolicyKind, speed: f64) -> Measured {
        Measured {
            policy,
            round_trip_ns: Vec::new(),
            speed: vec![speed; 7],
            updates: vec![speed; 7],
            latency_ns: vec![1500.0; 7],
            peak_bytes: vec![3e6; 7],
            refused: vec![0.0; 7],
        }
    }

    fn said(all: &[Measured], toml: &str, flips: &[Flip]) -> String {
        said_within(all, toml, flips, 80)
    }

    fn said_within(all: &[Measured], toml: &str, flips: &[Flip], width: usize) -> String {
        said_of((all, false), toml, flips, width)
    }

    fn said_of(
        (all, is_part): (&[Measured], bool),
        toml: &str,
        flips: &[Flip],
        width: usize,
    ) -> String {
        let shape = PartialShape::from_toml(toml).unwrap().complete().unwrap();
        let judgement = super::super::judge(all, &Limits::of(&shape.numbers), 1.0);
        let advice = Advice {
            shape: &shape,
            measured: all,
            judgement: &judgement,
            flips,
            unasked: &[Axis::MoreUpdates],
            is_part,
            rounds_a_point: 7,
        };
        advice_within(&advice, width)
    }

    /// The lines to paste are code, and wider.
    #[test]
    fn the_table_of_an_answer_fits_its_width() {
        let wide = |policy| {
            let spread = [1.29e6, 1.66e6, 1.95e6, 1.4e6, 1.5e6, 1.8e6, 1.9e6];
            let all = spread.map(|one| one * 1.234).to_vec();
            Measured { speed: all.clone(), peak_bytes: all, ..measured(policy, 1.0) }
        };
        let policies = [Immediate, AfterRcuGp, PolicyKind::AfterTasksTraceGp];
        for width in [80, 120] {
            let text = said_within(
                &policies.map(wide),
                "[shape]\nlive_objects = 100\nbudget_mib = 1.0",
                &[],
                width,
            );
            let table = text.split("\nAnswer").next().unwrap();
            assert!(table.lines().all(|line| line.chars().count() <= width), "{table}");
            for part in ["after-tasks-trace-gp", "p99 of an update", "(1.73..2.34) M/s"] {
                assert!(table.contains(part), "{part:?} is not in {table}");
            }
        }
    }

    #[test]
    fn an_answer_has_its_figures_its_runner_up_its_flips_and_its_lines() {
        let flip = Flip {
            axis: Axis::LongerSections,
            held_to: 30.0,
            flipped_at: Some((40.0, Opinion::Take(AfterRcuGp))),
            cannot_tell_at: None,
        };
        let all = [measured(Immediate, 2e6), measured(AfterRcuGp, 1e6)];
        let text = said(&all, "", &[flip]);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "2.00 M/s",
            "1.50 µs",
            "2.86 MiB",
            "Answer: immediate: it is 2.00 to 2.00 times as fast",
            "Runner-up: after-rcu-gp.",
            "sections: the same up to 30.0 µs; at 40.0 µs after-rcu-gp wins.",
            "No time was left for more updates",
            "MemAlloc::<Immediate>::builder()",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }

    #[test]
    fn an_answer_from_part_of_a_run_says_so_and_names_what_was_not_searched() {
        let all = [measured(Immediate, 2e6), measured(AfterRcuGp, 1e6)];
        let text = said_of((&all, true), "", &[], 80);
        assert!(text.contains("Answer, from part of a run: immediate"), "{text}");
        assert!(text.contains("ended before it had searched more updates."), "{text}");
        assert!(!text.contains("--duration"), "{text}");
    }

    #[test]
    fn a_search_towards_smaller_numbers_says_down_to() {
        let all = [measured(Immediate, 2e6), measured(AfterRcuGp, 1e6)];
        let flip = |axis, held_to| Flip { axis, held_to, flipped_at: None, cannot_tell_at: None };
        let flips = [flip(Axis::ShorterSections, 0.5), flip(Axis::FewerUpdates, 2.0)];
        let text = said(&all, "", &flips).split_whitespace().collect::<Vec<_>>().join(" ");
        for part in ["sections: the same down to 0.50 µs", "updates: the same down to 2.00 %"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }

    #[test]
    fn either_cannot_tell_and_none_are_answers() {
        let alike = [measured(Immediate, 1e6), measured(AfterRcuGp, 1e6)];
        let text = said(&alike, "", &[]);
        assert!(text.contains("either will do (after-rcu-gp, immediate)"), "{text}");
        assert!(text.contains("MemAlloc::<AfterRcuGp>"), "{text}");
        let few: Vec<_> =
            alike.iter().map(|one| Measured { speed: vec![1e6; 3], ..one.clone() }).collect();
        let text = said(&few, "", &[]).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("cannot tell: at least 7") && text.contains("--duration"), "{text}");
        assert!(!text.contains("builder()"), "nothing to paste: {text}");
        let text = said(&alike, "[shape]\nlive_objects = 100\nbudget_mib = 1.0", &[]);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("Answer: none") && text.contains("budget of 1.00 MiB"), "{text}");
    }

    #[test]
    fn every_policy_is_listed_with_whether_it_is_correct() {
        let partial = PartialShape::from_toml("[correct]\nvalidate = false").unwrap();
        let assumptions = partial.assumptions();
        let text = correctness(&standings(&partial.complete().unwrap().demands), &assumptions);
        assert!(text.contains("immediate             no: readers would have to"), "{text}");
        assert!(text.contains("after-rcu-gp          yes\n"), "{text}");
        assert!(text.contains("Assumed: they keep no references"), "{text}");
    }
}
