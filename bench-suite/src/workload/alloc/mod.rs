//! The bench `alloc`: allocating and freeing, with concurrent readers of one kind or none.
//!
//! An operation is one allocation and one free. `hot-pair` frees each object at once; `batch-64`
//! allocates 64 objects, then frees them, oldest first; `producer-consumer` frees on another
//! thread. A stamp is written into the first 8 bytes of each object and compared before the free: a
//! real program writes to its objects, too, and an object that was handed out twice is detected.
//!
//! `memalloc` frees as its policy says: at once, or after a grace period (`free_rcu`). Other
//! allocators have no policy: they free at once, and do not protect readers.

mod allocator;
mod held_objects;
mod opaque;
mod producer_consumer;
mod ring;
#[cfg(feature = "rivals")]
mod rivals;

use std::alloc::Layout;
use std::hint::black_box;

use memalloc::{MemAlloc, PolicyKind, ReusePolicy};

use super::policy::with_policy;
use super::reader::{Member, Reader, sit};
use super::{OnWrong, Params, Selection, Subject, Workload, threads_in_words};
use crate::measure::{
    CutOff, Gate, HeldBytes, Metric, NoReadings, Reading, Sampler, Slice, Team, Throughput, Worker,
    WrongAnswer, available_cpus,
};
use allocator::{Allocator, SystemMalloc};
use held_objects::{HeldObjects, one_by_one};

/// The name of the bench.
pub(crate) const BENCH: &str = "alloc";

/// The cases, in the order in which they run.
pub(crate) const CASES: &[&str] = &[HOT_PAIR, BATCH_64, PRODUCER_CONSUMER];

/// Frees each object at once.
const HOT_PAIR: &str = "hot-pair";
/// Allocates 64 objects, then frees them.
const BATCH_64: &str = "batch-64";
/// Frees on another thread; needs two threads.
pub(crate) const PRODUCER_CONSUMER: &str = "producer-consumer";

/// Allocations between two reads of the clock, and objects of a batch.
const STRIDE: usize = 64;

/// Returns the workloads of the bench for objects of these sizes.
pub(crate) fn workloads<'d>(
    selection: &Selection,
    sizes: &[usize],
    readers: &[Reader],
) -> Vec<Workload<'d>> {
    selection.workloads(CASES, PRODUCER_CONSUMER, sizes, readers, |case, size, reader, threads| {
        workload(Setting { case, size, reader, threads }, selection)
    })
}

fn workload<'d>(setting: Setting, selection: &Selection) -> Workload<'d> {
    let mut subjects: Vec<Subject<'d>> = Vec::new();
    for &policy in &selection.policies {
        subjects.extend(with_policy!(policy, P => memalloc_under::<P>(setting)));
    }
    subjects.push(setting.rival(SystemMalloc::NAME, allocator::system_version(), SystemMalloc));
    subjects.extend(glibc_without_trimming(setting));
    if selection.rivals {
        subjects.extend(rivals(setting));
    }
    let Setting { case, size, reader, threads } = setting;
    Workload {
        bench: BENCH,
        title: format!("{case}, {size} bytes, {}, reader {reader}", threads_in_words(threads)),
        keys: None,
        threads,
        share: reader.share(),
        looks_up_only: false,
        shortest: reader.shortest_sample(),
        subjects,
    }
}

/// Returns glibc's allocator as a program can tune it: it keeps free memory at the top of its heap.
/// By default, memory above 128 KiB is returned to the system and faulted in again. The setting
/// applies to the whole process, which takes one sample.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn glibc_without_trimming<'d>(setting: Setting) -> Option<Subject<'d>> {
    let mut subject = setting.subject("glibc-no-trim", None, || match allocator::stop_trimming() {
        true => Ok(SystemMalloc),
        false => Err(CutOff::Refused("glibc refused to keep its heap untrimmed".into()).into()),
    });
    subject.params.insert("version".into(), allocator::system_version().into());
    Some(subject)
}

