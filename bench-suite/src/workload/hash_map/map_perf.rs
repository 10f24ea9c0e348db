//! The bench `map-perf`: the speed of updates and deletions in a hash map, modelled on the kernel's
//! `map_perf_test`, and where the time goes.
//!
//! An operation sets the value of one of the thread's own keys, looks it up, and deletes it.
//!
//! The shares are found by elimination: a sample runs the table as it is; again with elements that
//! are reused at once; and again with elements that each thread keeps for itself, which is the
//! table alone. The extra time of the second over the third is the allocator's share, that of the
//! first over the second is the share of grace periods. Time is the CPU time of the threads. A
//! negative share is shown as zero.

use std::marker::PhantomData;

use memalloc::{Immediate, ReusePolicy};

use super::map::{Map, Task};
use super::ours::{Batched, Callbacks, Table};
use super::recycled::Recycling;
use super::threads::{Plan, run};
use super::{Bench, ForMap, oversubscribed, subjects};
use crate::measure::{Metric, NoReadings, Reading, SHORTEST, Sampler, Slice};
use crate::workload::reader::Reader;
use crate::workload::{Params, Selection, Workload, threads_in_words};

/// The name of the bench.
pub(crate) const BENCH: &str = "map-perf";

/// The cases.
pub(crate) const CASES: &[&str] = &[UPDATE_DELETE];

const UPDATE_DELETE: &str = "update-delete";

/// Bytes of a value, as in the kernel's test.
const VALUE_SIZE: usize = 8;

/// Returns the workloads of the bench.
pub(crate) fn workloads<'d>(selection: &Selection, has_kernel: bool) -> Vec<Workload<'d>> {
    let wanted = selection.threads.iter().filter(|_| selection.wants(UPDATE_DELETE));
    wanted
        .map(|&threads| Workload {
            bench: BENCH,
            title: format!("{UPDATE_DELETE}, {}", threads_in_words(threads)),
            keys: None,
            threads,
            share: 1.0,
            looks_up_only: false,
            shortest: SHORTEST,
            subjects: subjects(Setting { threads }, selection, has_kernel),
        })
        .collect()
}

/// The case with its parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) threads: usize,
}

impl Setting {
    fn plan(self) -> Plan {
        let (task, threads) = (Task::UpdateAndDelete, self.threads);
        Plan { task, threads, value_size: VALUE_SIZE, reader: Reader::None }
    }
}

impl Bench for Setting {
    fn sampler<'d, M: Map + 'd>(self) -> Box<dyn Sampler + 'd> {
        Box::new(ForMap::<_, M>::new(self))
    }

    fn batched<'d, P: ReusePolicy>(self) -> Box<dyn Sampler + 'd> {
        Box::new(WithShares::<Batched<P>> {
            plan: self.plan(),
            defers: P::PROTECTS_IDENTITY,
            map: PhantomData,
        })
    }

    fn one_by_one<'d, const SLEEPABLE: bool>(self) -> Box<dyn Sampler + 'd> {
        Box::new(WithShares::<Callbacks<SLEEPABLE>> {
            plan: self.plan(),
            defers: true,
            map: PhantomData,
        })
    }

    fn params(self) -> Params {
        let mut params = Params::new();
        params.insert("oversubscribed".into(), oversubscribed(self.threads, Reader::None).into());
        params
    }

    fn reader(self) -> Reader {
        Reader::None
    }
}

impl<M: Map> Sampler for ForMap<Setting, M> {
    /// All checks are part of the samples.
    fn rehearse(&mut self) -> Result<(), NoReadings> {
        Ok(())
    }

    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, NoReadings> {
        let outcome = run::<M>(self.setting.plan(), slice)?;
        Ok(outcome.readings(UPDATE_DELETE, Reader::None))
    }
}

/// A sampler that also measures where the time goes.
struct WithShares<M> {
    plan: Plan,
    /// True if there are grace periods.
    defers: bool,
    map: PhantomData<fn() -> M>,
}

impl<M: Map> Sampler for WithShares<M> {
    fn rehearse(&mut self) -> Result<(), NoReadings> {
        Ok(())
    }

    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, NoReadings> {
        let plan = self.plan;
        let third = slice.part(3);
        let outcome = run::<M>(plan, third)?;
        let all = outcome.ops_per_cpu_s();
        let immediate = match self.defers {
            true => run::<Batched<Immediate>>(plan, third)?.ops_per_cpu_s(),
            false => all,
        };
        let alone = run::<Table<Recycling>>(plan, third)?.ops_per_cpu_s();
        let mut readings = outcome.readings(UPDATE_DELETE, Reader::None);
        readings.extend(shares(all, immediate, alone));
        Ok(readings)
    }
}

/// Returns the shares, from the speeds of the whole, without grace periods, and of the table alone.
pub(super) fn shares(all: f64, immediate: f64, alone: f64) -> [Reading; 3] {
    // The time of one operation, relative to that of the whole.
    let time = |speed: f64| all / speed.max(f64::MIN_POSITIVE);
    let parts = [
        (Metric::TableShare, time(alone)),
        (Metric::AllocatorShare, time(immediate) - time(alone)),
        (Metric::GracePeriodShare, 1.0 - time(immediate)),
    ];
    parts.map(|(metric, part)| Reading::new(UPDATE_DELETE, metric, part.clamp(0.0, 1.0)))
}
