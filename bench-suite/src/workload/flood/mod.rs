//! The bench `flood`: pending memory while writers retire objects at full speed.
//!
//! Every writer has 64 slots of its own, as every producer of the kernel's bench has its own keys:
//! two writers on the same slots would measure how fast a cache line bounces between CPUs, which is
//! slower than any of the subjects. Readers read all slots. An operation is the life of one object:
//! allocated, stamped, put into a slot, taken out, its stamp compared, and retired.
//!
//! | case | a writer |
//! |---|---|
//! | `overwrite` | swaps a new object into a random slot, and retires the previous one |
//! | `batch-add-batch-del` | fills its 64 slots, then empties them |
//! | `add-del-on-diff-cpu` | fills slots that another thread empties: two threads make a pair |
//!
//! The concurrent readers are a parameter: see [`reader`](super::reader).
//!
//! The time of every 512 updates of a thread is recorded as well: an update that waits for a grace
//! period is not visible in a speed.
//!
//! Memory is the growth of the process since before it built the scheme, the same measure for every
//! subject: free objects in caches, pending objects, and bookkeeping. It includes the stacks of the
//! threads and the pages of the program that they touch, some 300 KiB that are the same for all
//! subjects. The peak comes from the kernel and is exact; the average is over a reading every few
//! milliseconds. Each sample has a separate process, so no sample affects the next.
//!
//! Checked: every object that is taken out has the stamp that was written when it was put in; all
//! objects that were put in come out once, and are free at the end; a reader finds the same object
//! twice if the scheme guarantees that, and always finds a stamp.

mod callbacks;
#[cfg(test)]
mod faulty;
mod group_times;
mod object;
#[cfg(feature = "rivals")]
mod rivals;
mod scheme;
mod slots;
mod threads;

use std::alloc::Layout;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use memalloc::{AfterRcuGp, MemAlloc, PolicyKind, ReusePolicy};

use super::policy::with_policy;
use super::reader::Reader;
use super::{OnWrong, Params, Selection, Subject, Workload, threads_in_words};
use crate::measure::{
    HeldBytes, Metric, NoReadings, Reading, Sampler, Slice, Team, Timeline, WrongAnswer,
    available_cpus, forget_peak, peak_resident_bytes, resident_bytes,
};
use callbacks::Callbacks;
use group_times::GroupTimes;
use scheme::{Memalloc, Scheme};
use slots::{Section, SlotTable};
use threads::{FloodThread, Progress, Task};

/// The name of the bench.
pub(crate) const BENCH: &str = "flood";

/// The cases, in the order in which they run.
pub(crate) const CASES: &[&str] = &[OVERWRITE, BATCH, ADD_DEL];

/// Each writer swaps new objects into its slots.
pub(crate) const OVERWRITE: &str = "overwrite";
const BATCH: &str = "batch-add-batch-del";
const ADD_DEL: &str = "add-del-on-diff-cpu";

/// The case with pairs of threads.
pub(crate) const NEEDS_PAIRS: &str = ADD_DEL;

/// Explains how memory is counted, and its limit.
pub(crate) fn footnote() -> String {
    // Without an allocator there are no samples either.
    let limit = MemAlloc::<AfterRcuGp>::new().map_or(0, |alloc| alloc.stats().max_pending);
    format!(
        "Memory is the growth of each sample's process, the same measure for all\n\
         subjects; some 300 KiB of it are stacks and program. memalloc allows {} KiB of\n\
         pending memory (max_pending). malloc protects no readers and has none: it is\n\
         the upper bound of speed.\n",
        limit >> 10
    )
}

/// The name in records of objects that a callback frees each, next to `after-rcu-gp`.
const CALLBACKS: &str = "memalloc-callbacks";

/// The subjects to measure besides the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lineup {
    /// None.
    Policies,
    /// A callback per object, and the rivals if they are selected.
    Others,
}

/// Returns the workloads of the bench.
pub(crate) fn workloads<'d>(
    selection: &Selection,
    sizes: &[usize],
    readers: &[Reader],
    lineup: Lineup,
) -> Vec<Workload<'d>> {
    selection.workloads(CASES, NEEDS_PAIRS, sizes, readers, |case, size, reader, threads| {
        workload(Setting { case, size, reader, threads }, selection, lineup)
    })
}

fn workload<'d>(setting: Setting, selection: &Selection, lineup: Lineup) -> Workload<'d> {
    let Setting { case, size, reader, threads } = setting;
    let mut subjects: Vec<Subject<'d>> = Vec::new();
    for &policy in &selection.policies {
        subjects.extend(with_policy!(policy, P => setting.ours::<P>()));
    }
    // Pending callbacks are not bounded, so this subject is not measured with a stalled reader.
    let callbacks = lineup == Lineup::Others && !reader.sits();
    if callbacks && selection.policies.contains(&PolicyKind::AfterRcuGp) {
        subjects.push(setting.subject::<Callbacks>(CALLBACKS, None));
    }
    if selection.rivals && lineup == Lineup::Others {
        subjects.extend(rivals(setting));
    }
    Workload {
        bench: BENCH,
        title: format!("{case}, {size} bytes, {}, reader {}", threads_in_words(threads), reader),
        keys: None,
        threads,
        share: reader.share(),
        looks_up_only: false,
        shortest: reader.shortest_sample(),
        subjects,
    }
}

#[cfg(feature = "rivals")]
fn rivals<'d>(setting: Setting) -> Vec<Subject<'d>> {
    rivals::subjects(setting)
}

