//! Describes the machine's health during a run: whether its speed stayed the same, and the result
//! of the A/A control.

use std::time::Duration;

use super::figures;
use super::paragraph::paragraph;
use crate::measure::{Metric, Summary};
use crate::record::{Control, Health, Part, RunEnd};
use crate::workload::threads_in_words;

/// A run that got a smaller share of its CPUs than this is reported as disturbed.
const UNDISTURBED: f64 = 0.97;

/// Returns a paragraph about the run and a line for each control; an empty text if nothing was
/// measured.
pub(crate) fn health(end: &RunEnd) -> String {
    let said = sentences(end).join(" ");
    let lines = [said].into_iter().filter(|said| !said.is_empty()).chain(controls(end));
    lines.map(|line| paragraph(&line)).collect()
}

/// Returns the result of each control.
pub(super) fn controls(end: &RunEnd) -> impl Iterator<Item = String> {
    end.controls.iter().map(|control| {
        let Control { case, subject, policy, threads, comparison, .. } = control;
        let who = policy.as_ref().unwrap_or(subject);
        let threads = threads_in_words(*threads);
        let ratio = figures::ratio(comparison);
        let warning = match control.differs() {
            true => " They are identical: ignore differences up to this size in this run.",
            false => "",
        };
        format!("Control, {case}, {threads}, {who} against itself: {ratio}.{warning}")
    })
}

/// Says that a run is incomplete, if it is, why, and what was measured.
pub(crate) fn part(end: &RunEnd) -> Option<String> {
    part_sentence(end).map(|sentence| paragraph(&sentence))
}

/// As [`part`], without line breaks.
pub(super) fn part_sentence(end: &RunEnd) -> Option<String> {
    let RunEnd { workloads_done: done, workloads: all, part, .. } = end;
    let (reason, rest) = match part {
        Some(Part { reason, workload, rounds_done, rounds }) => (
            format!(": {reason}"),
            format!(", and {rounds_done} of {rounds} rounds of \"{workload}\""),
        ),
        None if done < all => Default::default(),
        None => return None,
    };
    Some(format!("Part of a run{reason}. Measured: {done} of {all} workloads{rest}."))
}

/// Returns the remarks on the run, one sentence each.
pub(super) fn sentences(RunEnd { health, .. }: &RunEnd) -> Vec<String> {
    let Health { arithmetic_ns, independent_ns, round_trip_ns, is_unsteady, cpu_share } = health;
    let time = |summary: &Summary| figures::spread(Metric::NsPerOp, summary);
    let mut said = Vec::new();
    if let Some(arithmetic) = arithmetic_ns {
        let trip = round_trip_ns.as_ref().map_or_else(String::new, |trip| {
            format!(", and a cache-line round trip to another CPU took {}", time(trip))
        });
        let six = independent_ns
            .as_ref()
            .map_or_else(String::new, |six| format!(", six independent ones {}", time(six)));
        said.push(format!(
            "Between samples an arithmetic step took {}{six}{trip}.",
            time(arithmetic)
        ));
    }
    if *is_unsteady {
        let warning = "The machine's speed changed during the run: compare ratios, not values.";
        said.push(warning.into());
    }
    said.extend(cpu_share.filter(|&share| share < UNDISTURBED).map(|share| {
        format!(
            "The machine was busy: in half of the samples the threads got less than {:.0} % of \
             their CPUs. Run it again on an idle machine.",
            share * 100.0
        )
    }));
    said
}

/// Warns that a run takes longer than its time budget; `remedy` says how to shorten it.
pub(crate) fn takes_longer(least: Duration, budget: Duration, remedy: &str) -> String {
    paragraph(&format!(
        "This run takes at least {} s, longer than the {} s of --duration. {remedy}",
        least.as_secs_f64().ceil(),
        budget.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::specimen;

    fn said(change: impl FnOnce(&mut RunEnd)) -> String {
        let mut end = specimen::end(&[1.0; 7]);
        end.health = Health::default();
        change(&mut end);
        health(&end)
    }

    #[test]
    fn a_control_that_differs_warns() {
        assert_eq!(said(|end| end.controls.clear()), "");
        let same = "Control, lookup-hit, 1 thread, immediate against itself: no difference.\n";
        assert_eq!(said(|_| ()), same);
        assert_eq!(said(|end| end.controls.extend(end.controls.clone())), same.repeat(2));
        let differs = |end: &mut RunEnd| end.controls = specimen::end(&[1.2; 7]).controls;
        let differ = said(differs).replace('\n', " ");
        assert!(differ.contains("1.20. They are identical: ignore"), "{differ}");
    }

    #[test]
    fn a_part_of_a_run_says_what_is_missing_and_why() {
        let mut end = specimen::end(&[1.0; 7]);
        assert_eq!(
            part_sentence(&end).unwrap(),
            "Part of a run: interrupted by SIGINT. Measured: 12 of 13 workloads, and 4 of 9 rounds \
             of \"update\"."
        );
        // In older records there is no reason.
        end.part = None;
        assert_eq!(part_sentence(&end).unwrap(), "Part of a run. Measured: 12 of 13 workloads.");
        end.workloads_done = 13;
        assert_eq!(part_sentence(&end), None);
    }

    #[test]
    fn threads_that_did_not_get_their_cpus_are_reported() {
        let busy =
            |share| said(|end| (end.controls, end.health.cpu_share) = (Vec::new(), Some(share)));
        assert!(busy(0.5).contains("less than 50 % of"), "{}", busy(0.5));
        assert_eq!(busy(0.99), "");
    }
}
