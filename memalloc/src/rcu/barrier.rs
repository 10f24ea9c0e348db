//! The asymmetric barrier between the readers and the grace periods of one flavour.
//!
//! A reader's half is [`Barrier::light`], a grace period's half [`Barrier::heavy`]: whichever of a
//! pair comes second in time sees every store that the other thread made before its own half. In
//! [`PLAIN`] mode the light half is free and the heavy half interrupts the processors that run
//! threads of this process; in [`FENCED`] mode both are SeqCst fences. An adaptive barrier changes
//! its mode while readers enter and leave.
//!
//! - INV-N1: a reader looks at the mode after it announced itself. So a reader that saw `PLAIN`
//!   before a membarrier has announced itself before that barrier, and every other reader sees
//!   what was stored before the barrier.
//! - INV-N2: the mode is `FENCED` only after a membarrier since it was `PLAIN`, and `PLAIN` only
//!   after a SeqCst fence since it was `FENCED`. In between it is `SETTLING`: readers fence, and
//!   grace periods call membarrier.
//! - INV-N3: the mode is changed by the driver of a grace period only (INV-R4).

use crate::broken::{self, Fault};
use crate::sync::{AtomicU32, Ordering, Tally, fence};
use crate::sys::membarrier::{self, BarrierKind};
use crate::sys::thread;
use crossbeam_utils::CachePadded;
use std::sync::atomic::Ordering::Relaxed;

/// Readers do not fence; grace periods call membarrier.
const PLAIN: u32 = 0;
/// Readers fence; grace periods call membarrier all the same.
const SETTLING: u32 = 1;
/// Readers fence; a grace period's own fence is enough.
const FENCED: u32 = 2;

/// Barriers between two judgements of what they cost.
const BARRIERS_PER_JUDGEMENT: u64 = 8;

/// Fences are taken when barriers take more than one part in this many of the time, and
const MOST_SHARE: u64 = 50;

/// given up when barriers would take less than one part in this many.
const LEAST_SHARE: u64 = 200;

/// The least time over which grace periods are counted before fences are given up, in nanoseconds.
const PATIENCE_NS: u64 = 200_000_000;

/// Looks between two additions to the count that all threads share: a prime, since a thread that takes
/// several domains in turn looks for all of them.
#[cfg(not(loom))]
const LOOKS_PER_NOTE: u64 = 61;

/// What a membarrier takes until one was measured, in nanoseconds.
const FIRST_PRICE_NS: u64 = 10_000;

#[derive(Debug)]
pub(super) struct Barrier {
    kind: BarrierKind,
    mode: CachePadded<AtomicU32>,
    costs: CachePadded<Costs>,
}

/// What the barriers of a domain cost. Amounts, which order nothing.
#[derive(Debug)]
struct Costs {
    /// When the judgement under way began, in nanoseconds of `thread::clock`.
    since: Tally,
    /// Nanoseconds in membarrier, and grace periods, since then.
    spent: Tally,
    passes: Tally,
    /// What a membarrier takes, on average, in nanoseconds.
    price: Tally,
    /// How often the mode became `FENCED` or `PLAIN`.
    switches: Tally,
}

impl Barrier {
    pub(super) fn new(kind: BarrierKind) -> Self {
        let mode = if kind == BarrierKind::Fence { FENCED } else { PLAIN };
        let costs = Costs {
            since: Tally::new(0),
            spent: Tally::new(0),
            passes: Tally::new(0),
            price: Tally::new(FIRST_PRICE_NS),
            switches: Tally::new(0),
        };
        Self { kind, mode: CachePadded::new(AtomicU32::new(mode)), costs: CachePadded::new(costs) }
    }

    /// The kind that was asked for.
    pub(super) fn kind(&self) -> BarrierKind {
        self.kind
    }

    /// The kind in force: `Membarrier` or `Fence`.
    pub(super) fn in_force(&self) -> BarrierKind {
        match self.kind {
            BarrierKind::Adaptive if self.mode.load(Relaxed) != FENCED => BarrierKind::Membarrier,
            BarrierKind::Adaptive => BarrierKind::Fence,
            kind => kind,
        }
    }

    /// How often the kind in force has changed.
    pub(super) fn switches(&self) -> u64 {
        self.costs.switches.load(Relaxed)
    }

    /// The reader's half: after a reader announced itself, before it loads what it protects.
    #[inline(always)]
    pub(super) fn light(&self) {
        #[cfg(not(any(loom, miri)))]
        {
            // ORDERING: keeps the look behind the announcement (INV-N1). Falls to `loom_protocol`
            // "mode before the announcement".
            crate::sync::compiler_fence(Ordering::SeqCst);
            // ORDERING: Acquire pairs with the Release in `give_fences_up`: a reader that does not
            // fence any more sees what was unlinked before a look that still trusted its fence.
            // Falls to `loom_protocol` "mode loaded relaxed".
            if self.mode.load(Ordering::Acquire) == PLAIN {
                // ORDERING: pairs with `heavy`, which acts as a fence on behalf of the reader. If
                // the announcement comes first, the scan after `heavy` sees it; if `heavy` comes
                // first, the reader's loads see every unlinking store before it. Falls to
                // `loom_protocol` "light barrier removed, membarrier".
                return crate::sync::compiler_fence(Ordering::SeqCst);
            }
        }
        // ORDERING: pairs with the SeqCst fence in `heavy`; the two cases are as above. Falls to
        // `loom_protocol` "light barrier removed".
        fence(Ordering::SeqCst);
    }