/// See the version for glibc.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn glibc_without_trimming<'d>(_setting: Setting) -> Option<Subject<'d>> {
    None
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

fn memalloc_under<'d, P: ReusePolicy>(setting: Setting) -> Subject<'d> {
    setting.subject("memalloc", Some(P::KIND), || {
        MemAlloc::<P>::with_policy()
            .map_err(|error| CutOff::refused("building an allocator", error).into())
    })
}

#[derive(Clone, Copy, Debug)]
struct Setting {
    case: &'static str,
    size: usize,
    reader: Reader,
    threads: usize,
}

impl Setting {
    fn subject<'d, S: Allocator + 'd>(
        self,
        name: &'static str,
        policy: Option<PolicyKind>,
        build: impl Fn() -> Result<S, NoReadings> + 'd,
    ) -> Subject<'d> {
        let mut params = Params::new();
        params.insert("size".into(), self.size.into());
        params.insert("reader".into(), self.reader.to_string().into());
        let at_work = self.threads + usize::from(self.reader.wants_cpu());
        params.insert("oversubscribed".into(), (at_work > available_cpus()).into());
        let sampler = Box::new(AllocSampler { setting: self, build });
        Subject { name, policy, params, on_wrong: OnWrong::EndTheRun, sampler }
    }

    /// Returns a subject for an allocator that exists once in the whole process.
    fn rival<'d, S: Allocator + Copy + 'd>(
        self,
        name: &'static str,
        version: String,
        allocator: S,
    ) -> Subject<'d> {
        let mut subject = self.subject(name, None, move || Ok(allocator));
        subject.params.insert("version".into(), version.into());
        subject
    }

    /// Returns a team of working threads, and the reader if there is one.
    fn team<'s, S: Allocator, W: Worker>(
        self,
        allocator: &'s S,
        workers: impl Iterator<Item = W>,
    ) -> Team<Member<W, ReaderThread<'s, S>>> {
        let reads = ReaderThread { allocator, reader: self.reader };
        let reads = self.reader.has_thread().then_some(Member::Reads(reads));
        workers.map(Member::Works).chain(reads).collect()
    }
}

/// Prepares the calling thread for a stretch of work.
fn enter<S: Allocator>(allocator: &S, may_read: bool) {
    allocator.enter();
    if may_read {
        allocator.register_reader();
    }
}

/// A thread that enters and leaves read sections, or stalls in them.
struct ReaderThread<'s, S> {
    allocator: &'s S,
    reader: Reader,
}

impl<S: Allocator> Worker for ReaderThread<'_, S> {
    /// Counts sections.
    fn work(&mut self, gate: &Gate) -> u64 {
        let mut sections = 0;
        loop {
            if let Reader::Stall(milliseconds) | Reader::Sleep(milliseconds) = self.reader {
                self.allocator.section(|| sit(milliseconds, gate));
                sections += 1;
            } else {
                for _ in 0..STRIDE {
                    self.allocator.section(|| black_box(()));
                }
                sections += STRIDE as u64;
            }
            if !gate.is_open() {
                return sections;
            }
        }
    }
}

/// Runs a case with a new allocator each time.
struct AllocSampler<B> {
    setting: Setting,
    build: B,
}

impl<S: Allocator, B: Fn() -> Result<S, NoReadings>> Sampler for AllocSampler<B> {
    /// All checks are part of the samples.
    fn rehearse(&mut self) -> Result<(), NoReadings> {
        Ok(())
    }

    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, NoReadings> {
        let size = self.setting.size;
        let layout = Layout::from_size_align(size, 16)
            .map_err(|error| WrongAnswer(format!("{size} bytes: {error}")))?;
        let before = producer_consumer::resident_before();
        let allocator = (self.build)()?;
        let readings = match self.setting.case {
            HOT_PAIR | BATCH_64 => run(self.setting, layout, &allocator, slice),
            _ => producer_consumer::run(self.setting, layout, &allocator, slice, before),
        }?;
        allocator.close()?;
        Ok(readings)
    }
}

