//! Rounds, in each of which every contestant takes one sample, turn by turn.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::budget::TURN;
use super::{Budget, Curve, Metric, Reading, Slice, signal_name};

/// With fewer rounds there is no verdict.
pub(crate) const FEWEST_ROUNDS: usize = 7;

/// An answer that a workload knows to be wrong, as text. It ends the run or withdraws its
/// contestant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrongAnswer(pub(crate) String);

/// The reason why a run ends early. Its complete rounds remain valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CutOff {
    /// This signal asked for the end.
    Signal(i32),
    /// The system refused a thread or a process: which, and why.
    Refused(String),
}

impl CutOff {
    /// Returns the reason that the system refused what this program did.
    pub(crate) fn refused(doing: &str, error: impl fmt::Display) -> Self {
        Self::Refused(format!("{doing} failed: {error}"))
    }
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "interrupted by {}", signal_name(*signal)),
            Self::Refused(reason) => f.write_str(reason),
        }
    }
}

/// The reason why a contestant has no readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoReadings {
    /// It gave a wrong answer.
    Wrong(WrongAnswer),
    /// The run ends.
    CutOff(CutOff),
}

impl fmt::Display for WrongAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NoReadings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(wrong) => wrong.fmt(f),
            Self::CutOff(cut_off) => cut_off.fmt(f),
        }
    }
}

impl From<WrongAnswer> for NoReadings {
    fn from(wrong: WrongAnswer) -> Self {
        Self::Wrong(wrong)
    }
}

impl From<CutOff> for NoReadings {
    fn from(cut_off: CutOff) -> Self {
        Self::CutOff(cut_off)
    }
}

/// Takes the samples of one subject.
pub(crate) trait Sampler {
    /// Runs once before the rounds, unmeasured, with checks that would disturb a measurement.
    fn rehearse(&mut self) -> Result<(), NoReadings>;

    /// Takes one sample, measuring for about the time of `slice`, after its warm-up. Returns the
    /// same cases and metrics in the same order each time.
    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, NoReadings>;
}

/// A subject that takes part in rounds.
pub(crate) trait Contestant {
    /// Returns whether a wrong answer ends the run. If not, it only withdraws this contestant.
    fn ends_the_run(&self) -> bool {
        true
    }

    /// Runs once before the rounds: see [`Sampler::rehearse`].
    fn rehearse(&mut self) -> Result<(), NoReadings>;

    /// Begins a sample of about the time of `slice`, or continues it by one turn. Returns its
    /// readings with its last turn: the same cases and metrics in the same order each time.
    fn turn(&mut self, slice: Slice) -> Result<Option<Vec<Reading>>, NoReadings>;
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

/// The complete rounds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rounds {
    /// The outcome of each contestant.
    pub(crate) outcomes: Vec<Outcome>,
    /// The number of complete rounds.
    pub(crate) complete: usize,
    /// The reason if there are fewer than wanted.
    pub(crate) cut_off: Option<CutOff>,
}

/// Runs `rounds` rounds; each sample has `share` shares in the `budget`, and at least the time
/// `shortest`. The samples of a round take turns, if there are several and they can. Calls
/// `after_each` after every sample. If the run is cut off, the samples of the incomplete round are
/// dropped.
///
/// # Errors
///
/// The first wrong answer of a contestant that ends the run with it.
pub(crate) fn run_rounds(
    contestants: &mut [&mut dyn Contestant],
    rounds: usize,
    budget: &mut Budget,
    share: (f64, Duration),
    mut after_each: impl FnMut(),
) -> Result<Rounds, WrongAnswer> {
    let outcomes = contestants.iter().map(|_| Ok(Vec::new())).collect();
    let mut all = Rounds { outcomes, complete: 0, cut_off: None };
    let end = all.run(contestants, rounds, budget, share, &mut after_each);
    match end {
        Err(NoReadings::Wrong(wrong)) => return Err(wrong),
        Err(NoReadings::CutOff(cut_off)) => all.cut_off = Some(cut_off),
        Ok(()) => {}
    }
    for series in all.outcomes.iter_mut().flatten().flatten() {
        series.samples.truncate(all.complete);
        series.curves.truncate(all.complete);
    }
    Ok(all)
}

