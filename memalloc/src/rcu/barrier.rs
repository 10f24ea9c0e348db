//! The asymmetric barrier between the readers and the grace periods of one flavour.
//!
//! A reader's half is [`Barrier::light`], a grace period's half [`Barrier::heavy`]. The thread
//! whose half comes second in time sees every store that the other thread made before its own half.
//! In [`PLAIN`] mode the light half is free and the heavy half interrupts the processors that run
//! threads of this process; in [`FENCED`] mode both are SeqCst fences. An adaptive barrier changes
//! its mode while readers enter and leave.
//!
//! - MEM-N1: a reader loads the mode after it announced itself. So a reader that saw `PLAIN` before
//!   a membarrier has announced itself before that barrier, and every other reader sees what was
//!   stored before the barrier.
//! - MEM-N2: the mode becomes `FENCED` only after a membarrier since it was `PLAIN`, and `PLAIN`
//!   only after a SeqCst fence since it was `FENCED`. In between it is `SETTLING`: readers fence,
//!   and grace periods call membarrier.
//! - MEM-N3: only the driver of a grace period changes the mode (MEM-R4).

use crate::broken::{self, Fault};
use crate::sync::{AtomicU32, Ordering, Tally, fence};
use crate::sys::membarrier::{self, BarrierKind};
use crate::sys::thread;
use crossbeam_utils::CachePadded;
use std::sync::atomic::Ordering::Relaxed;

/// Readers do not fence; grace periods call membarrier.
const PLAIN: u32 = 0;
/// Readers fence, and grace periods still call membarrier.
const SETTLING: u32 = 1;
/// Readers fence, and a grace period needs only its own fence.
const FENCED: u32 = 2;

/// The number of membarriers between two judgements of their cost.
const BARRIERS_PER_JUDGEMENT: u64 = 8;

/// Switch to fences when membarriers take more than 1/`MOST_SHARE` of the time.
const MOST_SHARE: u64 = 50;

/// Switch back to membarriers when they would take less than 1/`LEAST_SHARE` of the time.
const LEAST_SHARE: u64 = 200;

/// The least time over which grace periods are counted before a switch back to membarriers, in
/// nanoseconds.
const PATIENCE_NS: u64 = 200_000_000;

/// A thread adds its looks to the shared count after this many. A prime, because a thread counts
/// the looks at all domains together and may use several domains in turn.
#[cfg(not(loom))]
const LOOKS_PER_NOTE: u64 = 61;

/// The assumed cost of a membarrier until one was measured, in nanoseconds.
const FIRST_PRICE_NS: u64 = 10_000;

/// The price of a membarrier once the system has refused one. It outweighs any time.
const REFUSED_PRICE_NS: u64 = u64::MAX / LEAST_SHARE;

#[derive(Debug)]
pub(super) struct Barrier {
    kind: BarrierKind,
    mode: CachePadded<AtomicU32>,
    costs: CachePadded<Costs>,
}

/// The costs of a domain's barriers. These are amounts, which order nothing.
#[derive(Debug)]
struct Costs {
    /// The start of the judgement under way, in nanoseconds of `thread::clock`.
    since: Tally,
    /// Nanoseconds spent in membarrier since then.
    spent: Tally,
    /// Grace periods since then and, while readers fence, looks that needed no driver.
    passes: Tally,
    /// The average cost of a membarrier, in nanoseconds.
    price: Tally,
    /// The number of times the mode became `FENCED` or `PLAIN`.
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

    /// The requested kind.
    pub(super) fn kind(&self) -> BarrierKind {
        self.kind
    }

    /// The kind in force: `Membarrier` or `Fence`.
    pub(super) fn in_force(&self) -> BarrierKind {
        match self.kind {
            BarrierKind::Fence => BarrierKind::Fence,
            _ if self.mode.load(Relaxed) == FENCED => BarrierKind::Fence,
            _ => BarrierKind::Membarrier,
        }
    }

    /// The number of changes of the kind in force.
    pub(super) fn switches(&self) -> u64 {
        self.costs.switches.load(Relaxed)
    }

