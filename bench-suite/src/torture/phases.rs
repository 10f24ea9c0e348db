//! The phases of a run, in an order that its seed decides.
//!
//! Each setting (CPU mode, barrier, policy, …) has a shuffle bag of its values. So a few phases
//! cover every value of every setting, and many phases cover their combinations.

use std::fmt;
use std::time::Duration;

use memalloc::rcu::BarrierKind;
use memalloc::{CpuMode, PolicyKind};

/// The duration of a phase.
pub(super) const LENGTH: Duration = Duration::from_millis(500);

/// The mix of activities in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mix {
    /// All activities except forks and switches.
    Everything,
    /// Mostly readers, which sleep, nest, stall and pass their guards on.
    Readers,
    /// Mostly replacing and freeing objects at full speed.
    Flood,
    /// Mostly CPU caches: allocating, freeing, and visits from other CPUs.
    Caches,
    /// Only the trie: transient keys beside stable ones.
    Trie,
    /// Mostly short-lived threads and signals.
    ShortThreads,
    /// Forks beside busy threads.
    Forks,
    /// Only adaptive barriers that change their kind. All other threads sleep. A change without its
    /// membarrier shows if a reader's announcement is on its way for longer than a writer takes to
    /// change the kind, replace an object and look for readers; `switches` describes this window,
    /// and makes the announcement late.
    Switches,
}

impl Mix {
    const ALL: [Self; 8] = [
        Self::Everything,
        Self::Readers,
        Self::Flood,
        Self::Caches,
        Self::Trie,
        Self::ShortThreads,
        Self::Forks,
        Self::Switches,
    ];
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Everything => "everything",
            Self::Readers => "readers",
            Self::Flood => "flood",
            Self::Caches => "caches",
            Self::Trie => "trie",
            Self::ShortThreads => "short-lived threads",
            Self::Forks => "forks",
            Self::Switches => "switches",
        })
    }
}

/// The settings of one phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    /// Its number in the run.
    pub(super) number: u64,
    /// The seed of its threads' random numbers.
    pub(super) seed: u64,
    /// The CPU mode of the allocators.
    pub(super) mode: CpuMode,
    /// The barrier of the domain.
    pub(super) barrier: BarrierKind,
    /// The policy of the objects, and of the trie's leaves.
    pub(super) policy: PolicyKind,
    /// True if published objects are freed by `free_rcu`, under any policy.
    pub(super) uses_free_rcu: bool,
    /// True if the trie's branches are reused at once, so that its readers validate.
    pub(super) validated: bool,
    /// True if the trie keeps hints.
    pub(super) hints: bool,
    /// True if caches hold very few objects, and little memory may be pending.
    pub(super) small: bool,
    /// The mix of activities.
    pub(super) mix: Mix,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, mode, barrier, policy, mix, .. } = self;
        write!(
            f,
            "phase {number}: --cpu-mode {mode}, barrier {barrier}, --policy {policy}{}, {} branches, \
             hints {}, {} caches, mostly {mix}",
            if self.uses_free_rcu { " with free_rcu" } else { "" },
            if self.validated { "validated" } else { "deferred" },
            if self.hints { "on" } else { "off" },
            if self.small { "small" } else { "default" },
        )
    }
}

/// The settings that a run chooses from, its seed and its first phase.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    /// The seed of the run.
    pub(crate) seed: u64,
    /// The number of the first phase.
    pub(crate) first: u64,
    /// The CPU modes.
    pub(crate) modes: Vec<CpuMode>,
    /// The policies.
    pub(crate) policies: Vec<PolicyKind>,
    /// The mixes.
    mixes: Vec<Mix>,
    /// True if some phases have no hints.
    without_hints: bool,
}

impl Choices {
    /// Creates choices of these modes and policies, with all mixes.
    pub(crate) fn new(
        seed: u64,
        first: u64,
        modes: Vec<CpuMode>,
        policies: Vec<PolicyKind>,
    ) -> Self {
        Self { seed, first, modes, policies, mixes: Mix::ALL.to_vec(), without_hints: true }
    }

    /// Leaves out the phases in which a fault cannot show, or only rarely.
    #[cfg(feature = "broken")]
    pub(crate) fn focus_on(&mut self, fault: memalloc::broken::Fault) {
        use memalloc::broken::Fault;
        match fault {
            Fault::Busy => self.modes.retain(|mode| *mode != CpuMode::Rseq),
            Fault::Restart => {
                self.modes.retain(|mode| *mode == CpuMode::Rseq);
                self.mixes = vec![Mix::Caches];
            }
            Fault::SwitchBarrier => self.mixes = vec![Mix::Switches],
            Fault::HintLiveness => {
                self.policies.retain(|policy| *policy != PolicyKind::Immediate);
                (self.mixes, self.without_hints) = (vec![Mix::Trie], false);
            }
            Fault::ForkRepair => self.mixes = vec![Mix::Forks],
            _ => {}
        }
    }
}

