//! The bench `signals`: threads allocate and free at full speed, and a timer interrupts each of
//! them many times per second with a handler that allocates and frees from the same caches.
//!
//! An operation is one allocation and one free of the interrupted thread: of 16 to 4096 bytes,
//! freed by the policy, after a grace period, or at once, at random. The thread sometimes makes one
//! of the slow calls. The handler does four operations per signal with objects that are ready
//! (`alloc_nowait`); `would_block_share` is the share of its allocations that would have blocked.
//!
//! Every object carries the number of the side that holds it, so an object that was handed out
//! twice is detected (`duplicated`); objects that are missing after all were freed and all grace
//! periods have passed are `lost`. Either fails the run, and so does a thread that makes no
//! progress for 20 seconds.

#[cfg(test)]
mod faulty;
mod heap;
mod held_objects;
mod interrupted;
pub(crate) mod timer;
mod watchdog;

use std::time::Duration;

use memalloc::{CpuMode, ReusePolicy};

use super::policy::with_policy;
use super::{OnWrong, Params, Selection, Subject, Workload, threads_in_words};
use crate::measure::{Metric, NoReadings, Reading, SHORTEST, Sampler, Slice, Team, WrongAnswer};
use heap::Heap;
use interrupted::{Interrupted, Toll};
use watchdog::{Pulse, guarded};

/// The name of the bench.
pub(crate) const BENCH: &str = "signals";

/// The cases.
pub(crate) const CASES: &[&str] = &[HANDLER];

const HANDLER: &str = "handler";

/// The conclusion of a complete run.
pub(crate) const FOOTNOTE: &str = "\
Nothing was lost, nothing was handed out twice, and no thread deadlocked.
";

/// Returns the workloads of the bench: one for each CPU mode and number of threads.
pub(crate) fn workloads<'d>(
    selection: &Selection,
    modes: &[CpuMode],
    rate_hz: u32,
) -> Vec<Workload<'d>> {
    let mut workloads = Vec::new();
    for &mode in modes.iter().filter(|_| selection.wants(HANDLER)) {
        for &threads in &selection.threads {
            workloads.push(workload(Setting { mode, rate_hz, threads }, selection));
        }
    }
    workloads
}

fn workload<'d>(setting: Setting, selection: &Selection) -> Workload<'d> {
    let Setting { mode, rate_hz, threads } = setting;
    let mut subjects: Vec<Subject<'d>> = Vec::new();
    for &policy in &selection.policies {
        subjects.extend(with_policy!(policy, P => setting.under::<P>()));
    }
    Workload {
        bench: BENCH,
        title: format!("{HANDLER}, {mode}, {rate_hz} Hz, {}", threads_in_words(threads)),
        keys: None,
        threads,
        share: 1.0,
        looks_up_only: false,
        shortest: SHORTEST,
        subjects,
    }
}

#[derive(Clone, Copy, Debug)]
struct Setting {
    mode: CpuMode,
    rate_hz: u32,
    threads: usize,
}

impl Setting {
    fn under<'d, P: ReusePolicy>(self) -> Subject<'d> {
        let mut params = Params::new();
        params.insert("cpu_mode".into(), self.mode.to_string().into());
        params.insert("rate_hz".into(), self.rate_hz.into());
        let build = move || heap::build::<P>(self.mode);
        Subject {
            name: "memalloc",
            policy: Some(P::KIND),
            params,
            on_wrong: OnWrong::EndTheRun,
            sampler: Box::new(SignalsSampler { setting: self, build }),
        }
    }
}

/// Runs the case with a new heap each time.
struct SignalsSampler<B> {
    setting: Setting,
    build: B,
}

impl<H: Heap, B: Fn() -> Result<H, NoReadings>> Sampler for SignalsSampler<B> {
    /// All checks are part of the samples.
    fn rehearse(&mut self) -> Result<(), NoReadings> {
        Ok(())
    }

    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, NoReadings> {
        run(self.setting, (self.build)()?, slice)
    }
}

fn run<H: Heap>(setting: Setting, heap: H, slice: Slice) -> Result<Vec<Reading>, NoReadings> {
    let Setting { rate_hz, threads, .. } = setting;
    let pulses: Vec<Pulse> = (0..threads).map(|_| Pulse::default()).collect();
    let hire = |(number, pulse)| Interrupted::new(&heap, number, rate_hz, pulse);
    let mut team: Team<_> = (0..).zip(&pulses).map(hire).collect();
    // No warm-up is needed, and a deadlock in it would be as fatal.
    // The time between two signals may be longer than a turn.
    let slice = Slice { warm_up: Duration::ZERO, ..slice.whole() };
    let throughput = guarded(&pulses, || team.run_for(slice, || ()))??;

    let mut sum = Toll::default();
    for one in team.iter_mut() {
        let toll = one.close()?;
        sum.strikes += toll.strikes;
        sum.asked += toll.asked;
        sum.refused += toll.refused;
        sum.duplicated += toll.duplicated;
    }
    drop(team);
    let lost = heap.close()?;
    if sum.duplicated > 0 || lost > 0 {
        let Toll { duplicated, .. } = sum;
        let wrong = format!("{lost} objects lost, {duplicated} handed out twice");
        return Err(WrongAnswer(wrong).into());
    }
    let would_block = sum.refused as f64 / sum.asked.max(1) as f64;
    let mut readings = vec![
        Reading::new(HANDLER, Metric::OpsPerS, throughput.per_second(throughput.total())),
        Reading::new(HANDLER, Metric::SignalsPerS, throughput.per_second(sum.strikes)),
        Reading::new(HANDLER, Metric::WouldBlockShare, would_block),
        Reading::new(HANDLER, Metric::Lost, 0.0),
        Reading::new(HANDLER, Metric::Duplicated, 0.0),
    ];
    readings.extend(throughput.cpu_share(HANDLER));
    Ok(readings)
}
