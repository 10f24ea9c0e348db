//! What others have made, in which version.

/// The exact version of a rival's crate, as this build has locked it.
pub(crate) fn version(package: &str) -> String {
    let mut locked = env!("BENCH_RIVALS").split(' ').filter_map(|entry| entry.split_once('='));
    let found = locked.find(|(name, _)| *name == package);
    found.map_or("unknown", |(_, version)| version).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        for package in ["libmimalloc-sys", "tikv-jemalloc-sys", "snmalloc-sys", "rpmalloc-sys"] {
            assert!(version(package).starts_with(|first: char| first.is_ascii_digit()));
        }
        assert_eq!(version("nobody"), "unknown");
    }
}
