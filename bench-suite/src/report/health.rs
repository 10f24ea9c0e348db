//! What is said of the machine that everything was measured on: whether it stayed the same, and what
//! came of one subject beside itself.

use std::time::Duration;

use super::figures;
use super::paragraph::paragraph;
use crate::measure::{Comparison, Metric, Probe, Summary, Verdict};
use crate::record::Record;

/// With less of its CPUs a run is called disturbed.
const UNDISTURBED: f64 = 0.97;

/// A paragraph; nothing where nothing was measured.
pub(crate) fn health(records: &[Record], probe: &Probe, control: Option<&Comparison>) -> String {
    let time = |summary: Summary| figures::spread(Metric::NsPerOp, &summary);
    let mut said = Vec::new();
    if let Some(arithmetic) = probe.arithmetic() {
        said.push(format!("Between samples a step of arithmetic took {}", time(arithmetic)));
        said.extend(
            probe
                .round_trip()
                .map(|trip| format!(", a cache line to another CPU and back {}", time(trip))),
        );
        said.push(". ".into());
    }
    if probe.is_unsteady() {
        said.push("The machine changed its speed meanwhile: compare ratios, not values. ".into());
    }
    if let Some(control) = control {
        let ratio = figures::ratio(control);
        said.push(match control.verdict {
            Verdict::Differ => format!(
                "Control, the first subject beside itself: {ratio}. They are the same: believe no \
                 smaller difference in this run."
            ),
            _ => format!("Control, the first subject beside itself: {ratio}."),
        });
    }
    said.extend(disturbance(records));
    if said.is_empty() { String::new() } else { paragraph(&said.concat()) }
}

/// Says so if something else was running.
fn disturbance(records: &[Record]) -> Option<String> {
    let alone = records.iter().filter(|record| !record.is_oversubscribed());
    let shares = alone.filter(|record| record.metric == Metric::CpuShare);
    let shares: Vec<f64> = shares.flat_map(|record| record.samples.iter().copied()).collect();
    let Summary { median, .. } = Summary::of(&shares)?;
    (median < UNDISTURBED).then(|| {
        format!(
            " The machine was busy: in half of the samples the threads got less than {:.0} % of \
             their CPUs. Run it again when nothing else does.",
            median * 100.0
        )
    })
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

    #[test]
    fn a_control_that_differs_warns() {
        let of = |other: f64| Comparison::of(&[1.0; 7], &[other; 7]).unwrap();
        let probe = Probe::default();
        assert_eq!(health(&[], &probe, None), "");
        assert!(health(&[], &probe, Some(&of(1.0))).contains("beside itself: no difference."));
        assert!(health(&[], &probe, Some(&of(1.2))).contains("1.20. They are the same: believe"));
    }

    #[test]
    fn threads_that_did_not_get_their_cpus_are_told() {
        let busy = |share| [specimen::of("update", "immediate", Metric::CpuShare, &[share; 7])];
        let said = |share| health(&busy(share), &Probe::default(), None);
        assert!(said(0.5).contains("less than 50 % of"), "{}", said(0.5));
        assert_eq!(said(0.99), "");
    }
}
