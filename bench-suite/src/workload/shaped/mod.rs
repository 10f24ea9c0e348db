//! The bench `advise`: a user's own workload under each policy that is correct for it.
//!
//! The live objects are in slots, one each, whose sizes have the proportions of the shape. Every
//! thread that updates has slots of its own. Its *update* swaps a new object into a random one of
//! them and frees the old one: itself, or, for the share of frees given by the shape, by handing it
//! to the next thread, which runs on another CPU. Its *lookup* enters a section, finds the object
//! in a random slot of all, stays as long as the shape says, and checks it again. A thread does
//! both in the proportion of its share of updates; if the shape limits the frees per second,
//! updates keep that rate, and a thread that is early sleeps. If sections may be long, one more
//! thread stays in a section for the longest time, stays outside for as long, and repeats.
//!
//! If readers may sleep, sections are those of RCU tasks trace (`pin_trace`).
//!
//! Checked: every object that is taken out has the stamp that was written when it was put in, and
//! so has every object that a reader finds; under a policy that protects identity it is the same
//! object at the end of the section. All objects that were put in come out once, and at the end the
//! statistics of the allocator add up.

#[cfg(test)]
mod faulty;
mod heap;
mod objects;
mod threads;

use std::marker::PhantomData;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use memalloc::{PolicyKind, ReusePolicy};

use super::policy::with_policy;
use super::{OnWrong, Params, Subject, Workload};
use crate::measure::{
    HeldBytes, Metric, NoReadings, Reading, SHORTEST, Sampler, Slice, Team, WrongAnswer,
    available_cpus, forget_peak, peak_resident_bytes, resident_bytes,
};
use crate::shape::{Numbers, Plan, Shape};
use heap::{Heap, Memalloc};
use objects::Table;
use threads::{Counts, Latencies, Part, ShapedThread};

/// The name of the bench.
pub(crate) const BENCH: &str = "advise";

/// The only case.
pub(crate) const CASE: &str = "shape";

/// The most objects on their way from one thread to the next.
const INBOX: usize = 1024;

/// The least number of stalls in a sample.
const STALLS: f64 = 2.0;

/// Returns the workload of a shape under some policies; `title` distinguishes it from other shapes
/// of the run.
pub(crate) fn workload<'d>(
    shape: &Shape,
    title: String,
    policies: &[PolicyKind],
    seed: u64,
) -> Workload<'d> {
    let mut subjects = Vec::new();
    for &policy in policies {
        subjects.extend(with_policy!(policy, P => subject::<P>(shape, seed)));
    }
    Workload {
        bench: BENCH,
        title,
        keys: None,
        threads: shape.numbers.threads.count(),
        share: 1.0,
        looks_up_only: false,
        shortest: least_sample(shape).max(SHORTEST),
        subjects,
    }
}

/// Returns the least time of a sample, which has to contain a few of the longest sections.
pub(crate) fn least_sample(shape: &Shape) -> Duration {
    Duration::from_secs_f64(shape.numbers.stall_ms / 1e3 * 2.0 * STALLS)
}

fn subject<'d, P: ReusePolicy>(shape: &Shape, seed: u64) -> Subject<'d> {
    let numbers = &shape.numbers;
    let mut params = Params::new();
    params.insert("sizes".into(), numbers.sizes.to_string().into());
    params.insert("live_objects".into(), numbers.live_objects.into());
    params.insert("updates".into(), numbers.threads.to_string().into());
    params.extend(numbers.frees_per_s.map(|frees| ("frees_per_s".into(), frees.into())));
    params.insert("section_us".into(), numbers.section_us.into());
    params.insert("stall_ms".into(), numbers.stall_ms.into());
    params.insert("other_cpu_frees".into(), numbers.other_cpu_frees.into());
    params.extend(numbers.budget_mib.map(|budget| ("budget_mib".into(), budget.into())));
    params.insert("percentile".into(), numbers.percentile.into());
    params.insert("sleep".into(), shape.demands.sleep.into());
    params.insert("oversubscribed".into(), (numbers.threads.count() > available_cpus()).into());
    let shape = shape.clone();
    let sampler = ShapedSampler::<Memalloc<P>> { shape, seed, heap: PhantomData };
    Subject {
        name: "memalloc",
        policy: Some(P::KIND),
        params,
        on_wrong: OnWrong::EndTheRun,
        sampler: Box::new(sampler),
    }
}

/// Runs a shape with a new allocator each time.
struct ShapedSampler<H> {
    shape: Shape,
    seed: u64,
    heap: PhantomData<fn() -> H>,
}

