//! The memory of a map, as counted by the memory controller: live elements, those in the caches of
//! CPUs, and those pending for a grace period.
//!
//! A map is charged to the group of the process that created it. So the process enters a group of
//! its own, creates the map, and goes back. The group is at the root of the hierarchy, and is
//! removed with the map. Groups that remain from killed processes are removed by the next process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

const NAME: &str = "bench-suite-";

/// A group for one map.
#[derive(Debug)]
pub(crate) struct MemoryGroup {
    path: PathBuf,
    home: PathBuf,
    now: &'static str,
    most: &'static str,
}

/// The two versions of the memory controller: path, mark, and the files for current and peak bytes.
const HIERARCHIES: [(&str, &str, &str, &str); 2] = [
    ("/sys/fs/cgroup/memory", ":memory:", "memory.usage_in_bytes", "memory.max_usage_in_bytes"),
    ("/sys/fs/cgroup", "0::", "memory.current", "memory.peak"),
];

impl MemoryGroup {
    /// Calls `make` in a separate group; the group is `None` if the system does not provide one.
    pub(crate) fn around<T>(make: impl FnOnce() -> T) -> (T, Option<Self>) {
        let group = HIERARCHIES.into_iter().find_map(|(root, mark, now, most)| {
            let home = home(root, mark)?;
            remove_forsaken(Path::new(root));
            let path = Path::new(root).join(format!("{NAME}{}", process::id()));
            fs::create_dir(&path).ok()?;
            let group = Self { path, home, now, most };
            (group.read(group.now).is_some() && enter(&group.path).is_ok()).then_some(group)
        });
        let made = make();
        if let Some(group) = &group {
            // If the process can't go back, it stays in the group: it only takes one sample.
            let _ = enter(&group.home);
        }
        (made, group)
    }

    fn read(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.path.join(file)).ok()?.trim().parse().ok()
    }

    /// Returns the bytes held now.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.read(self.now)
    }

    /// Returns the peak of the bytes held.
    pub(crate) fn peak(&self) -> Option<u64> {
        self.read(self.most)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // No process is inside. If it can't be removed, the next process tries again.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Returns the group of this process.
fn home(root: &str, mark: &str) -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let line = groups.lines().find_map(|line| Some(line.split_once(mark)?.1))?;
    Some(Path::new(root).join(line.trim_start_matches('/')))
}

fn enter(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), process::id().to_string())
}

/// Removes the groups of processes that have ended.
fn remove_forsaken(root: &Path) {
    let Ok(groups) = fs::read_dir(root) else { return };
    for group in groups.flatten() {
        let name = group.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(NAME)?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = fs::remove_dir(group.path());
        }
    }
}
