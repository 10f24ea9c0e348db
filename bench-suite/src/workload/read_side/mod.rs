//! The bench `read-side`: the cost of protection for a reader, and the latency of a grace period
//! without readers and with busy readers.

mod enter_leave;
mod grace_period;
#[cfg(feature = "rivals")]
mod rivals;
mod scheme;

use memalloc::rcu::{BarrierKind, Domain};

use super::{OnWrong, Params, Selection, Subject, Workload, threads_in_words};
use crate::measure::{CutOff, NoReadings, Reading, SHORTEST, Sampler, Slice};
use scheme::{Rcu, Trace};

/// The name of the bench.
pub(crate) const BENCH: &str = "read-side";

const RCU: &str = "memalloc-rcu";
const TRACE: &str = "memalloc-trace";

/// The cases, in the order in which they run.
pub(crate) const CASES: &[&str] = &[enter_leave::CASE, grace_period::CASE];

/// Returns the workloads of the bench.
pub(crate) fn workloads<'d>(selection: &Selection) -> Vec<Workload<'d>> {
    let mut workloads = Vec::new();
    if selection.wants(enter_leave::CASE) {
        workloads.extend(selection.threads.iter().map(|&threads| enter_leave(threads, selection)));
    }
    if selection.wants(grace_period::CASE) {
        workloads.extend(selection.threads.iter().map(|&threads| grace_period(threads)));
    }
    workloads
}

fn enter_leave<'d>(threads: usize, selection: &Selection) -> Workload<'d> {
    let mut subjects = Vec::new();
    for barrier in barriers() {
        let rcu = move |slice| enter_leave::run(&Rcu(domain(barrier)?), threads, slice);
        subjects.push(ours(RCU, barrier, Params::new(), rcu));
    }
    for barrier in barriers() {
        let trace = move |slice| enter_leave::run(&Trace(domain(barrier)?), threads, slice);
        subjects.push(ours(TRACE, barrier, Params::new(), trace));
    }
    if selection.rivals {
        subjects.extend(rivals(threads));
    }
    Workload {
        bench: BENCH,
        title: format!("{}, {}", enter_leave::CASE, threads_in_words(threads)),
        keys: None,
        threads,
        share: 1.0,
        looks_up_only: false,
        shortest: SHORTEST,
        subjects,
    }
}

/// Returns the workload in which one thread waits for grace periods and all others read.
fn grace_period<'d>(threads: usize) -> Workload<'d> {
    let reader = if threads > 1 { "busy" } else { "none" };
    let params: Params = [("reader".into(), reader.into())].into_iter().collect();
    let mut subjects = Vec::new();
    for barrier in barriers() {
        let rcu = move |slice| grace_period::run(&Rcu(domain(barrier)?), threads, slice);
        subjects.push(ours(RCU, barrier, params.clone(), rcu));
    }
    for barrier in barriers() {
        let trace = move |slice| grace_period::run(&Trace(domain(barrier)?), threads, slice);
        subjects.push(ours(TRACE, barrier, params.clone(), trace));
    }
    Workload {
        bench: BENCH,
        title: format!("{}, reader {reader}", grace_period::CASE),
        keys: None,
        threads,
        share: 1.0,
        looks_up_only: false,
        shortest: SHORTEST,
        subjects,
    }
}

/// Returns the kinds of barrier that this system supports.
fn barriers() -> impl Iterator<Item = BarrierKind> {
    BarrierKind::ALL.iter().copied().filter(|barrier| barrier.is_supported())
}

fn domain(barrier: BarrierKind) -> Result<Domain, NoReadings> {
    let domain = Domain::builder().barrier_kind(barrier).build();
    domain.map_err(|error| CutOff::refused("building a domain", error).into())
}

fn ours<'d>(
    name: &'static str,
    barrier: BarrierKind,
    mut params: Params,
    sample: impl Fn(Slice) -> Result<Vec<Reading>, NoReadings> + 'd,
) -> Subject<'d> {
    params.insert("barrier".into(), barrier.to_string().into());
    subject(name, params, sample)
}

fn subject<'d>(
    name: &'static str,
    params: Params,
    sample: impl Fn(Slice) -> Result<Vec<Reading>, NoReadings> + 'd,
) -> Subject<'d> {
    let sampler = Box::new(ReadSideSampler(sample));
    Subject { name, policy: None, params, on_wrong: OnWrong::EndTheRun, sampler }
}

#[cfg(feature = "rivals")]
fn rivals<'d>(threads: usize) -> Vec<Subject<'d>> {
    rivals::subjects(threads)
}

/// This build has no rivals: the command line has refused `--rivals`.
#[cfg(not(feature = "rivals"))]
fn rivals<'d>(_threads: usize) -> Vec<Subject<'d>> {
    Vec::new()
}

/// Takes samples by calling a function.
struct ReadSideSampler<P>(P);

impl<P: Fn(Slice) -> Result<Vec<Reading>, NoReadings>> Sampler for ReadSideSampler<P> {
    /// All checks are part of the samples.
    fn rehearse(&mut self) -> Result<(), NoReadings> {
        Ok(())
    }

    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, NoReadings> {
        (self.0)(slice)
    }
}
