//! The workloads to measure.
//!
//! A bench lists its workloads: a case with one set of parameters each, and the subjects that run
//! it in turns. To add a bench, a case or a rival, add it here; the layers above (rounds, records,
//! tables) need no change.
//!
//! - a workload checks every answer that it gets. A wrong one is an error that names the
//!   subject, and no speed is reported: a wrong answer of ours ends the run, a rival is withdrawn.
//! - subjects of one workload do the same operations on the same keys in the same order.

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
pub(crate) mod rivals;
pub(crate) mod shaped;
#[cfg(target_os = "linux")]
pub(crate) mod signals;
#[forbid(unsafe_code)]
pub(crate) mod trie;

use std::fmt;
use std::time::Duration;

use memalloc::PolicyKind;
use serde_json::{Map, Value as Json};

use crate::data::DataSet;
use crate::measure::Sampler;
use reader::Reader;

/// Parameters that distinguish measurements of the same case, by the names used in records.
pub(crate) type Params = Map<String, Json>;

/// One case with one set of parameters.
pub(crate) struct Workload<'d> {
    /// The bench of the workload.
    pub(crate) bench: &'static str,
    /// A description for the progress bar and for errors; unique within a run.
    pub(crate) title: String,
    /// The set of keys, if the workload needs one.
    pub(crate) keys: Option<&'d DataSet>,
    /// The number of working threads.
    pub(crate) threads: usize,
    /// The time of a sample relative to samples of other workloads.
    pub(crate) share: f64,
    /// True if it looks up keys and changes nothing.
    pub(crate) looks_up_only: bool,
    /// The shortest time of a sample that means something.
    pub(crate) shortest: Duration,
    /// The subjects that run the workload in turns.
    pub(crate) subjects: Vec<Subject<'d>>,
}

impl Workload<'_> {
    /// Returns the kind of what is measured: its bench, and whether it only looks up.
    pub(crate) fn kind(&self) -> (&'static str, bool) {
        (self.bench, self.looks_up_only)
    }
}

/// An allocator, a scheme or a map that runs a workload, with its reuse policy.
pub(crate) struct Subject<'d> {
    /// The name in records.
    pub(crate) name: &'static str,
    /// The reuse policy, if the subject has one.
    pub(crate) policy: Option<PolicyKind>,
    /// The parameters of its records.
    pub(crate) params: Params,
    /// The effect of a wrong answer on the run.
    pub(crate) on_wrong: OnWrong,
    /// Runs the workload.
    pub(crate) sampler: Box<dyn Sampler + 'd>,
}

/// The effect of a wrong answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnWrong {
    /// The run ends.
    EndTheRun,
    /// The subject is withdrawn. A record for each of these cases reports it instead of the values.
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

/// The selected workloads.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// Names of cases.
    pub(crate) cases: Vec<&'static str>,
    /// Numbers of threads.
    pub(crate) threads: Vec<usize>,
    /// Reuse policies, in the order in which they are shown.
    pub(crate) policies: Vec<PolicyKind>,
    /// Set to measure rivals.
    pub(crate) rivals: bool,
    /// The seed of random numbers.
    pub(crate) seed: u64,
}

impl Selection {
    /// Returns whether a case is selected.
    pub(crate) fn wants(&self, case: &str) -> bool {
        self.cases.contains(&case)
    }

    /// Returns the numbers of threads for a case with pairs of threads, rounded down to even
    /// numbers.
    pub(crate) fn threads_in_pairs(&self) -> Vec<usize> {
        let mut numbers: Vec<usize> = Vec::new();
        for threads in self.threads.iter().map(|threads| threads / 2 * 2) {
            if threads > 0 && !numbers.contains(&threads) {
                numbers.push(threads);
            }
        }
        numbers
    }

    /// Returns a workload for each selected one of `cases` with each size, reader and number of
    /// threads, in this order. The threads of the case `in_pairs` work in pairs.
    pub(crate) fn workloads<'d>(
        &self,
        cases: &[&'static str],
        in_pairs: &str,
        sizes: &[usize],
        readers: &[Reader],
        make: impl Fn(&'static str, usize, Reader, usize) -> Workload<'d>,
    ) -> Vec<Workload<'d>> {
        let mut workloads = Vec::new();
        for &case in cases.iter().filter(|case| self.wants(case)) {
            let numbers = match case {
                case if case == in_pairs => self.threads_in_pairs(),
                _ => self.threads.clone(),
            };
            for &size in sizes {
                for &reader in readers {
                    for &threads in &numbers {
                        workloads.push(make(case, size, reader, threads));
                    }
                }
            }
        }
        workloads
    }
}

/// Formats a number of threads, as in "1 thread", "2 threads".
pub(crate) fn threads_in_words(threads: usize) -> String {
    format!("{threads} thread{}", if threads == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::SHORTEST;

    #[test]
    fn every_selected_case_has_every_size_reader_and_number_of_threads() {
        let selection = Selection {
            cases: vec!["alone", "pairs"],
            threads: vec![1, 2, 3],
            policies: Vec::new(),
            rivals: false,
            seed: 1,
        };
        let make = |case, size, reader: Reader, threads| Workload {
            bench: "bench",
            title: format!("{case} {size} {reader} {threads}"),
            keys: None,
            threads,
            share: 1.0,
            looks_up_only: false,
            shortest: SHORTEST,
            subjects: Vec::new(),
        };
        let readers = [Reader::None, Reader::Busy];
        let cases = ["left-out", "alone", "pairs"];
        let workloads = selection.workloads(&cases, "pairs", &[8, 64], &readers, make);
        let titles: Vec<&str> = workloads.iter().map(|one| one.title.as_str()).collect();
        assert_eq!(titles.len(), 2 * 2 * 3 + 2 * 2, "{titles:?}");
        assert_eq!(
            titles[..4],
            ["alone 8 none 1", "alone 8 none 2", "alone 8 none 3", "alone 8 busy 1"]
        );
        // Two and three threads are one pair.
        assert_eq!(
            titles[12..],
            ["pairs 8 none 2", "pairs 8 busy 2", "pairs 64 none 2", "pairs 64 busy 2"]
        );
    }
}
