//! The versions of rivals.

/// Returns a rival's crate with its exact version from the lock file, as in "package 1.2.3".
pub(crate) fn version(package: &str) -> String {
    let mut locked = env!("BENCH_RIVALS").split(' ').filter_map(|entry| entry.split_once('='));
    let found = locked.find(|(name, _)| *name == package);
    format!("{package} {}", found.map_or("unknown", |(_, version)| version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        for package in ["libmimalloc-sys", "tikv-jemalloc-sys", "snmalloc-sys", "rpmalloc-sys"] {
            let version = version(package);
            let number = version.strip_prefix(package).unwrap().trim_start();
            assert!(number.starts_with(|first: char| first.is_ascii_digit()), "{version}");
        }
        assert_eq!(version("nobody"), "nobody unknown");
    }
}
