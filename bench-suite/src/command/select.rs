//! Selects from what a command offers by the common options.

use memalloc::PolicyKind;

use crate::cli::CommonOptions;
use crate::report::Listing;
use crate::workload::Selection;
use crate::workload::reader::Reader;

/// The cases and policies that a command offers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choices {
    /// The cases, in the order in which they run.
    pub(super) cases: &'static [&'static str],
    /// The cases that need two threads.
    pub(super) two_threads: &'static [&'static str],
    /// The policies that the command compares; empty if it compares none.
    pub(super) policies: &'static [PolicyKind],
}

impl Choices {
    /// Returns the cases, policies and threads that the options ask for.
    ///
    /// # Errors
    ///
    /// One line that names the unknown value, and the known ones.
    pub(super) fn select(&self, options: &CommonOptions) -> Result<Selection, String> {
        if options.rivals && !cfg!(feature = "rivals") {
            return Err("--rivals needs a build with the feature: cargo run --release -p \
                        bench-suite --features rivals -- .. --rivals"
                .into());
        }
        let cases = self.cases(options)?;
        let policies = self.policies(options)?;
        let threads = distinct(&options.threads);
        Ok(Selection { cases, threads, policies, rivals: options.rivals, seed: options.run.seed })
    }

    /// Describes a command with these choices and with further ones, `others`.
    pub(super) fn listing(
        &self,
        command: &'static str,
        seconds: u64,
        others: Vec<(&'static str, Vec<String>)>,
    ) -> Listing {
        let cases = self.cases.iter().map(|&case| case.to_owned()).collect();
        let policies = self.policies.iter().map(ToString::to_string).collect();
        let choices = [("--case", cases), ("--policy", policies)];
        Listing { command, seconds, choices: choices.into_iter().chain(others).collect() }
    }

    fn cases(&self, options: &CommonOptions) -> Result<Vec<&'static str>, String> {
        let mut cases = Vec::new();
        for name in &options.cases {
            let case = self.cases.iter().find(|case| *case == name).ok_or_else(|| {
                let known = self.cases.join(", ");
                format!("unknown case \"{name}\": expected one of {known}")
            })?;
            if self.two_threads.contains(case) && !has_two(&options.threads) {
                return Err(format!("--case {case} needs --threads 2 or more"));
            }
            if !cases.contains(case) {
                cases.push(*case);
            }
        }
        Ok(if cases.is_empty() { self.cases.to_vec() } else { cases })
    }

    fn policies(&self, options: &CommonOptions) -> Result<Vec<PolicyKind>, String> {
        let policies = distinct(&options.policies);
        match policies.iter().find(|policy| !self.policies.contains(policy)) {
            Some(policy) if self.policies.is_empty() => {
                Err(format!("--policy {policy}: this command compares no reuse policies"))
            }
            Some(policy) => {
                let allowed: Vec<_> = self.policies.iter().map(ToString::to_string).collect();
                Err(format!("--policy {policy}: this command compares {}", allowed.join(", ")))
            }
            None if policies.is_empty() => Ok(self.policies.to_vec()),
            None => Ok(policies),
        }
    }

    /// Returns one line for each selected case that no number of threads suits.
    pub(super) fn left_out(&self, selection: &Selection) -> String {
        let needy = self.two_threads.iter().filter(|case| selection.wants(case));
        let left_out = needy.filter(|_| !has_two(&selection.threads));
        left_out.map(|case| format!("{case} is skipped: it needs 2 threads.\n")).collect()
    }
}

fn has_two(threads: &[usize]) -> bool {
    threads.iter().any(|&threads| threads >= 2)
}

/// Parses the names of readers that do not sleep; returns `usual` if there are none.
///
/// # Errors
///
/// One line that names the unknown reader, and the known ones.
pub(super) fn readers(wanted: &[String], usual: &[Reader]) -> Result<Vec<Reader>, String> {
    let readers = all_readers(wanted, usual)?;
    match readers.iter().find(|reader| matches!(reader, Reader::Sleep(_))) {
        Some(sleeper) => Err(format!("--reader {sleeper}: only flood has readers that sleep")),
        None => Ok(readers),
    }
}

/// As [`readers`], with those that sleep.
pub(super) fn all_readers(wanted: &[String], usual: &[Reader]) -> Result<Vec<Reader>, String> {
    let readers: Vec<Reader> = wanted.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    Ok(if readers.is_empty() { usual.to_vec() } else { distinct(&readers) })
}

/// Returns the values without repetitions, in the order in which they first occur.
pub(super) fn distinct<T: Clone + PartialEq>(values: &[T]) -> Vec<T> {
    let mut distinct: Vec<T> = Vec::new();
    for value in values {
        if !distinct.contains(value) {
            distinct.push(value.clone());
        }
    }
    distinct
}
