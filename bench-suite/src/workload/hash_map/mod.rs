//! Two benches of the kernel on a hash map: [`htab_mem`], which is about memory, and [`map_perf`], which is
//! about speed. Both run on this project's hash table under every policy, with a callback for each element,
//! and on the kernel's own map where `bpf(2)` is permitted.
//!
//! Threads have keys of their own, 64 each, as the producers of the kernel's bench have, and go through them
//! in loops. A value begins with its key.
//!
//! Checked: an addition is of a key that is not there, a deletion of one that is; whatever a reader finds
//! has the value of its key; in the end the map has the keys that it should have, with their values, and
//! nothing else; and of ours every element is free.

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

/// Whether the kernel's map takes part, and if not, a line that says why.
pub(crate) fn kernel_is_left_out() -> Option<String> {
    #[cfg(target_os = "linux")]
    return crate::bpf::permitted()
        .err()
        .map(|refused| format!("kernel is left out: {refused}.\n"));
    #[cfg(not(target_os = "linux"))]
    Some("kernel is left out: it is not Linux.\n".into())
}

/// What records call elements that are freed by a callback each, beside `after-rcu-gp` and beside
/// `after-tasks-trace-gp`.
const CALLBACKS: [(PolicyKind, &str); 2] = [
    (PolicyKind::AfterRcuGp, "memalloc-callbacks"),
    (PolicyKind::AfterTasksTraceGp, "memalloc-callbacks-trace"),
];

/// Makes samplers of a bench for one workload, by the type of the map.
trait Bench: Copy {
    /// The sampler for a map.
    fn sampler<'d, M: Map + 'd>(self) -> Box<dyn Sampler + 'd>;

    /// The same for the table on batches, which may have more to tell.
    fn batched<'d, P: ReusePolicy>(self) -> Box<dyn Sampler + 'd> {
        self.sampler::<Batched<P>>()
    }

    /// The same for the table on callbacks.
    fn one_by_one<'d, const SLEEPABLE: bool>(self) -> Box<dyn Sampler + 'd> {
        self.sampler::<Callbacks<SLEEPABLE>>()
    }

    /// The parameters of its records.
    fn params(self) -> Params;

    /// Who reads beside the threads.
    fn reader(self) -> Reader;
}

/// The subjects of a workload, in the order in which they are shown.
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
        // Nothing bounds what is pending there, so they have no place beside a reader that sits.
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

/// The kernel's map, without and with elements that are allocated at once. It has no place beside a reader
/// that sits: a program of BPF may not.
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

/// Whether there are more threads at work than CPUs.
fn oversubscribed(threads: usize, reader: Reader) -> bool {
    threads + usize::from(reader.wants_cpu()) > available_cpus()
}

/// A sampler by its setting and the map that it is for.
struct ForMap<S, M> {
    setting: S,
    map: PhantomData<fn() -> M>,
}

impl<S, M> ForMap<S, M> {
    fn new(setting: S) -> Self {
        Self { setting, map: PhantomData }
    }
}
