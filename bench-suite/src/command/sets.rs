//! Loads the sets of keys that a command uses.

use super::select::distinct;
use crate::data::{DataName, DataSet};
use crate::measure::SampleRequest;
use crate::workload::{Selection, trie};

/// Loads the `wanted` sets, or the `usual` ones, if any case needs keys; for a single sample, only
/// the set that it needs.
///
/// # Errors
///
/// One line: a file can't be used, a set has too few keys for the number of threads, or no selected
/// case uses keys.
pub(super) fn load(
    wanted: &[DataName],
    usual: &[DataName],
    offered: &[&str],
    selection: &Selection,
    sample: Option<&SampleRequest>,
) -> Result<Vec<DataSet>, String> {
    if !trie::CASES.iter().any(|case| selection.wants(case)) {
        if !wanted.is_empty() {
            let cases = offered.iter().filter(|case| trie::CASES.contains(case));
            let cases = cases.copied().collect::<Vec<_>>().join(", ");
            return Err(format!("--data applies to the cases {cases}: --case names none of them"));
        }
        return Ok(Vec::new());
    }
    let mut names = if wanted.is_empty() { usual.to_vec() } else { distinct(wanted) };
    if let Some(request) = sample {
        names.retain(|name| request.keys.as_deref() == Some(name.to_string().as_str()));
        let packed = request.input().map_err(|error| format!("standard input: {error}"))?;
        return names.iter().map(|name| DataSet::received(name, selection.seed, &packed)).collect();
    }
    let most = selection.threads.iter().max().copied().unwrap_or(1);
    let sets = names.iter().map(|name| {
        let set = DataSet::load(name, selection.seed)?;
        // Every thread has a part of the keys, and the readers of `mixed` share half of them.
        match set.keys.len() / 2 {
            keys if keys < most => Err(format!(
                "--threads {most} is too many for {name}: expected 1 to {keys} for this number of \
                 keys"
            )),
            _ => Ok(set),
        }
    });
    sets.collect()
}