    /// The reader's half: after a reader announced itself, before it loads what it protects.
    #[inline(always)]
    pub(super) fn light(&self) {
        #[cfg(not(any(loom, miri)))]
        {
            // ORDERING: keeps the load of the mode behind the announcement (MEM-N1). Falls to
            // `loom_protocol` "mode before the announcement".
            crate::sync::compiler_fence(Ordering::SeqCst);
            // ORDERING: Acquire pairs with the Release in `give_fences_up`: a reader that no longer
            // fences sees what was unlinked before a look that still relied on its fence. Falls to
            // `loom_protocol` "mode loaded relaxed".
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

    /// The grace period's half: after unlinking, before the scan for readers. Calls
    /// `others_may_read` after this thread's own fence; without a reader on another thread, no
    /// membarrier is needed. Only the driver calls it.
    ///
    /// Returns `false` if the system refused the membarrier: a scan proves nothing then.
    pub(super) fn heavy(&self, others_may_read: impl FnOnce() -> bool) -> bool {
        // ORDERING: pairs with `light`, and with the fence of a thread that becomes a reader. With
        // membarrier the fence orders this thread, and the system call orders every other. Falls to
        // `loom_protocol` "heavy barrier removed".
        fence(Ordering::SeqCst);
        if self.is_fenced() {
            self.costs.passes.fetch_add(1, Relaxed);
            self.judge_fences();
            return true;
        }
        !others_may_read() || self.expedite()
    }

    /// Returns whether a thread that has executed a SeqCst fence can see every reader that
    /// announced itself, and every other reader sees what that thread stored before the fence.
    #[inline(always)]
    pub(super) fn is_fenced(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `take_fences`: readers that did not fence
        // have announced themselves before (MEM-N1, MEM-N2). Falls to `loom_protocol`
        // "look at the mode relaxed".
        self.kind == BarrierKind::Fence || self.mode.load(Ordering::Acquire) == FENCED
    }

    /// Counts a look that needed no driver. Returns whether it is time to drive a grace period
    /// once, so that fences are given up if grace periods are rare.
    #[inline]
    pub(super) fn note_look(&self) -> bool {
        #[cfg(not(loom))]
        if self.kind == BarrierKind::Adaptive {
            use std::cell::Cell;

            crate::sync::thread_local! { static LOOKS: Cell<u64> = const { Cell::new(0) } }
            let looks = LOOKS.with(|own| {
                own.set(own.get().wrapping_add(1));
                own.get()
            });
            if looks.is_multiple_of(LOOKS_PER_NOTE) && self.mode.load(Relaxed) == FENCED {
                self.costs.passes.fetch_add(LOOKS_PER_NOTE, Relaxed);
                return now().saturating_sub(self.costs.since.load(Relaxed)) >= PATIENCE_NS;
            }
        }
        false
    }

    /// Calls membarrier, and switches to fences if it costs too much or the system refuses it.
    /// Returns `false` if the switch failed too.
    fn expedite(&self) -> bool {
        let begun = now();
        if !membarrier::expedite() {
            // No barrier is cheap from now on, so fences are never given up again.
            self.costs.price.store(REFUSED_PRICE_NS, Relaxed);
            return self.take_fences();
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

    /// Makes readers fence from now on. Returns `false` if the system refused the membarrier.
    #[cold]
    fn take_fences(&self) -> bool {
        let without = broken::leaves_out(Fault::SwitchBarrier);
        self.mode.store(SETTLING, Relaxed);
        // ORDERING: the membarrier separates the store above from what follows: every reader that
        // enters later sees the store, and all others have announced themselves before (MEM-N1).
        // The call includes this thread's own fence. A visit to every CPU orders as much. Falls to
        // `loom_protocol` "switch without membarrier".
        if !without && !membarrier::expedite() && !membarrier::visit_every_cpu() {
            self.mode.store(PLAIN, Relaxed);
            return false;
        }
        // ORDERING: Release pairs with the Acquire in `is_fenced`. Falls to nothing:
        // `loom_protocol` "FENCED relaxed" is covered by the end of the membarrier.
        self.mode.store(FENCED, Ordering::Release);
        self.costs.switches.fetch_add(1, Relaxed);
        true
    }

    /// Gives fences up if grace periods were so rare that membarriers would cost less than
    /// 1/`LEAST_SHARE` of the time.
    fn judge_fences(&self) {
        if self.kind != BarrierKind::Adaptive {
            return;
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
        // ORDERING: pairs with the fence of a thread that looks without a barrier: either that
        // thread sees that it must not rely on fences, or a reader that sees `PLAIN` sees what that
        // thread unlinked. Falls to `loom_protocol` "back without its fence".
        fence(Ordering::SeqCst);
        // ORDERING: Release pairs with the Acquire in `light`. Falls to nothing: `loom_protocol`
        // "PLAIN relaxed" is covered by the fence above.
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
