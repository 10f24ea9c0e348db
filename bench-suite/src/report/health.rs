//! What is said of the machine that everything was measured on: whether it stayed the same, and what
//! came of one subject beside itself.

use std::time::Duration;

use super::figures;
use super::paragraph::paragraph;
use crate::measure::{Metric, Summary};
use crate::record::{Health, RunEnd};

/// With less of its CPUs a run is called disturbed.
const UNDISTURBED: f64 = 0.97;

/// A paragraph; nothing where nothing was measured.
pub(crate) fn health(end: &RunEnd) -> String {
    let said = sentences(end).join(" ");
    if said.is_empty() { said } else { paragraph(&said) }
}

/// What there is to be said, a sentence each.
pub(super) fn sentences(RunEnd { control, health, .. }: &RunEnd) -> Vec<String> {
    let Health { arithmetic_ns, round_trip_ns, is_unsteady, cpu_share } = health;
    let time = |summary: &Summary| figures::spread(Metric::NsPerOp, summary);
    let mut said = Vec::new();
    if let Some(arithmetic) = arithmetic_ns {
        let trip = round_trip_ns.as_ref().map_or_else(String::new, |trip| {
            format!(", a cache line to another CPU and back {}", time(trip))
        });
        said.push(format!("Between samples a step of arithmetic took {}{trip}.", time(arithmetic)));
    }
    if *is_unsteady {
        let warning = "The machine changed its speed meanwhile: compare ratios, not values.";
        said.push(warning.into());
    }
    if let Some(control) = control {
        let ratio = figures::ratio(&control.comparison);
        let of = "Control, the first subject beside itself:";
        said.push(match control.differs() {
            true => format!(
                "{of} {ratio}. They are the same: believe no smaller difference in this run."
            ),
            false => format!("{of} {ratio}."),
        });
    }
    said.extend(cpu_share.filter(|&share| share < UNDISTURBED).map(|share| {
        format!(
            "The machine was busy: in half of the samples the threads got less than {:.0} % of \
             their CPUs. Run it again when nothing else does.",
            share * 100.0
        )
    }));
    said
}

/// A line for a run that has more to do than time for it.
pub(crate) fn takes_longer(least: Duration, budget: Duration) -> String {
    paragraph(&format!(
        "This takes at least {} s: so many samples do not fit into the {} s of --duration. Fewer \
         --rounds, --case or --threads take less.",
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
        assert_eq!(said(|end| end.control = None), "");
        assert!(said(|_| ()).contains("beside itself: no difference."));
        let differs = |end: &mut RunEnd| end.control = specimen::end(&[1.2; 7]).control;
        assert!(said(differs).contains("1.20. They are the same: believe"), "{}", said(differs));
    }

    #[test]
    fn threads_that_did_not_get_their_cpus_are_told() {
        let busy = |share| said(|end| (end.control, end.health.cpu_share) = (None, Some(share)));
        assert!(busy(0.5).contains("less than 50 % of"), "{}", busy(0.5));
        assert_eq!(busy(0.99), "");
    }
}
