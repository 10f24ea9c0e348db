//! `list`: the commands with their cases and parameters.

use super::{Failure, advise, alloc, compare, flood, hash_map, print, qp_trie, read_side};
#[cfg(target_os = "linux")]
use super::{signals, torture};
use crate::report::{self, Listing};

/// Lists every command that measures.
pub(super) fn run() -> Result<(), Failure> {
    print(&report::listing(&all()))
}

fn all() -> Vec<Listing> {
    let [htab_mem, map_perf] = hash_map::listings();
    vec![
        compare::listing(),
        alloc::listing(),
        read_side::listing(),
        flood::listing(),
        htab_mem,
        map_perf,
        qp_trie::listing(),
        advise::listing(),
        #[cfg(target_os = "linux")]
        signals::listing(),
        #[cfg(target_os = "linux")]
        torture::listing(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    #[test]
    fn every_command_that_measures_is_listed_with_its_choices() {
        let listed = all();
        let measuring = cli::commands_with("--json");
        let names: Vec<&str> = listed.iter().map(|one| one.command).collect();
        assert_eq!(names, measuring);
        let with_cases = cli::commands_with("--case");
        for Listing { command, seconds, choices } in &listed {
            let has_cases = with_cases.iter().any(|name| name == command);
            assert!(*seconds > 0 && (choices[0].0 == "--case") == has_cases, "{command}");
            assert!(!choices[0].1.is_empty(), "{command}");
        }
    }
}
