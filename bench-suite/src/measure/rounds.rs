//! Rounds, in each of which every contestant takes one sample, turn by turn.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use super::budget::TURN;
use super::{Budget, Curve, Metric, Reading, Slice};

/// With fewer rounds there is no verdict.
pub(crate) const FEWEST_ROUNDS: usize = 7;

/// An answer that a workload knows to be wrong, as text. It ends the run or withdraws its
/// contestant.
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
    /// Runs once before the rounds, unmeasured, with checks that would disturb a measurement.
    fn rehearse(&mut self) -> Result<(), WrongAnswer>;

    /// Takes one sample, measuring for about the time of `slice`, after its warm-up. Returns the
    /// same cases and metrics in the same order each time.
    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, WrongAnswer>;
}

/// A subject that takes part in rounds.
pub(crate) trait Contestant {
    /// Returns whether a wrong answer ends the run. If not, it only withdraws this contestant.
    fn ends_the_run(&self) -> bool {
        true
    }

    /// Runs once before the rounds: see [`Sampler::rehearse`].
    fn rehearse(&mut self) -> Result<(), WrongAnswer>;

    /// Begins a sample of about the time of `slice`, or continues it by one turn. Returns its
    /// readings with its last turn: the same cases and metrics in the same order each time.
    fn turn(&mut self, slice: Slice) -> Result<Option<Vec<Reading>>, WrongAnswer>;
}

/// The outcome of one contestant: its series, or the wrong answer for which it was withdrawn.
pub(crate) type Outcome = Result<Vec<Series>, WrongAnswer>;

/// The values of one contestant, round by round.
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
/// `shortest`. The samples of a round take turns, if there are several and they can. Calls
/// `after_each` after every sample. Returns the outcome of each contestant.
///
/// # Errors
///
/// The first wrong answer of a contestant that ends the run with it.
pub(crate) fn run_rounds(
    contestants: &mut [&mut dyn Contestant],
    rounds: usize,
    budget: &mut Budget,
    (share, shortest): (f64, Duration),
    mut after_each: impl FnMut(),
) -> Result<Vec<Outcome>, WrongAnswer> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for contestant in contestants.iter_mut() {
        match contestant.rehearse() {
            Err(wrong) if contestant.ends_the_run() => return Err(wrong),
            rehearsal => outcomes.push(rehearsal.map(|()| Vec::new())),
        }
    }
    let mut overhead = Duration::ZERO;
    for round in 0..rounds {
        let mut slice = budget.round(contestants.len(), share, overhead, shortest);
        // Without those that were withdrawn.
        let playing = (0..contestants.len()).filter(|&which| outcomes[which].is_ok());
        let mut playing: VecDeque<usize> =
            if round % 2 == 0 { playing.collect() } else { playing.rev().collect() };
        (playing.len()..contestants.len()).for_each(|_| after_each());
        slice.turn = (playing.len() > 1).then_some(TURN);
        let begun = Instant::now();
        let samples = playing.len() as u32;
        // Each waits for the turns of all others, so none comes back to warmer caches.
        while let Some(which) = playing.pop_front() {
            match contestants[which].turn(slice) {
                Ok(None) => {
                    playing.push_back(which);
                    continue;
                }
                Ok(Some(readings)) => {
                    if let Ok(series) = &mut outcomes[which] {
                        file(series, readings);
                    }
                }
                Err(wrong) if contestants[which].ends_the_run() => return Err(wrong),
                Err(wrong) => outcomes[which] = Err(wrong),
            }
            after_each();
        }
        overhead = (begun.elapsed() / samples.max(1)).saturating_sub(slice.measured);
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
        /// The turns that a sample needs.
        turns: usize,
        taken: usize,
        fails: bool,
        is_guest: bool,
    }

    impl Contestant for Scribe<'_> {
        fn ends_the_run(&self) -> bool {
            !self.is_guest
        }

        fn rehearse(&mut self) -> Result<(), WrongAnswer> {
            self.log.borrow_mut().push(self.name.to_ascii_lowercase());
            Ok(())
        }

        fn turn(&mut self, _slice: Slice) -> Result<Option<Vec<Reading>>, WrongAnswer> {
            self.log.borrow_mut().push(self.name);
            if self.fails {
                return Err(WrongAnswer("wrong".into()));
            }
            self.taken += 1;
            if !self.taken.is_multiple_of(self.turns) {
                return Ok(None);
            }
            let so_far = self.log.borrow().len() as f64;
            Ok(Some(vec![Reading::new("case", Metric::OpsPerS, so_far)]))
        }
    }

    fn scribe(name: char, log: &RefCell<String>, fails: bool) -> Scribe<'_> {
        Scribe { name, log, turns: 1, taken: 0, fails, is_guest: false }
    }

    #[test]
    fn samples_are_interleaved_and_reversed_from_round_to_round() {
        let log = RefCell::default();
        let mut scribes = ['A', 'B', 'C'].map(|name| scribe(name, &log, false));
        let mut contestants: Vec<&mut dyn Contestant> =
            scribes.iter_mut().map(|scribe| scribe as &mut dyn Contestant).collect();
        let mut budget = Budget::new(Duration::ZERO, 9.0, None);
        let mut samples = 0;
        let series = run_rounds(&mut contestants, 3, &mut budget, SHARE, || samples += 1).unwrap();
        assert_eq!(log.borrow().as_str(), "abcABCCBAABC");
        assert_eq!(samples, 9);
        assert_eq!(series[0].as_ref().unwrap()[0].samples, [4.0, 9.0, 10.0]);
    }

    #[test]
    fn samples_of_several_turns_alternate() {
        let log = RefCell::default();
        let mut scribes = [('A', 4), ('B', 3), ('C', 1)]
            .map(|(name, turns)| Scribe { turns, ..scribe(name, &log, false) });
        let mut contestants: Vec<&mut dyn Contestant> =
            scribes.iter_mut().map(|scribe| scribe as &mut dyn Contestant).collect();
        let mut budget = Budget::new(Duration::ZERO, 3.0, None);
        let mut samples = 0;
        let outcomes = run_rounds(&mut contestants, 1, &mut budget, SHARE, || samples += 1);
        assert_eq!(log.borrow().as_str(), "abcABCABABA");
        assert_eq!((samples, outcomes.unwrap().len()), (3, 3));
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