    /// The heavy half: after unlinking, before looking for readers. `others_may_read` is asked
    /// behind this thread's own fence whether there is a reader on another thread at all. Only the
    /// driver calls it.
    ///
    /// `false` when the system could not do it: nothing may be concluded then.
    pub(super) fn heavy(&self, others_may_read: impl FnOnce() -> bool) -> bool {
        // ORDERING: pairs with `light`, and with the fence of a thread that becomes a reader. With
        // membarrier the fence orders this thread itself, the system call every other. Falls to
        // `loom_protocol` "heavy barrier removed".
        fence(Ordering::SeqCst);
        if self.is_fenced() {
            self.costs.passes.fetch_add(1, Relaxed);
            self.judge_fences();
            return true;
        }
        !others_may_read() || self.expedite()
    }

    /// Whether every reader that announced itself can be seen by a thread that has executed a
    /// SeqCst fence, and every other reader sees what that thread stored before.
    #[inline(always)]
    pub(super) fn is_fenced(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `take_fences`: readers that did not fence
        // have announced themselves before (INV-N1, INV-N2). Falls to `loom_protocol` "look at
        // the mode relaxed".
        self.kind == BarrierKind::Fence || self.mode.load(Ordering::Acquire) == FENCED
    }

    /// Counts a look that needed no driver, and says whether it is time to drive once, so that
    /// fences are given up if nobody needs them.
    #[inline]
    pub(super) fn note_look(&self) -> bool {
        #[cfg(not(loom))]
        if self.kind == BarrierKind::Adaptive {
            std::thread_local! {
                static LOOKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
            }
            let looks = LOOKS.get().wrapping_add(1);
            LOOKS.set(looks);
            if looks.is_multiple_of(LOOKS_PER_NOTE) && self.mode.load(Relaxed) == FENCED {
                self.costs.passes.fetch_add(LOOKS_PER_NOTE, Relaxed);
                return now().saturating_sub(self.costs.since.load(Relaxed)) >= PATIENCE_NS;
            }
        }
        false
    }

    /// A membarrier, and what follows from its price. `false` when the system refused it.
    fn expedite(&self) -> bool {
        let begun = now();
        if !membarrier::expedite() {
            return false;
        }
        if self.kind != BarrierKind::Adaptive {
            return true;
        }
        let (costs, ended) = (&*self.costs, now());
        let took = ended.saturating_sub(begun);
        let price = costs.price.load(Relaxed);
        costs.price.store(price - price / 8 + took / 8, Relaxed);
        let spent = costs.spent.fetch_add(took, Relaxed) + took;
        let count = costs.passes.fetch_add(1, Relaxed) + 1;
        if count < BARRIERS_PER_JUDGEMENT {
            return true;
        }
        let elapsed = ended.saturating_sub(costs.since.load(Relaxed));
        costs.begin_judgement(ended);
        spent.saturating_mul(MOST_SHARE) < elapsed || self.take_fences()
    }

    /// Has readers fence from now on. `false` when the system refused the barrier.
    #[cold]
    fn take_fences(&self) -> bool {
        let without = broken::lingers(&[Fault::SwitchBarrier]);
        self.mode.store(SETTLING, Relaxed);
        // ORDERING: the membarrier stands between the store above, which every reader that enters
        // later sees, and the announcements of all others (INV-N1). Its own fence is in the call.
        // Falls to `loom_protocol` "switch without membarrier".
        if !without && !membarrier::expedite() {
            self.mode.store(PLAIN, Relaxed);
            return false;
        }
        // ORDERING: Release pairs with the Acquire in `is_fenced`.
        self.mode.store(FENCED, Ordering::Release);
        self.costs.switches.fetch_add(1, Relaxed);
        true
    }

    /// Gives fences up if grace periods have been so rare that barriers would cost next to nothing.
    fn judge_fences(&self) {
        if self.kind != BarrierKind::Adaptive {
            return;
        }
        if broken::leaves_out(Fault::SwitchBarrier) {
            // So that it is switched all the time.
            return self.give_fences_up();
        }
        let (costs, now) = (&*self.costs, now());
        let elapsed = now.saturating_sub(costs.since.load(Relaxed));
        if elapsed < PATIENCE_NS {
            return;
        }
        let would_take = costs.passes.load(Relaxed).saturating_mul(costs.price.load(Relaxed));
        costs.begin_judgement(now);
        if would_take.saturating_mul(LEAST_SHARE) < elapsed {
            self.give_fences_up();
        }
    }

    #[cold]
    fn give_fences_up(&self) {
        self.mode.store(SETTLING, Relaxed);
        // ORDERING: pairs with the fence of a thread that looks without a barrier: either it sees
        // that fences are not to be trusted, or a reader that sees `PLAIN` sees what that thread
        // unlinked. Falls to `loom_protocol` "back without its fence".
        fence(Ordering::SeqCst);
        // ORDERING: Release pairs with the Acquire in `light`.
        self.mode.store(PLAIN, Ordering::Release);
        self.costs.switches.fetch_add(1, Relaxed);
    }

    /// In the child of a fork: no reader is left that could have seen another mode.
    pub(super) fn repair_after_fork(&self) {
        if self.mode.load(Relaxed) == SETTLING {
            self.mode.store(PLAIN, Relaxed);
        }
    }
}

impl Costs {
    fn begin_judgement(&self, now: u64) {
        self.since.store(now, Relaxed);
        self.spent.store(0, Relaxed);
        self.passes.store(0, Relaxed);
    }
}

fn now() -> u64 {
    thread::clock().as_nanos() as u64
}
