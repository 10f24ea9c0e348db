//! What the common options ask for, if it can be had.

use memalloc::PolicyKind;

use crate::cli::CommonOptions;
use crate::report::Listing;
use crate::workload::Selection;
use crate::workload::reader::Reader;

/// What a command can do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choices {
    /// Its cases, in the order in which they run.
    pub(super) cases: &'static [&'static str],
    /// Those of them that need two threads.
    pub(super) two_threads: &'static [&'static str],
    /// The policies that it compares; none if it has none.
    pub(super) policies: &'static [PolicyKind],
}

impl Choices {
    /// What is wanted of the offer.
    ///
    /// # Errors
    ///
    /// One line that says what is not on offer, and what is.
    pub(super) fn select(&self, options: &CommonOptions) -> Result<Selection, String> {
        if options.rivals && !cfg!(feature = "rivals") {
            return Err("--rivals needs a build with them: cargo run --release -p bench-suite \
                        --features rivals -- .. --rivals"
                .into());
        }
        let cases = self.cases(options)?;
        let policies = self.policies(options)?;
        let threads = distinct(&options.threads);
        Ok(Selection { cases, threads, policies, rivals: options.rivals, seed: options.run.seed })
    }

    /// A command with its choices, and others than those that every command has.
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
                format!("unknown case \"{name}\": allowed are {known}")
            })?;
            if self.two_threads.contains(case) && !has_two(&options.threads) {
                return Err(format!("--case {case} needs a number of --threads of 2 or more"));
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

    /// One line for each case that is wanted and does not run, because no number of threads
    /// suits it.
    pub(super) fn left_out(&self, selection: &Selection) -> String {
        let needy = self.two_threads.iter().filter(|case| selection.wants(case));
        let left_out = needy.filter(|_| !has_two(&selection.threads));
        left_out.map(|case| format!("{case} is left out: it needs 2 threads.\n")).collect()
    }
}

fn has_two(threads: &[usize]) -> bool {
    threads.iter().any(|&threads| threads >= 2)
}

/// The readers that are wanted, or the `usual` ones.
///
/// # Errors
///
/// One line that says which name is wrong, and what is allowed.
pub(super) fn readers(wanted: &[String], usual: &[Reader]) -> Result<Vec<Reader>, String> {
    let readers: Vec<Reader> = wanted.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    Ok(if readers.is_empty() { usual.to_vec() } else { distinct(&readers) })
}

/// The values without repetitions, in the order in which they first come.
pub(super) fn distinct<T: Clone + PartialEq>(values: &[T]) -> Vec<T> {
    let mut distinct: Vec<T> = Vec::new();
    for value in values {
        if !distinct.contains(value) {
            distinct.push(value.clone());
        }
    }
    distinct
}