/// Generates the phases of a run, without end.
#[derive(Debug)]
pub(super) struct Phases {
    seed: u64,
    number: u64,
    random: fastrand::Rng,
    modes: ShuffleBag<CpuMode>,
    barriers: ShuffleBag<BarrierKind>,
    policies: ShuffleBag<PolicyKind>,
    uses_free_rcu: ShuffleBag<bool>,
    validated: ShuffleBag<bool>,
    hints: ShuffleBag<bool>,
    small: ShuffleBag<bool>,
    mixes: ShuffleBag<Mix>,
}

impl Phases {
    /// Creates the generator, and skips the phases before the first one.
    pub(super) fn new(choices: &Choices) -> Self {
        let barriers = BarrierKind::ALL.iter().copied().filter(|kind| kind.is_supported());
        let mut phases = Self {
            seed: choices.seed,
            number: 0,
            random: fastrand::Rng::with_seed(choices.seed),
            modes: ShuffleBag::new(choices.modes.clone()),
            barriers: ShuffleBag::new(barriers.collect()),
            policies: ShuffleBag::new(choices.policies.clone()),
            uses_free_rcu: ShuffleBag::new(vec![false, false, true]),
            validated: ShuffleBag::new(vec![true, true, false]),
            hints: ShuffleBag::new(if choices.without_hints {
                vec![false, true]
            } else {
                vec![true]
            }),
            small: ShuffleBag::new(vec![false, true]),
            mixes: ShuffleBag::new(choices.mixes.clone()),
        };
        (0..choices.first).for_each(|_| _ = phases.next());
        phases
    }

    /// Returns the next phase.
    pub(super) fn next(&mut self) -> Phase {
        let random = &mut self.random;
        let number = self.number;
        self.number += 1;
        Phase {
            number,
            seed: self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            mode: self.modes.draw(random),
            barrier: self.barriers.draw(random),
            policy: self.policies.draw(random),
            uses_free_rcu: self.uses_free_rcu.draw(random),
            validated: self.validated.draw(random),
            hints: self.hints.draw(random),
            small: self.small.draw(random),
            mix: self.mixes.draw(random),
        }
    }
}

/// A shuffle bag: it returns every value once in a random order, then all of them again in another
/// order.
#[derive(Debug)]
struct ShuffleBag<T> {
    all: Vec<T>,
    left: Vec<T>,
}

impl<T: Copy> ShuffleBag<T> {
    /// Creates a bag of at least one value.
    fn new(all: Vec<T>) -> Self {
        assert!(!all.is_empty(), "a bag has at least one value");
        Self { all, left: Vec::new() }
    }

    /// Returns the next value.
    fn draw(&mut self, random: &mut fastrand::Rng) -> T {
        if self.left.is_empty() {
            self.left.extend(&self.all);
            random.shuffle(&mut self.left);
        }
        self.left.pop().unwrap_or(self.all[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(seed: u64, first: u64) -> Choices {
        let (modes, policies) = (CpuMode::ALL.to_vec(), PolicyKind::ALL.to_vec());
        Choices::new(seed, first, modes, policies)
    }

    fn phases(seed: u64, first: u64, count: usize) -> Vec<Phase> {
        let mut phases = Phases::new(&choices(seed, first));
        (0..count).map(|_| phases.next()).collect()
    }

    #[test]
    fn a_few_phases_cover_every_value_of_every_setting() {
        let all = phases(1, 0, 8);
        for &mode in CpuMode::ALL {
            assert!(all[..3].iter().any(|phase| phase.mode == mode), "{mode}");
        }
        for &policy in PolicyKind::ALL {
            assert!(all[..4].iter().any(|phase| phase.policy == policy), "{policy}");
        }
        for mix in Mix::ALL {
            assert!(all.iter().any(|phase| phase.mix == mix), "{mix}");
        }
    }

    #[test]
    fn a_run_that_begins_at_a_later_phase_has_the_same_phases() {
        assert_eq!(phases(5, 0, 12)[7..], phases(5, 7, 5));
        assert_ne!(phases(5, 0, 12), phases(6, 0, 12));
    }
}
