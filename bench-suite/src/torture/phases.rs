//! Phases: what a run goes through, in an order that its seed decides.
//!
//! Each choice (CPU mode, barrier, policy, …) is dealt from a deck of its own, shuffled anew when it is
//! empty. So a few phases have seen every value of every choice, and many have seen their combinations.

use std::fmt;
use std::time::Duration;

use memalloc::rcu::BarrierKind;
use memalloc::{CpuMode, PolicyKind};

/// How long a phase lasts.
pub(super) const LENGTH: Duration = Duration::from_millis(500);

/// What threads do most in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mix {
    /// Some of everything.
    Everything,
    /// Readers that sleep, nest, stall and hand their guards over.
    Readers,
    /// Objects replaced and freed as fast as can be.
    Flood,
    /// The caches of CPUs: small objects in and out, and looks from elsewhere.
    Caches,
    /// Keys that come and go around those that stay.
    Trie,
    /// Threads that come and go, and signals.
    Comings,
    /// Forks beside busy threads.
    Forks,
    /// Adaptive barriers that change their kind, with next to nothing beside.
    Switches,
}

impl Mix {
    const ALL: [Self; 8] = [
        Self::Everything,
        Self::Readers,
        Self::Flood,
        Self::Caches,
        Self::Trie,
        Self::Comings,
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
            Self::Comings => "comings and goings",
            Self::Forks => "forks",
            Self::Switches => "switches",
        })
    }
}

/// One combination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    /// Its number in the run.
    pub(super) number: u64,
    /// Where the random numbers of its threads begin.
    pub(super) seed: u64,
    /// How threads find their caches.
    pub(super) mode: CpuMode,
    /// How readers and grace periods are ordered.
    pub(super) barrier: BarrierKind,
    /// The policy of the objects, and of the trie's leaves.
    pub(super) policy: PolicyKind,
    /// Whether published objects are freed by `free_rcu` whatever the policy.
    pub(super) by_hand: bool,
    /// Whether the trie's branches are reused at once, so that its readers validate.
    pub(super) validated: bool,
    /// Whether the trie keeps hints.
    pub(super) hints: bool,
    /// Whether caches hold next to nothing, and little may be pending.
    pub(super) small: bool,
    /// What threads do most.
    pub(super) mix: Mix,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, mode, barrier, policy, mix, .. } = self;
        write!(
            f,
            "phase {number}: --mode {mode}, barrier {barrier}, --policy {policy}{}, {} branches, hints {}, \
             {} caches, mostly {mix}",
            if self.by_hand { " with free_rcu" } else { "" },
            if self.validated { "validated" } else { "deferred" },
            if self.hints { "on" } else { "off" },
            if self.small { "small" } else { "usual" },
        )
    }
}

/// What a run may choose from, and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    /// The seed of the run.
    pub(crate) seed: u64,
    /// The first phase.
    pub(crate) first: u64,
    /// CPU modes.
    pub(crate) modes: Vec<CpuMode>,
    /// Policies.
    pub(crate) policies: Vec<PolicyKind>,
    /// What threads do most.
    mixes: Vec<Mix>,
    /// Whether there are phases without hints.
    without_hints: bool,
}

impl Choices {
    /// All mixes with these modes and policies.
    pub(crate) fn new(
        seed: u64,
        first: u64,
        modes: Vec<CpuMode>,
        policies: Vec<PolicyKind>,
    ) -> Self {
        Self { seed, first, modes, policies, mixes: Mix::ALL.to_vec(), without_hints: true }
    }

    /// Leaves out the phases in which a fault can't show, or hardly.
    #[cfg(feature = "broken")]
    pub(crate) fn turn_towards(&mut self, fault: memalloc::broken::Fault) {
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

/// The phases of a run, without end.
#[derive(Debug)]
pub(super) struct Phases {
    seed: u64,
    number: u64,
    random: fastrand::Rng,
    modes: Deck<CpuMode>,
    barriers: Deck<BarrierKind>,
    policies: Deck<PolicyKind>,
    by_hand: Deck<bool>,
    validated: Deck<bool>,
    hints: Deck<bool>,
    small: Deck<bool>,
    mixes: Deck<Mix>,
}

impl Phases {
    /// Those of a run, from its first one on.
    pub(super) fn new(choices: &Choices) -> Self {
        let barriers = BarrierKind::ALL.iter().copied().filter(|kind| kind.is_supported());
        let mut phases = Self {
            seed: choices.seed,
            number: 0,
            random: fastrand::Rng::with_seed(choices.seed),
            modes: Deck::new(choices.modes.clone()),
            barriers: Deck::new(barriers.collect()),
            policies: Deck::new(choices.policies.clone()),
            by_hand: Deck::new(vec![false, false, true]),
            validated: Deck::new(vec![true, true, false]),
            hints: Deck::new(if choices.without_hints { vec![false, true] } else { vec![true] }),
            small: Deck::new(vec![false, true]),
            mixes: Deck::new(choices.mixes.clone()),
        };
        (0..choices.first).for_each(|_| _ = phases.next());
        phases
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Phase {
        let random = &mut self.random;
        let number = self.number;
        self.number += 1;
        Phase {
            number,
            seed: self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            mode: self.modes.deal(random),
            barrier: self.barriers.deal(random),
            policy: self.policies.deal(random),
            by_hand: self.by_hand.deal(random),
            validated: self.validated.deal(random),
            hints: self.hints.deal(random),
            small: self.small.deal(random),
            mix: self.mixes.deal(random),
        }
    }
}

/// Values that are dealt until none is left, then all again in another order.
#[derive(Debug)]
struct Deck<T> {
    all: Vec<T>,
    left: Vec<T>,
}

impl<T: Copy> Deck<T> {
    /// Of at least one value.
    fn new(all: Vec<T>) -> Self {
        assert!(!all.is_empty(), "there is something to choose from");
        Self { all, left: Vec::new() }
    }

    fn deal(&mut self, random: &mut fastrand::Rng) -> T {
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
    fn a_few_phases_have_seen_every_value_of_every_choice() {
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
    fn a_run_that_begins_later_has_the_same_phases() {
        assert_eq!(phases(5, 0, 12)[7..], phases(5, 7, 5));
        assert_ne!(phases(5, 0, 12), phases(6, 0, 12));
    }
}