/// This build has no rivals: the command line has refused `--rivals`.
#[cfg(not(feature = "rivals"))]
fn rivals<'d>(_setting: Setting) -> Vec<Subject<'d>> {
    Vec::new()
}

/// One workload, for every subject.
#[derive(Clone, Copy, Debug)]
struct Setting {
    case: &'static str,
    size: usize,
    reader: Reader,
    /// The number of writers.
    threads: usize,
}

impl Setting {
    fn ours<'d, P: ReusePolicy>(self) -> Subject<'d> {
        self.subject::<Memalloc<P>>("memalloc", Some(P::KIND))
    }

    fn subject<'d, S: Scheme + 'd>(
        self,
        name: &'static str,
        policy: Option<PolicyKind>,
    ) -> Subject<'d> {
        let mut params = Params::new();
        params.insert("size".into(), self.size.into());
        params.insert("reader".into(), self.reader.to_string().into());
        let at_work = self.threads + usize::from(self.reader.wants_cpu());
        params.insert("oversubscribed".into(), (at_work > available_cpus()).into());
        let sampler = Box::new(FloodSampler { setting: self, scheme: PhantomData::<fn() -> S> });
        Subject { name, policy, params, on_wrong: OnWrong::EndTheRun, sampler }
    }

    /// Returns the task of each thread, and its lane.
    fn tasks(self) -> Vec<(Task, usize)> {
        let writer = |number: usize| match self.case {
            OVERWRITE => (Task::Overwrites, number),
            BATCH => (Task::FillsAndEmpties, number),
            _ if number.is_multiple_of(2) => (Task::Adds, number / 2),
            _ => (Task::Deletes, number / 2),
        };
        let reader = match self.reader {
            Reader::None | Reader::Idle => None,
            Reader::Busy => Some((Task::Reads, 0)),
            Reader::Stall(milliseconds) => Some((Task::Sits(Section::Short, milliseconds), 0)),
            Reader::Sleep(milliseconds) => Some((Task::Sits(Section::MaySleep, milliseconds), 0)),
        };
        (0..self.threads).map(writer).chain(reader).collect()
    }
}

/// Runs a case with a new scheme each time.
struct FloodSampler<S> {
    setting: Setting,
    scheme: PhantomData<fn() -> S>,
}

impl<S: Scheme> Sampler for FloodSampler<S> {
    /// All checks are part of the samples.
    fn rehearse(&mut self) -> Result<(), NoReadings> {
        Ok(())
    }

    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, NoReadings> {
        run::<S>(self.setting, slice)
    }
}

fn run<S: Scheme>(setting: Setting, slice: Slice) -> Result<Vec<Reading>, NoReadings> {
    let Setting { case, size, reader, .. } = setting;
    let layout = Layout::from_size_align(size, 8)
        .map_err(|error| WrongAnswer(format!("{size} bytes: {error}")))?;
    let tasks = setting.tasks();
    let lanes = 1 + tasks.iter().map(|(_, lane)| lane).max().copied().unwrap_or(0);
    // Before the memory is looked at: the counters are not part of it.
    let times: Vec<_> =
        tasks.iter().map(|(task, _)| task.is_timed().then(GroupTimes::new)).collect();
    forget_peak();
    let before = resident_bytes();
    let table = SlotTable::new(S::build(layout)?, lanes);
    let may_read = reader != Reader::None;
    let progress: Vec<Progress> = tasks.iter().map(|_| Progress::default()).collect();
    let hire = |(((seed, &(task, lane)), progress), times)| {
        FloodThread::new(&table, task, lane, may_read, seed, progress, times)
    };
    let mut team: Team<_> = (1..).zip(&tasks).zip(&progress).zip(times).map(hire).collect();
    let (mut held, mut timeline) = (HeldBytes::default(), Timeline::default());
    let held_now = || resident_bytes().saturating_sub(before);
    let done_now = || {
        let writers = progress.iter().take(setting.threads);
        writers.map(|done| done.load(Ordering::Relaxed)).sum()
    };
    let throughput = team.run_for(reader.slice(slice), || {
        let bytes = held_now();
        held.note(bytes);
        timeline.note(done_now(), bytes);
    })?;
    if timeline.curves().is_none() {
        // A short sample has only one point: its end is another.
        timeline.note(done_now(), held_now());
    }
    // With all other readers, the speed is constant over time.
    let curves = timeline.curves().filter(|_| reader.sits());
    let (speed_curve, held_curve) = curves.unzip();
    let peak = peak_resident_bytes().saturating_sub(before);

    let (writers, looks) = throughput.operations().split_at(setting.threads);
    let speed = |operations: &[u64]| throughput.per_second(operations.iter().sum());
    let speed_reading = Reading::new(case, Metric::OpsPerS, speed(writers));
    let mut readings = vec![speed_reading.with_curve(speed_curve)];
    if reader == Reader::Busy {
        readings.push(Reading::new(case, Metric::LookupsPerS, speed(looks)));
    }
    if before > 0 {
        readings.extend(held.average(case).map(|average| average.with_curve(held_curve)));
        readings.push(Reading::new(case, Metric::MemPeakBytes, peak as f64));
    }
    // A stalled reader sleeps: it does not want a CPU.
    if !reader.sits() {
        readings.extend(throughput.cpu_share(case));
    }
    let mut times = GroupTimes::new();
    team.iter().filter_map(|one| one.times()).for_each(|more| times.add(more));
    readings.extend(times.readings(case));
    let ledgers: Vec<_> = team.iter_mut().map(FloodThread::ledger).collect();
    drop(team);
    table.close(ledgers.into_iter())?;
    Ok(readings)
}
