//! Rounds, in each of which every sampler takes one sample.

use std::fmt;
use std::time::{Duration, Instant};

use super::{Budget, Curve, Metric, Reading, Slice};

/// With fewer rounds there is no verdict.
pub(crate) const FEWEST_ROUNDS: usize = 7;

/// An answer that a workload knows to be wrong, as text. It ends the run or withdraws its sampler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrongAnswer(pub(crate) String);

impl WrongAnswer {
    const INTERRUPTED: &str = "interrupted";

    /// Returns the value that stands for an interruption by the user.
    pub(crate) fn interrupted() -> Self {
        Self(Self::INTERRUPTED.into())
    }

    /// Returns whether it stands for an interruption.
    pub(crate) fn is_interruption(&self) -> bool {
        self.0 == Self::INTERRUPTED
    }
}

impl fmt::Display for WrongAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes the samples of one subject.
pub(crate) trait Sampler {
    /// Returns whether a wrong answer ends the run. If not, it only withdraws this sampler.
    fn ends_the_run(&self) -> bool {
        true
    }

    /// Runs once before the rounds, unmeasured, with checks that would disturb a measurement.
    fn rehearse(&mut self) -> Result<(), WrongAnswer>;

    /// Takes one sample, measuring for about the time of `slice`, after its warm-up. Returns the
    /// same cases and metrics in the same order each time.
    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, WrongAnswer>;
}

/// The outcome of one sampler: its series, or the wrong answer for which it was withdrawn.
pub(crate) type Outcome = Result<Vec<Series>, WrongAnswer>;

/// The values of one sampler, round by round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    /// The case.
    pub(crate) case: &'static str,
    /// The quantity.
    pub(crate) metric: Metric,
    /// One value for each round.
    pub(crate) samples: Vec<f64>,
    /// The curve of each sample; empty if they have none.
    pub(crate) curves: Vec<Curve>,
}

/// Runs `rounds` rounds; each sample has `share` shares in the `budget`, and at least the time
/// `shortest`. Calls `after_each` after
/// every turn. Returns the outcome of each sampler.
///
/// # Errors
///
/// The first wrong answer of a sampler that ends the run with it.
pub(crate) fn run_rounds(
    samplers: &mut [&mut dyn Sampler],
    rounds: usize,
    budget: &mut Budget,
    (share, shortest): (f64, Duration),
    mut after_each: impl FnMut(),
) -> Result<Vec<Outcome>, WrongAnswer> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for sampler in samplers.iter_mut() {
        match sampler.rehearse() {
            Err(wrong) if sampler.ends_the_run() => return Err(wrong),
            rehearsal => outcomes.push(rehearsal.map(|()| Vec::new())),
        }
    }
    let mut overheads = vec![Duration::ZERO; samplers.len()];
    for round in 0..rounds {
        for turn in 0..samplers.len() {
            let which = if round % 2 == 0 { turn } else { samplers.len() - 1 - turn };
            let slice = budget.slice(share, overheads[which], shortest);
            if let Ok(series) = &mut outcomes[which] {
                let begun = Instant::now();
                match samplers[which].sample(slice) {
                    Ok(readings) => file(series, readings),
                    Err(wrong) if samplers[which].ends_the_run() => return Err(wrong),
                    Err(wrong) => outcomes[which] = Err(wrong),
                }
                overheads[which] = begun.elapsed().saturating_sub(slice.measured);
            }
            after_each();
        }
    }
    Ok(outcomes)
}

fn file(series: &mut Vec<Series>, readings: Vec<Reading>) {
    for Reading { case, metric, value, curve } in readings {
        match series.iter_mut().find(|one| (one.case, one.metric) == (case, metric)) {
            Some(one) => {
                one.samples.push(value);
                one.curves.extend(curve);
            }
            None => {
                let curves = curve.into_iter().collect();
                series.push(Series { case, metric, samples: vec![value], curves });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::measure::SHORTEST;

    const SHARE: (f64, Duration) = (1.0, SHORTEST);

    struct Scribe<'a> {
        name: char,
        log: &'a RefCell<String>,
        fails: bool,
        is_guest: bool,
    }

    impl Sampler for Scribe<'_> {
        fn ends_the_run(&self) -> bool {
            !self.is_guest
        }

        fn rehearse(&mut self) -> Result<(), WrongAnswer> {
            self.log.borrow_mut().push(self.name.to_ascii_lowercase());
            Ok(())
        }

        fn sample(&mut self, _slice: Slice) -> Result<Vec<Reading>, WrongAnswer> {
            self.log.borrow_mut().push(self.name);
            if self.fails {
                return Err(WrongAnswer("wrong".into()));
            }
            let so_far = self.log.borrow().len() as f64;
            Ok(vec![Reading::new("case", Metric::OpsPerS, so_far)])
        }
    }

    fn scribe(name: char, log: &RefCell<String>, fails: bool) -> Scribe<'_> {
        Scribe { name, log, fails, is_guest: false }
    }

    #[test]
    fn turns_are_interleaved_and_reversed_from_round_to_round() {
        let log = RefCell::default();
        let mut scribes = ['A', 'B', 'C'].map(|name| scribe(name, &log, false));
        let mut samplers: Vec<&mut dyn Sampler> =
            scribes.iter_mut().map(|scribe| scribe as &mut dyn Sampler).collect();
        let mut budget = Budget::new(Duration::ZERO, 9.0, None);
        let mut samples = 0;
        let series = run_rounds(&mut samplers, 3, &mut budget, SHARE, || samples += 1).unwrap();
        assert_eq!(log.borrow().as_str(), "abcABCCBAABC");
        assert_eq!(samples, 9);
        assert_eq!(series[0].as_ref().unwrap()[0].samples, [4.0, 9.0, 10.0]);
    }

    #[test]
    fn a_wrong_answer_ends_the_run() {
        let log = RefCell::default();
        let mut right = scribe('A', &log, false);
        let mut wrong = scribe('B', &log, true);
        let mut budget = Budget::new(Duration::ZERO, 1.0, None);
        let end = run_rounds(&mut [&mut right, &mut wrong], 5, &mut budget, SHARE, || {});
        assert_eq!(end, Err(WrongAnswer("wrong".into())));
        assert_eq!(log.borrow().as_str(), "abAB");
    }

    #[test]
    fn a_wrong_answer_of_a_guest_withdraws_it_and_the_others_go_on() {
        let log = RefCell::default();
        let mut right = scribe('A', &log, false);
        let mut wrong = Scribe { is_guest: true, ..scribe('B', &log, true) };
        let mut budget = Budget::new(Duration::ZERO, 1.0, None);
        let outcomes =
            run_rounds(&mut [&mut right, &mut wrong], 3, &mut budget, SHARE, || {}).unwrap();
        assert_eq!(outcomes[0].as_ref().unwrap()[0].samples.len(), 3);
        assert_eq!(outcomes[1], Err(WrongAnswer("wrong".into())));
        assert_eq!(log.borrow().as_str(), "abABAA");
    }
}