/// Runs threads that allocate and free.
fn run<S: Allocator>(
    setting: Setting,
    layout: Layout,
    allocator: &S,
    slice: Slice,
) -> Result<Vec<Reading>, NoReadings> {
    let users = (0..setting.threads as u64).map(|number| User {
        allocator,
        layout,
        may_read: setting.reader != Reader::None,
        batch: (setting.case == BATCH_64).then(|| HeldObjects::new(allocator, layout)),
        stamp: number << 48,
        fault: None,
    });
    let mut team = setting.team(allocator, users);
    let mut held = HeldBytes::default();
    let throughput = team.run_for(setting.reader.slice(slice), || {
        if let Some(bytes) = allocator.held_bytes() {
            held.note(bytes);
        }
    })?;
    if let Some(fault) = team.iter_mut().find_map(|one| one.worker()?.fault.take()) {
        return Err(fault.into());
    }
    let mut readings = readings(setting, &throughput);
    readings.extend(held.readings(setting.case));
    Ok(readings)
}

/// Returns the speed and cost of all threads together.
fn readings(setting: Setting, throughput: &Throughput) -> Vec<Reading> {
    let Setting { case, reader, threads, .. } = setting;
    let per_second = throughput.per_second(throughput.operations()[..threads].iter().sum());
    let mut readings = vec![
        Reading::new(case, Metric::OpsPerS, per_second),
        Reading::new(case, Metric::NsPerOp, threads as f64 * 1e9 / per_second.max(1.0)),
    ];
    // A stalled reader sleeps: it does not want a CPU.
    if !reader.sits() {
        readings.extend(throughput.cpu_share(case));
    }
    readings
}

/// A thread that allocates and frees.
struct User<'s, S: Allocator> {
    allocator: &'s S,
    layout: Layout,
    may_read: bool,
    /// The objects of a batch; `None` if each is freed at once.
    batch: Option<HeldObjects<'s, S, STRIDE>>,
    /// The next stamp; the stamps of different threads are far apart.
    stamp: u64,
    fault: Option<WrongAnswer>,
}

impl<S: Allocator> Worker for User<'_, S> {
    fn work(&mut self, gate: &Gate) -> u64 {
        enter(self.allocator, self.may_read);
        let mut done = 0;
        loop {
            let stamps = self.stamp..self.stamp + STRIDE as u64;
            let (served, intact) = match &mut self.batch {
                Some(objects) => (objects.fill(stamps.start), objects.empty(stamps.start)),
                None => one_by_one(self.allocator, self.layout, stamps.clone()),
            };
            if served < STRIDE || intact < STRIDE {
                self.fault.get_or_insert_with(|| fault(served, intact));
            }
            self.stamp = stamps.end;
            done += STRIDE as u64;
            if !gate.is_open() || self.fault.is_some() {
                return done;
            }
        }
    }
}

#[cold]
fn fault(served: usize, intact: usize) -> WrongAnswer {
    WrongAnswer(if served < STRIDE {
        format!("only {served} of {STRIDE} allocations succeeded")
    } else {
        format!("only {intact} of {served} objects still had their stamp")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_case_runs_with_every_reader_under_every_policy() {
        for &case in CASES {
            for reader in [Reader::None, Reader::Idle, Reader::Busy, Reader::Stall(1)] {
                let setting = Setting { case, size: 64, reader, threads: 2 };
                for &policy in PolicyKind::ALL {
                    let mut subject =
                        with_policy!(policy, P => memalloc_under::<P>(setting)).unwrap();
                    let slice = Slice::new(Duration::from_millis(4), None);
                    let readings = subject.sampler.sample(slice).unwrap();
                    assert_eq!(readings[0].metric, Metric::OpsPerS, "{setting:?} {policy}");
                    // In a short sample, one thread of a pair may wait for the other all the time.
                    let counts = readings[0].value > 0.0 || case == PRODUCER_CONSUMER;
                    assert!(counts, "{setting:?} {policy}");
                }
            }
        }
    }
}
