//! Two benches modelled on the kernel's, on a hash map: [`htab_mem`], which measures memory, and
//! [`map_perf`], which measures speed. Both run on this project's hash table under every policy,
//! with a callback for each element, and on the kernel's own map if `bpf(2)` is permitted.
//!
//! Each thread has 64 keys of its own, like the producers of the kernel's bench, and iterates over
//! them in loops. A value begins with its key.
//!
//! Checked: an added key does not exist before, a deleted key does; a found value is that of its
//! key; at the end the map has exactly the expected keys, with their values; and in our table every
//! element is free.

#[cfg(test)]
mod faulty;
pub(crate) mod htab_mem;
#[cfg(target_os = "linux")]
mod kernel;
mod map;
pub(crate) mod map_perf;
mod ours;
mod recycled;
mod threads;

use std::marker::PhantomData;

use memalloc::{PolicyKind, ReusePolicy};

use super::policy::with_policy;
use super::reader::Reader;
use super::{OnWrong, Params, Selection, Subject};
use crate::measure::{Sampler, available_cpus};
pub(crate) use map::MOST_THREADS;
use map::Map;
use ours::{Batched, Callbacks};

/// Returns `None` if the kernel's map is measured; otherwise a line that says why not.
pub(crate) fn kernel_is_left_out() -> Option<String> {
    #[cfg(target_os = "linux")]
    return crate::bpf::permitted().err().map(|refused| format!("kernel is skipped: {refused}.\n"));
    #[cfg(not(target_os = "linux"))]
    Some("kernel is skipped: this system is not Linux.\n".into())
}

/// The names in records of elements that a callback frees each, next to `after-rcu-gp` and next to
/// `after-tasks-trace-gp`.
const CALLBACKS: [(PolicyKind, &str); 2] = [
    (PolicyKind::AfterRcuGp, "memalloc-callbacks"),
    (PolicyKind::AfterTasksTraceGp, "memalloc-callbacks-trace"),
];

/// Makes the samplers of a bench for one workload, by the type of the map.
trait Bench: Copy {
    /// Returns the sampler for a map.
    fn sampler<'d, M: Map + 'd>(self) -> Box<dyn Sampler + 'd>;

    /// Returns the sampler for the table with batched frees, which may report more.
    fn batched<'d, P: ReusePolicy>(self) -> Box<dyn Sampler + 'd> {
        self.sampler::<Batched<P>>()
    }

    /// Returns the sampler for the table with callbacks.
    fn one_by_one<'d, const SLEEPABLE: bool>(self) -> Box<dyn Sampler + 'd> {
        self.sampler::<Callbacks<SLEEPABLE>>()
    }

    /// Returns the parameters of the records.
    fn params(self) -> Params;

    /// Returns the concurrent reader.
    fn reader(self) -> Reader;
}

/// Returns the subjects of a workload, in the order in which they are shown.
fn subjects<'d>(bench: impl Bench, selection: &Selection, has_kernel: bool) -> Vec<Subject<'d>> {
    let subject = |name, policy, sampler| Subject {
        name,
        policy,
        params: bench.params(),
        on_wrong: OnWrong::EndTheRun,
        sampler,
    };
    let mut subjects: Vec<Subject<'d>> = Vec::new();
    for &policy in &selection.policies {
        let sampler = with_policy!(policy, P => bench.batched::<P>());
        subjects.extend(sampler.map(|sampler| subject("memalloc", Some(policy), sampler)));
    }
    for (policy, name) in CALLBACKS {
        // Pending callbacks are not bounded, so these are not measured with a stalled reader.
        if selection.policies.contains(&policy) && !bench.reader().sits() {
            let sampler = match policy {
                PolicyKind::AfterTasksTraceGp => bench.one_by_one::<true>(),
                _ => bench.one_by_one::<false>(),
            };
            subjects.push(subject(name, None, sampler));
        }
    }
    if has_kernel {
        subjects.extend(kernel_subjects(bench));
    }
    subjects
}

/// Returns the kernel's map, without and with preallocated elements; nothing with a stalled reader,
/// since a BPF program may not stall.
#[cfg(target_os = "linux")]
fn kernel_subjects<'d>(bench: impl Bench) -> Vec<Subject<'d>> {
    use kernel::Kernel;

    let subject = |prealloc: &str, sampler| {
        let mut params = bench.params();
        params.insert("prealloc".into(), prealloc.into());
        Subject { name: "kernel", policy: None, params, on_wrong: OnWrong::EndTheRun, sampler }
    };
    match bench.reader().sits() {
        true => Vec::new(),
        false => vec![
            subject("no prealloc", bench.sampler::<Kernel<false>>()),
            subject("prealloc", bench.sampler::<Kernel<true>>()),
        ],
    }
}

#[cfg(not(target_os = "linux"))]
fn kernel_subjects<'d>(_bench: impl Bench) -> Vec<Subject<'d>> {
    Vec::new()
}

/// Returns whether there are more working threads than CPUs.
fn oversubscribed(threads: usize, reader: Reader) -> bool {
    threads + usize::from(reader.wants_cpu()) > available_cpus()
}

/// A sampler for a setting and a type of map.
struct ForMap<S, M> {
    setting: S,
    map: PhantomData<fn() -> M>,
}

impl<S, M> ForMap<S, M> {
    fn new(setting: S) -> Self {
        Self { setting, map: PhantomData }
    }
}
