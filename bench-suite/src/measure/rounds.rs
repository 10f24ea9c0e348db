//! Rounds: everybody in turn, again and again.

use std::fmt;
use std::time::{Duration, Instant};

use super::{Metric, Pace, Reading, Slice};

/// An answer that a workload knows to be wrong. It says which one, and is the end of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrongAnswer(pub(crate) String);

impl WrongAnswer {
    const INTERRUPTED: &str = "interrupted";

    /// None at all: somebody wants the run to end.
    pub(crate) fn interrupted() -> Self {
        Self(Self::INTERRUPTED.into())
    }

    /// Whether it is that.
    pub(crate) fn is_interruption(&self) -> bool {
        self.0 == Self::INTERRUPTED
    }
}

impl fmt::Display for WrongAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes part in rounds.
pub(crate) trait Entrant {
    /// Whether a wrong answer ends the run. If not, it ends only this entrant's part in it.
    fn ends_the_run(&self) -> bool {
        true
    }

    /// Runs once before the rounds, unmeasured, and checks what would disturb a measurement.
    fn rehearse(&mut self) -> Result<(), WrongAnswer>;

    /// Takes one sample, measuring for about as long as `slice` says, after its warm-up. Gives
    /// the same cases and metrics in the same order each time.
    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, WrongAnswer>;
}

/// What came of one entrant: its series, or the wrong answer with which it left the field.
pub(crate) type Outcome = Result<Vec<Series>, WrongAnswer>;

/// What one entrant measured, round by round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    /// The case.
    pub(crate) case: &'static str,
    /// The quantity.
    pub(crate) metric: Metric,
    /// One value for each round.
    pub(crate) samples: Vec<f64>,
}

/// Plays `rounds` rounds; each sample has `share` shares in the budget of `pace`. `after_each`
/// is called after every turn. Gives what came of each entrant.
///
/// # Errors
///
/// The first wrong answer of an entrant that ends the run with it.
pub(crate) fn play(
    entrants: &mut [&mut dyn Entrant],
    rounds: usize,
    pace: &mut Pace,
    share: f64,
    mut after_each: impl FnMut(),
) -> Result<Vec<Outcome>, WrongAnswer> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for entrant in entrants.iter_mut() {
        match entrant.rehearse() {
            Err(wrong) if entrant.ends_the_run() => return Err(wrong),
            rehearsal => outcomes.push(rehearsal.map(|()| Vec::new())),
        }
    }
    let mut overheads = vec![Duration::ZERO; entrants.len()];
    for round in 0..rounds {
        for turn in 0..entrants.len() {
            let which = if round % 2 == 0 { turn } else { entrants.len() - 1 - turn };
            let slice = pace.slice(share, overheads[which]);
            if let Ok(series) = &mut outcomes[which] {
                let begun = Instant::now();
                match entrants[which].sample(slice) {
                    Ok(readings) => file(series, &readings),
                    Err(wrong) if entrants[which].ends_the_run() => return Err(wrong),
                    Err(wrong) => outcomes[which] = Err(wrong),
                }
                overheads[which] = begun.elapsed().saturating_sub(slice.measured);
            }
            after_each();
        }
    }
    Ok(outcomes)
}

fn file(series: &mut Vec<Series>, readings: &[Reading]) {
    for &Reading { case, metric, value } in readings {
        match series.iter_mut().find(|one| (one.case, one.metric) == (case, metric)) {
            Some(one) => one.samples.push(value),
            None => series.push(Series { case, metric, samples: vec![value] }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    struct Scribe<'a> {
        name: char,
        log: &'a RefCell<String>,
        fails: bool,
        is_guest: bool,
    }

    impl Entrant for Scribe<'_> {
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
        let mut entrants: Vec<&mut dyn Entrant> =
            scribes.iter_mut().map(|scribe| scribe as &mut dyn Entrant).collect();
        let mut pace = Pace::new(Duration::ZERO, 9.0, None);
        let mut samples = 0;
        let series = play(&mut entrants, 3, &mut pace, 1.0, || samples += 1).unwrap();
        assert_eq!(log.borrow().as_str(), "abcABCCBAABC");
        assert_eq!(samples, 9);
        assert_eq!(series[0].as_ref().unwrap()[0].samples, [4.0, 9.0, 10.0]);
    }

    #[test]
    fn a_wrong_answer_ends_the_run() {
        let log = RefCell::default();
        let mut right = scribe('A', &log, false);
        let mut wrong = scribe('B', &log, true);
        let mut pace = Pace::new(Duration::ZERO, 1.0, None);
        let end = play(&mut [&mut right, &mut wrong], 5, &mut pace, 1.0, || {});
        assert_eq!(end, Err(WrongAnswer("wrong".into())));
        assert_eq!(log.borrow().as_str(), "abAB");
    }

    #[test]
    fn a_guest_with_a_wrong_answer_leaves_the_field_and_the_others_go_on() {
        let log = RefCell::default();
        let mut right = scribe('A', &log, false);
        let mut wrong = Scribe { is_guest: true, ..scribe('B', &log, true) };
        let mut pace = Pace::new(Duration::ZERO, 1.0, None);
        let outcomes = play(&mut [&mut right, &mut wrong], 3, &mut pace, 1.0, || {}).unwrap();
        assert_eq!(outcomes[0].as_ref().unwrap()[0].samples.len(), 3);
        assert_eq!(outcomes[1], Err(WrongAnswer("wrong".into())));
        assert_eq!(log.borrow().as_str(), "abABAA");
    }
}
