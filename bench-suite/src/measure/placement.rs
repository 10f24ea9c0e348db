//! The placement of the CPUs, and samples that are compared only with samples of the same
//! placement.
//!
//! A hypervisor moves virtual CPUs between cores that share a core, a cache or only a socket, and
//! an operating system does the same with threads. A cache line then travels between two CPUs at
//! another speed, up to ten times as slow, and so does every workload with several threads. The
//! probe's round trip tells the placement. Subjects meet placements by chance, so a ratio of
//! samples of different placements says nothing about the subjects.

use super::rounds::FEWEST_ROUNDS;

/// Round trips that differ by at most this factor are of the same placement. Those of two
/// placements differ by a factor of two or more.
const ALIKE: f64 = 1.5;

/// The samples of one subject, in the order of the rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed<'s> {
    values: &'s [f64],
    /// The round trip of each sample, in nanoseconds; empty if the placement does not matter.
    round_trips: &'s [Option<f64>],
}

impl<'s> Placed<'s> {
    /// Samples whose placement is known. `round_trips` counts only if it has one for each sample.
    pub(crate) fn of(values: &'s [f64], round_trips: &'s [Option<f64>]) -> Self {
        let round_trips = if values.len() == round_trips.len() { round_trips } else { &[] };
        Self { values, round_trips }
    }

    /// Samples whose placement does not matter or is not known.
    pub(crate) fn anywhere(values: &'s [f64]) -> Self {
        Self { values, round_trips: &[] }
    }

    /// The round trip of each sample, in nanoseconds; empty if the placement does not matter.
    pub(crate) fn round_trips(&self) -> &'s [Option<f64>] {
        self.round_trips
    }

    fn round_trip(&self, round: usize) -> Option<f64> {
        self.round_trips.get(round).copied().flatten()
    }
}

/// Returns whether two round trips are of the same placement. A placement that is not known is like
/// any other.
pub(super) fn is_same(one: Option<f64>, other: Option<f64>) -> bool {
    one.zip(other).is_none_or(|(one, other)| one <= other * ALIKE && other <= one * ALIKE)
}

/// Returns the ratios of the second subject's samples to the first one's, in pairs of the same
/// placement: of the same round if possible, else of the nearest rounds. If fewer than
/// [`FEWEST_ROUNDS`] samples have a partner, the ratios are those of every round. `None` if the
/// samples are not of the same rounds, or if a zero leaves a ratio without meaning.
pub(crate) fn ratios(base: Placed<'_>, other: Placed<'_>) -> Option<Vec<f64>> {
    let rounds = base.values.len();
    let all = base.values.iter().chain(other.values);
    if other.values.len() != rounds || all.clone().any(|&sample| sample <= 0.0) {
        return None;
    }
    // A placement that changed during a sample changed during the others of the round.
    let mut pairs = pairs(base, other);
    if pairs.len() < FEWEST_ROUNDS {
        pairs = (0..rounds).map(|round| (round, round)).collect();
    }
    Some(pairs.into_iter().map(|(one, two)| other.values[two] / base.values[one]).collect())
}

/// Pairs samples of the same placement, those of the nearest rounds first. No sample is in two
/// pairs.
fn pairs(base: Placed<'_>, other: Placed<'_>) -> Vec<(usize, usize)> {
    let mut candidates: Vec<(usize, usize)> = (0..base.values.len())
        .flat_map(|one| (0..other.values.len()).map(move |two| (one, two)))
        .filter(|&(one, two)| is_same(base.round_trip(one), other.round_trip(two)))
        .collect();
    candidates.sort_by_key(|&(one, two)| (one.abs_diff(two), one));
    let (mut ones, mut twos) = (vec![false; base.values.len()], vec![false; other.values.len()]);
    candidates.retain(|&(one, two)| {
        let is_free = !ones[one] && !twos[two];
        if is_free {
            (ones[one], twos[two]) = (true, true);
        }
        is_free
    });
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: Option<f64> = Some(80.0);
    const FAR: Option<f64> = Some(400.0);

    /// The speed of a subject in a placement: cache lines from afar halve it.
    fn speeds(speed: f64, placements: &[Option<f64>]) -> Vec<f64> {
        let at = |placement: &Option<f64>| if *placement == FAR { speed / 2.0 } else { speed };
        placements.iter().map(at).collect()
    }

    #[test]
    fn samples_are_compared_with_those_of_the_same_placement() {
        let (base, other) = (
            [NEAR, NEAR, FAR, NEAR, NEAR, FAR, NEAR, FAR, NEAR],
            [NEAR, FAR, NEAR, NEAR, FAR, FAR, FAR, NEAR, NEAR],
        );
        let (one, two) = (speeds(10.0, &base), speeds(11.0, &other));
        let of = |one, two| ratios(one, two).unwrap();
        let matched = of(Placed::of(&one, &base), Placed::of(&two, &other));
        assert_eq!(matched.len(), 8, "one sample in three placements more has no partner");
        assert!(matched.iter().all(|ratio| (ratio - 1.1).abs() < 1e-9), "{matched:?}");
        let unmatched = of(Placed::anywhere(&one), Placed::anywhere(&two));
        assert!(unmatched.len() == 9 && unmatched.contains(&0.55), "{unmatched:?}");
    }

    #[test]
    fn samples_of_the_same_round_are_partners_if_they_can_be() {
        let trips = [80.0, 100.0, 110.0, 90.0, 85.0, 105.0, 95.0].map(Some);
        let (one, two) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(ratios(Placed::of(&one, &trips), Placed::of(&two, &trips)), Some(vec![1.0; 7]));
    }

    /// Seven is the least for an interval; fewer partners are no base for one.
    #[test]
    fn too_few_partners_leave_every_round() {
        let (base, other) = ([NEAR; 9], [FAR; 9]);
        let (one, two) = (speeds(10.0, &base), speeds(10.0, &other));
        let all = ratios(Placed::of(&one, &base), Placed::of(&two, &other));
        assert_eq!(all, Some(vec![0.5; 9]));
    }

    /// Of a round in which the placement changed, the samples are of a mixture.
    #[test]
    fn mixed_samples_are_partners_of_the_same_round() {
        let mixed = [NEAR, NEAR, None, NEAR, NEAR, NEAR, NEAR, NEAR, NEAR];
        let (one, two) = ([1.0, 1.0, 0.6, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [2.0; 9]);
        let mut same = two;
        same[2] = 1.2;
        let of_a_run = ratios(Placed::of(&one, &mixed), Placed::of(&same, &mixed));
        assert_eq!(of_a_run, Some(vec![2.0; 9]));
    }

    #[test]
    fn there_is_no_ratio_without_the_same_rounds_or_with_zeros() {
        let of = |one: &[f64], two: &[f64]| ratios(Placed::anywhere(one), Placed::anywhere(two));
        assert_eq!(of(&[1.0; 7], &[1.0; 6]), None);
        assert_eq!(of(&[0.0; 7], &[1.0; 7]), None);
        assert_eq!(of(&[1.0; 7], &[0.0; 7]), None);
    }
}