impl<H: Heap> Sampler for ShapedSampler<H> {
    /// All checks are part of the samples.
    fn rehearse(&mut self) -> Result<(), NoReadings> {
        Ok(())
    }

    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, NoReadings> {
        let slice = Slice { measured: slice.measured.max(least_sample(&self.shape)), ..slice };
        let slice = if takes_turns(&self.shape.numbers) { slice } else { slice.whole() };
        run::<H>(&self.shape, self.seed, slice)
    }
}

/// With longer sections, few of them fit into a turn.
const LONGEST_SECTION_US: f64 = 2000.0;

/// With more live bytes, samples do not take turns, because those of a round are in memory at once.
const MOST_LIVE_BYTES: u64 = 256 << 20;

/// Returns whether samples can take turns. A stall, or the time between two updates, may be longer
/// than a turn.
fn takes_turns(numbers: &Numbers) -> bool {
    numbers.stall_ms == 0.0
        && numbers.frees_per_s.is_none()
        && numbers.section_us <= LONGEST_SECTION_US
        && numbers.live_bytes() <= MOST_LIVE_BYTES
}

/// Returns the part of each thread.
fn parts(shape: &Shape) -> Vec<Part> {
    let numbers = &shape.numbers;
    let shares = numbers.threads.shares();
    let all: f64 = shares.iter().sum();
    let updating = shares.iter().filter(|&&share| share > 0.0).count();
    let mut lanes = 0..updating;
    let mut parts: Vec<Part> = Vec::new();
    for &share in &shares {
        let lane = if share > 0.0 { lanes.next() } else { None };
        let slots = lane.map_or(0..0, |lane| {
            let end = |lane| numbers.live_objects * lane / updating;
            end(lane)..end(lane + 1)
        });
        let pace = numbers.frees_per_s.map(|frees| frees * share / all);
        let section = Duration::from_secs_f64(numbers.section_us / 1e6);
        let handed = numbers.other_cpu_frees;
        parts.push(Part::Works { updates: share, slots, pace, section, handed });
    }
    if shape.demands.readers && numbers.stall_ms > 0.0 {
        parts.push(Part::Sits(Duration::from_secs_f64(numbers.stall_ms / 1e3)));
    }
    parts
}

fn run<H: Heap>(shape: &Shape, seed: u64, slice: Slice) -> Result<Vec<Reading>, NoReadings> {
    let parts = parts(shape);
    let working = shape.numbers.threads.count();
    let table = Table::<H>::new(shape)?;
    let (inboxes, outboxes): (Vec<_>, Vec<_>) =
        (0..working).map(|_| sync_channel(INBOX)).map(|(send, take)| (take, send)).unzip();
    let mut inboxes = inboxes.into_iter();
    let hire = |(number, part): (usize, Part)| {
        // A thread that stalls takes nothing, and hands nothing on.
        let outbox = outboxes[(number + 1) % working].clone();
        let seed = seed ^ (number as u64 + 1) << 32;
        ShapedThread::new(&table, part, inboxes.next(), outbox, seed)
    };
    let mut team: Team<_> = parts.into_iter().enumerate().map(hire).collect();
    forget_peak();
    let before = resident_bytes();
    let mut held = HeldBytes::default();
    let throughput = team.run_for(slice, || held.note(resident_bytes().saturating_sub(before)))?;
    let peak = peak_resident_bytes().saturating_sub(before);

    let mut counts = Counts::default();
    let mut latencies = Latencies::default();
    for thread in team.iter_mut() {
        counts += thread.counts();
        latencies.add(thread.latencies());
        if let Some(fault) = thread.fault() {
            return Err(WrongAnswer(fault).into());
        }
    }
    let reading = |metric, value| Reading::new(CASE, metric, value);
    let done = counts.updates + counts.lookups;
    let asked = (counts.updates + counts.refused).max(1) as f64;
    let mut readings = vec![
        reading(Metric::OpsPerS, throughput.per_second(done)),
        reading(Metric::UpdatesPerS, throughput.per_second(counts.updates)),
        reading(Metric::RefusedShare, counts.refused as f64 / asked),
    ];
    for (metric, value) in latencies.at(shape.numbers.percentile) {
        readings.push(reading(metric, value));
    }
    if before > 0 {
        readings.extend(held.average(CASE));
        readings.push(reading(Metric::MemPeakBytes, peak as f64));
    }
    // Threads that wait for the next update, or for a reader, do not want a CPU.
    if shape.numbers.frees_per_s.is_none() && shape.numbers.stall_ms == 0.0 {
        readings.extend(throughput.cpu_share(CASE));
    }
    let in_transit = team.iter_mut().flat_map(ShapedThread::leave).collect();
    drop(team);
    table.close(in_transit, counts.put, counts.removed)?;
    Ok(readings)
}

/// Returns the plan of the allocator, the same that the user is shown.
fn plan(policy: PolicyKind, shape: &Shape) -> Plan {
    Plan::new(policy, shape)
}
