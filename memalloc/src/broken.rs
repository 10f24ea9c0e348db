//! Steps of the protocols that a build with the feature `broken` leaves out on request, to show
//! that `bench-suite torture` notices.
//!
//! Without the feature [`leaves_out`] is a constant `false`, and nothing of this is compiled. A
//! build with the feature and without debug assertions is refused (`lib.rs`), so that no release
//! has it.

/// A step that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Fault {
    /// A deferred free waits for no grace period.
    GracePeriod = 1,
    /// A reader of a trie does not read the parent's slot again.
    ParentSlot,
    /// The count of a branch changes when the branch is reused, not when it is unlinked (F3).
    FrozenCount,
    /// The count of a branch never changes, so that every validation passes.
    NoCount,
    /// A CPU cache that another thread uses is entered all the same.
    Busy,
    /// Entering another CPU's cache does not restart the sequences of that CPU.
    Restart,
    /// A grace period ends without a look at the readers after its barrier.
    LookAgain,
    /// The adaptive barrier takes the readers' fences without a membarrier.
    SwitchBarrier,
    /// A lookup by a hint does not look whether the leaf is linked.
    HintLiveness,
    /// The child of a fork repairs nothing.
    ForkRepair,
    /// A CPU is not recorded as used when its cache is entered first.
    NoteUse,
}

#[cfg(feature = "broken")]
mod chosen {
    use super::Fault;
    use std::cell::Cell;
    use std::fmt;
    use std::sync::atomic::{AtomicU32, Ordering};

    static CHOSEN: AtomicU32 = AtomicU32::new(0);

    /// One visit in this many of a broken place gives the CPU away, and
    const VISITS_PER_YIELD: u32 = 32;

    /// one in this many spins.
    const VISITS_PER_SPIN: u32 = 4;

    /// The longest spin, in turns of a loop: some microseconds.
    const MOST_TURNS: u32 = 256;

    impl Fault {
        /// Every fault.
        pub const ALL: &'static [Self] = &[
            Self::GracePeriod,
            Self::ParentSlot,
            Self::FrozenCount,
            Self::NoCount,
            Self::Busy,
            Self::Restart,
            Self::LookAgain,
            Self::SwitchBarrier,
            Self::HintLiveness,
            Self::ForkRepair,
            Self::NoteUse,
        ];

        fn name(self) -> &'static str {
            match self {
                Self::GracePeriod => "grace-period",
                Self::ParentSlot => "parent-slot",
                Self::FrozenCount => "frozen-count",
                Self::NoCount => "no-count",
                Self::Busy => "busy",
                Self::Restart => "restart",
                Self::LookAgain => "look-again",
                Self::SwitchBarrier => "switch-barrier",
                Self::HintLiveness => "hint-liveness",
                Self::ForkRepair => "fork-repair",
                Self::NoteUse => "note-use",
            }
        }

        /// Leaves this step out, in the whole process, from now on.
        pub fn choose(self) {
            CHOSEN.store(self as u32, Ordering::Relaxed);
        }
    }

    impl fmt::Display for Fault {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.pad(self.name())
        }
    }

    /// Whether the step is left out.
    #[inline(always)]
    pub fn leaves_out(fault: Fault) -> bool {
        CHOSEN.load(Ordering::Relaxed) == fault as u32
    }

    /// Whether one of these is left out. Then the caller is where it shows, and pauses for a random
    /// time. Async-signal-safe.
    #[inline(always)]
    #[expect(clippy::must_use_candidate, reason = "a caller may want the pause only")]
    pub fn lingers(faults: &[Fault]) -> bool {
        let found = faults.iter().any(|&fault| leaves_out(fault));
        if found {
            pause();
        }
        found
    }

    #[cold]
    fn pause() {
        std::thread_local! { static RANDOM: Cell<u32> = const { Cell::new(0x9e37_79b9) }; }
        let mut random = RANDOM.get();
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        RANDOM.set(random);
        if random.is_multiple_of(VISITS_PER_YIELD) {
            std::thread::yield_now();
        } else if random.is_multiple_of(VISITS_PER_SPIN) {
            (0..(random >> 16) % MOST_TURNS).for_each(|_| std::hint::spin_loop());
        }
    }
}

#[cfg(not(feature = "broken"))]
mod chosen {
    use super::Fault;

    /// Whether the step is left out: never.
    #[inline(always)]
    pub const fn leaves_out(_fault: Fault) -> bool {
        false
    }

    /// Never, and takes no time.
    #[inline(always)]
    pub const fn lingers(_faults: &[Fault]) -> bool {
        false
    }
}

pub use chosen::{leaves_out, lingers};
