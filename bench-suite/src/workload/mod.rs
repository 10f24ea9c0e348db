//! What is measured.
//!
//! A bench lists its workloads: a case with one set of parameters each, and the subjects that run it
//! in turns. A new bench, case or rival is added here; everything above (rounds, records, tables)
//! takes it as it comes.
//!
//! - INV-W1: a workload checks every answer that it gets. A wrong one is an error that names
//!   it, and no speed comes out: ours ends the run, what others have made leaves the field.
//! - INV-W2: subjects of one workload do the same operations on the same keys in the same
//!   order.

pub(crate) mod alloc;
pub(crate) mod flood;
pub(crate) mod hash_map;
pub(crate) mod malloc_usage;
pub(crate) mod policy;
#[forbid(unsafe_code)]
pub(crate) mod read_side;
#[forbid(unsafe_code)]
pub(crate) mod reader;
#[cfg(feature = "rivals")]
#[forbid(unsafe_code)]
pub(crate) mod rivals;
pub(crate) mod shaped;
#[cfg(target_os = "linux")]
pub(crate) mod signals;
#[forbid(unsafe_code)]
pub(crate) mod trie;

use std::fmt;

use memalloc::PolicyKind;
use serde_json::{Map, Value as Json};

use crate::data::DataSet;
use crate::measure::Sampler;

/// What distinguishes measurements of the same case, by the names that records use.
pub(crate) type Params = Map<String, Json>;

/// One case with one set of parameters.
pub(crate) struct Workload<'d> {
    /// The bench that it belongs to.
    pub(crate) bench: &'static str,
    /// What runs, in words, for the progress bar and for errors; no two of a run have the same.
    pub(crate) title: String,
    /// The set of keys that it needs.
    pub(crate) keys: Option<&'d DataSet>,
    /// Threads at work.
    pub(crate) threads: usize,
    /// How much of the time budget a sample takes, in proportion to other workloads.
    pub(crate) share: f64,
    /// What runs it in turns.
    pub(crate) subjects: Vec<Subject<'d>>,
}

/// What runs a workload: an allocator, a scheme or a map, with its reuse policy.
pub(crate) struct Subject<'d> {
    /// What records call it.
    pub(crate) name: &'static str,
    /// Its reuse policy, if it has one.
    pub(crate) policy: Option<PolicyKind>,
    /// The parameters of its records.
    pub(crate) params: Params,
    /// What becomes of the run when one of its answers is wrong.
    pub(crate) on_wrong: OnWrong,
    /// Runs the workload.
    pub(crate) sampler: Box<dyn Sampler + 'd>,
}

/// What a wrong answer leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnWrong {
    /// The end of the run.
    EndTheRun,
    /// Its subject takes no further part. In the place of its values there is a record for
    /// each of these cases that says so.
    Withdraw(&'static [&'static str]),
}

impl fmt::Debug for Workload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workload")
            .field("bench", &self.bench)
            .field("title", &self.title)
            .field("subjects", &self.subjects)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("name", &self.name)
            .field("policy", &self.policy)
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}

/// Which of the workloads are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// Names of cases.
    pub(crate) cases: Vec<&'static str>,
    /// Numbers of threads.
    pub(crate) threads: Vec<usize>,
    /// Reuse policies, in the order in which they are shown.
    pub(crate) policies: Vec<PolicyKind>,
    /// Whether what others have made takes part.
    pub(crate) rivals: bool,
    /// Where random numbers begin.
    pub(crate) seed: u64,
}

impl Selection {
    /// Whether a case is wanted.
    pub(crate) fn wants(&self, case: &str) -> bool {
        self.cases.contains(&case)
    }

    /// The numbers of threads for a case whose threads come in pairs: of an odd number the last
    /// is left out.
    pub(crate) fn threads_in_pairs(&self) -> Vec<usize> {
        let mut numbers: Vec<usize> = Vec::new();
        for threads in self.threads.iter().map(|threads| threads / 2 * 2) {
            if threads > 0 && !numbers.contains(&threads) {
                numbers.push(threads);
            }
        }
        numbers
    }
}

/// "1 thread", "2 threads".
pub(crate) fn threads_in_words(threads: usize) -> String {
    format!("{threads} thread{}", if threads == 1 { "" } else { "s" })
}
