//! Finds where the answer flips: along one number of the shape at a time, by bisection.

use memalloc::PolicyKind;

use super::{Choice, Judgement};

/// A number of the shape that varies while all others stay the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    LongerSections,
    ShorterSections,
    LongerStalls,
    ShorterStalls,
    SmallerBudget,
    LargerBudget,
    MoreUpdates,
    FewerUpdates,
}

impl Axis {
    /// Returns whether the number becomes smaller.
    pub(crate) fn goes_down(self) -> bool {
        match self {
            Self::ShorterSections
            | Self::ShorterStalls
            | Self::SmallerBudget
            | Self::FewerUpdates => true,
            Self::LongerSections | Self::LongerStalls | Self::LargerBudget | Self::MoreUpdates => {
                false
            }
        }
    }
}

/// The outcome of a measurement at one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opinion {
    Take(PolicyKind),
    Either,
    NoneFits,
    CannotTell,
}

impl Opinion {
    /// Reduces a judgement to its outcome.
    pub(crate) fn of(judgement: &Judgement) -> Self {
        match judgement.choice {
            Choice::Take { policy, .. } => Self::Take(policy),
            Choice::Either(_) => Self::Either,
            Choice::NoneFits => Self::NoneFits,
            Choice::CannotTell { .. } => Self::CannotTell,
        }
    }
}

/// The result of a search along an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Flip {
    pub(crate) axis: Axis,
    /// The answer is the same up to here.
    pub(crate) held_to: f64,
    /// The answer is different from here on.
    pub(crate) flipped_at: Option<(f64, Opinion)>,
    /// The first point without an answer; between it and `flipped_at` the answer is unknown.
    pub(crate) cannot_tell_at: Option<f64>,
}

/// Searches from a number at which the answer is `base` to `end`, with at most `questions`
/// measurements. `None` if the first one gives no answer.
pub(crate) fn search<E>(
    axis: Axis,
    base: Opinion,
    from: f64,
    end: f64,
    questions: usize,
    mut ask: impl FnMut(f64) -> Result<Option<Opinion>, E>,
) -> Result<Option<Flip>, E> {
    let mut flip = Flip { axis, held_to: from, flipped_at: None, cannot_tell_at: None };
    let mut point = end;
    for question in 0..questions {
        let Some(opinion) = ask(point)? else {
            return Ok((question > 0).then_some(flip));
        };
        match opinion {
            opinion if opinion == base => flip.held_to = point,
            Opinion::CannotTell => flip.cannot_tell_at = Some(point),
            other => {
                flip.flipped_at = Some((point, other));
                // The part without an answer is before the flip.
                flip.cannot_tell_at = None;
            }
        }
        let Some(edge) = flip.cannot_tell_at.or(flip.flipped_at.map(|(at, _)| at)) else {
            // The answer is the same at the end: points in between are not measured.
            return Ok(Some(flip));
        };
        point = (flip.held_to * edge).sqrt();
    }
    Ok(Some(flip))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const BASE: Opinion = Opinion::Take(PolicyKind::Immediate);
    const OTHER: Opinion = Opinion::Take(PolicyKind::AfterRcuGp);

    fn found(questions: usize, ask: impl Fn(f64) -> Option<Opinion>) -> Option<Flip> {
        let ask = |point| Ok::<_, Infallible>(ask(point));
        let Ok(flip) = search(Axis::LongerSections, BASE, 1.0, 10_000.0, questions, ask);
        flip
    }

    #[test]
    fn a_border_is_enclosed() {
        let flip = found(8, |point| Some(if point < 40.0 { BASE } else { OTHER })).unwrap();
        let (at, other) = flip.flipped_at.unwrap();
        assert!(flip.held_to < 40.0 && at >= 40.0 && at / flip.held_to < 1.2, "{flip:?}");
        assert_eq!((other, flip.cannot_tell_at), (OTHER, None));
    }

    #[test]
    fn an_answer_that_holds_at_the_end_is_measured_once() {
        let asked = std::cell::Cell::new(0);
        let flip = found(8, |_| {
            asked.set(asked.get() + 1);
            Some(BASE)
        });
        let flip = flip.unwrap();
        assert_eq!((flip.held_to, flip.flipped_at, asked.get()), (10_000.0, None, 1));
    }

    #[test]
    fn a_part_without_an_answer_is_between_known_answers() {
        let flip = found(8, |point| {
            Some(match point {
                point if point < 30.0 => BASE,
                point if point < 300.0 => Opinion::CannotTell,
                _ => OTHER,
            })
        });
        let flip = flip.unwrap();
        assert!(flip.held_to < 30.0, "{flip:?}");
        assert!(
            flip.cannot_tell_at.unwrap() >= 30.0 && flip.flipped_at.unwrap().0 >= 300.0,
            "{flip:?}"
        );
    }

    #[test]
    fn a_search_goes_down_as_well_as_up_and_ends_when_time_runs_out() {
        let ask = |point| Ok::<_, Infallible>(Some(if point > 12.0 { BASE } else { OTHER }));
        let Ok(flip) = search(Axis::SmallerBudget, BASE, 100.0, 1.0, 6, ask);
        let flip = flip.unwrap();
        assert!(flip.held_to > 12.0 && flip.flipped_at.unwrap().0 <= 12.0, "{flip:?}");
        assert_eq!(found(8, |_| None), None);
        let early = found(8, |point| (point > 9000.0).then_some(OTHER)).unwrap();
        assert_eq!((early.held_to, early.flipped_at), (1.0, Some((10_000.0, OTHER))));
    }
}
