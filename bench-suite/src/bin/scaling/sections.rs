//! Read sections: entering and leaving, of both flavours and barrier kinds, alone and beside a CPU
//! that waits for grace periods all the time.

use super::machine::run;
use super::measured::Measured;
use memalloc::rcu::{BarrierKind, Domain, FlavourKind};

/// Sections of a worker, before it counts and after.
const WARM_UP: usize = 64;
const COUNTED: usize = 256;

/// Counts sections of a flavour.
pub(crate) fn measure(
    flavour: FlavourKind,
    barrier: BarrierKind,
    grace_periods: bool,
    workers: usize,
) -> Measured {
    let build = || Domain::builder().barrier_kind(barrier).build().expect("the machine has both");
    let is_rcu = flavour == FlavourKind::Rcu;
    let outcome = run((workers, usize::from(grace_periods)), 1, build, |domain, cpu| {
        if cpu.number() >= workers {
            cpu.accompany(|| {
                let waited =
                    if is_rcu { domain.synchronize() } else { domain.trace().synchronize() };
                waited.expect("outside of sections");
            });
        } else if is_rcu {
            cpu.work(WARM_UP, COUNTED, || drop(domain.pin()));
        } else {
            cpu.work(WARM_UP, COUNTED, || drop(domain.pin_trace()));
        }
    });
    Measured::of(outcome, workers, COUNTED)
}
