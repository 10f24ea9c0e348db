//! Repairs the numbers of an allocator in the child of a fork. The objects in the depot are counted
//! again: the child loses the batches that vanished threads held; of a thread in `quiesce`, all
//! that waited. No worker is there to be woken.

use super::stage::ClassDepots;
use super::turn::Turn;
use crate::batch::Pool;
use crate::class::ClassTable;
use crate::sync::Ordering::Relaxed;
use crate::sync::Tally;
use crate::sys::bell::Bells;
use crate::sys::fork::{AtFork, Forking};
use std::sync::Arc;

/// The lists of an allocator and the amounts kept beside them.
#[derive(Debug)]
pub(super) struct Recount {
    classes: ClassTable,
    pool: Arc<Pool>,
    by_class: Arc<ClassDepots>,
    pending_bytes: Arc<Tally>,
    spilled_bytes: Arc<Tally>,
    bells: Arc<Bells>,
    quiescing: Arc<Turn>,
}

impl Recount {
    pub(super) fn new(
        classes: &ClassTable,
        pool: &Arc<Pool>,
        by_class: &Arc<ClassDepots>,
        [pending_bytes, spilled_bytes]: [&Arc<Tally>; 2],
        (bells, quiescing): (&Arc<Bells>, &Arc<Turn>),
    ) -> Self {
        Self {
            classes: classes.clone(),
            pool: pool.clone(),
            by_class: by_class.clone(),
            pending_bytes: pending_bytes.clone(),
            spilled_bytes: spilled_bytes.clone(),
            bells: bells.clone(),
            quiescing: quiescing.clone(),
        }
    }
}

impl AtFork for Recount {
    fn after(&self, fork: &Forking) {
        let Some(survivor) = fork.survivor() else { return };
        let classes = self.by_class.all().iter().zip(self.classes.classes());
        let pending = classes.map(|(depot, class)| {
            depot.free_by_rcu_ttrace.recount(&self.pool);
            depot.waiting_for_gp_ttrace.recount(&self.pool);
            let waiting = depot.waiting_for_gp.recount(&self.pool);
            (waiting + depot.unfinished.recount(&self.pool)) * class.size as u64
        });
        self.pending_bytes.store(pending.sum(), Relaxed);
        // A thread that vanished between an object and its count must not leave bytes for good.
        self.spilled_bytes.store(0, Relaxed);
        self.bells.clear();
        self.quiescing.repair_after_fork(survivor);
    }
}
