//! What a map takes, by the books of the memory controller: live elements, those in the caches of CPUs, and
//! those that wait for a grace period.
//!
//! A map belongs to the group of the process that made it. So the process enters a group of its own, makes
//! the map, and goes back. The group lies at the root of the hierarchy, and is removed with the map. Groups
//! that a process left behind because it was killed are removed by the next one.

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

/// Where the memory controller is, its two versions, and what they call current and most bytes.
const HIERARCHIES: [(&str, &str, &str, &str); 2] = [
    ("/sys/fs/cgroup/memory", ":memory:", "memory.usage_in_bytes", "memory.max_usage_in_bytes"),
    ("/sys/fs/cgroup", "0::", "memory.current", "memory.peak"),
];

impl MemoryGroup {
    /// Makes something in a group of its own; `None` for the group where the system has none to give.
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
            // Where the way back is closed the process ends there: it has its sample to take.
            let _ = enter(&group.home);
        }
        (made, group)
    }

    fn read(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.path.join(file)).ok()?.trim().parse().ok()
    }

    /// Bytes that are held now.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.read(self.now)
    }

    /// The most of it since the beginning.
    pub(crate) fn peak(&self) -> Option<u64> {
        self.read(self.most)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Nobody is inside. If it can't be removed the next process tries again.
        let _ = fs::remove_dir(&self.path);
    }
}

/// The group that this process is in.
fn home(root: &str, mark: &str) -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let line = groups.lines().find_map(|line| Some(line.split_once(mark)?.1))?;
    Some(Path::new(root).join(line.trim_start_matches('/')))
}

fn enter(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), process::id().to_string())
}

/// Removes the groups of processes that are no more.
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
