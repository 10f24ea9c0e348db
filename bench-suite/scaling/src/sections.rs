//! The paths of read sections: entering and leaving one, for both flavours and barrier kinds,
//! without grace periods and beside a CPU that waits for them without pause.

use super::machine::run;
use super::measured::Measured;
use memalloc::rcu::{BarrierKind, Domain, FlavourKind};

/// Sections of each worker before counting.
const WARM_UP: usize = 64;
/// Sections of each worker while counting.
const COUNTED: usize = 256;

/// Counts sections of a flavour; `grace_periods` adds the CPU that waits for grace periods.
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