impl Rounds {
    fn run(
        &mut self,
        contestants: &mut [&mut dyn Contestant],
        rounds: usize,
        budget: &mut Budget,
        (share, shortest): (f64, Duration),
        after_each: &mut dyn FnMut(),
    ) -> Result<(), NoReadings> {
        let Self { outcomes, complete, .. } = self;
        for (contestant, outcome) in contestants.iter_mut().zip(&mut *outcomes) {
            match contestant.rehearse() {
                Err(NoReadings::Wrong(wrong)) if !contestant.ends_the_run() => {
                    *outcome = Err(wrong);
                }
                end => end?,
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
                    Err(NoReadings::Wrong(wrong)) if !contestants[which].ends_the_run() => {
                        outcomes[which] = Err(wrong);
                    }
                    end => match (end?, &mut outcomes[which]) {
                        (None, _) => {
                            playing.push_back(which);
                            continue;
                        }
                        (Some(readings), Ok(series)) => file(series, readings),
                        (Some(_), Err(_)) => {}
                    },
                }
                after_each();
            }
            *complete = round + 1;
            overhead = (begun.elapsed() / samples.max(1)).saturating_sub(slice.measured);
        }
        Ok(())
    }
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
        /// The number of turns after which it cuts the run off.
        leaves_after: Option<usize>,
        is_guest: bool,
    }

    impl Contestant for Scribe<'_> {
        fn ends_the_run(&self) -> bool {
            !self.is_guest
        }

        fn rehearse(&mut self) -> Result<(), NoReadings> {
            self.log.borrow_mut().push(self.name.to_ascii_lowercase());
            Ok(())
        }

        fn turn(&mut self, _slice: Slice) -> Result<Option<Vec<Reading>>, NoReadings> {
            self.log.borrow_mut().push(self.name);
            if self.fails {
                return Err(WrongAnswer("wrong".into()).into());
            }
            if self.leaves_after == Some(self.taken) {
                return Err(CutOff::Signal(2).into());
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
        Scribe { name, log, turns: 1, taken: 0, fails, leaves_after: None, is_guest: false }
    }

    #[test]
    fn samples_are_interleaved_and_reversed_from_round_to_round() {
        let log = RefCell::default();
        let mut scribes = ['A', 'B', 'C'].map(|name| scribe(name, &log, false));
        let mut contestants: Vec<&mut dyn Contestant> =
            scribes.iter_mut().map(|scribe| scribe as &mut dyn Contestant).collect();
        let mut budget = Budget::new(Duration::ZERO, 9.0, None);
        let mut samples = 0;
        let all = run_rounds(&mut contestants, 3, &mut budget, SHARE, || samples += 1).unwrap();
        assert_eq!(log.borrow().as_str(), "abcABCCBAABC");
        assert_eq!(samples, 9);
        assert_eq!(all.outcomes[0].as_ref().unwrap()[0].samples, [4.0, 9.0, 10.0]);
        assert_eq!((all.complete, all.cut_off), (3, None));
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
        let all = run_rounds(&mut contestants, 1, &mut budget, SHARE, || samples += 1);
        assert_eq!(log.borrow().as_str(), "abcABCABABA");
        assert_eq!((samples, all.unwrap().outcomes.len()), (3, 3));
    }

    #[test]
    fn a_run_that_is_cut_off_keeps_its_complete_rounds_and_drops_the_others() {
        let log = RefCell::default();
        let mut first = scribe('A', &log, false);
        let mut last = Scribe { leaves_after: Some(2), ..scribe('B', &log, false) };
        let mut budget = Budget::new(Duration::ZERO, 1.0, None);
        let all = run_rounds(&mut [&mut last, &mut first], 5, &mut budget, SHARE, || {}).unwrap();
        assert_eq!(log.borrow().as_str(), "baBAABB");
        assert_eq!((all.complete, all.cut_off), (2, Some(CutOff::Signal(2))));
        let samples = all.outcomes.iter().map(|one| one.as_ref().unwrap()[0].samples.len());
        assert_eq!(samples.collect::<Vec<_>>(), [2, 2]);

        let mut last = Scribe { leaves_after: Some(1), ..scribe('B', &log, false) };
        let all = run_rounds(&mut [&mut first, &mut last], 5, &mut budget, SHARE, || {}).unwrap();
        let samples = all.outcomes.iter().map(|one| one.as_ref().unwrap()[0].samples.len());
        assert_eq!((all.complete, samples.collect::<Vec<_>>()), (1, vec![1, 1]));
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
        let all = run_rounds(&mut [&mut right, &mut wrong], 3, &mut budget, SHARE, || {});
        let outcomes = all.unwrap().outcomes;
        assert_eq!(outcomes[0].as_ref().unwrap()[0].samples.len(), 3);
        assert_eq!(outcomes[1], Err(WrongAnswer("wrong".into())));
        assert_eq!(log.borrow().as_str(), "abABAA");
    }
}
