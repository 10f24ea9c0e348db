//! The claims: each path listed here moves about the same number of cache lines per operation with
//! 16 CPUs as with 2.

use super::alloc::{self, Reader, Shape};
use super::measured::{Measured, scales};
use super::sections;
use super::trie::{self, Work};
use memalloc::rcu::{BarrierKind, FlavourKind};
use memalloc::sync::{AtomicU64, Ordering};
use memalloc::{AfterRcuGp, AfterTasksTraceGp, Immediate, ReusePolicy};

/// A function that measures a path on a machine with the given number of CPUs.
type Path = Box<dyn Fn(usize) -> Measured>;

/// Adds the paths of the allocator under one policy.
fn allocator<P: ReusePolicy>(paths: &mut Vec<(String, Path)>) {
    let shapes = [Shape::Pair, Shape::Batch];
    for (shape, reader) in
        shapes.into_iter().flat_map(|it| [(it, Reader::None), (it, Reader::Idle)])
    {
        let name = format!("{shape}, {}, reader {reader}", P::KIND);
        paths.push((name, Box::new(move |cpus| alloc::measure::<P>(shape, reader, cpus, || ()))));
    }
}

/// Returns the paths that are claimed to move a constant number of lines, with their names.
fn constant() -> Vec<(String, Path)> {
    let mut paths = Vec::<(String, Path)>::new();
    allocator::<Immediate>(&mut paths);
    allocator::<AfterRcuGp>(&mut paths);
    allocator::<AfterTasksTraceGp>(&mut paths);
    for flavour in [FlavourKind::Rcu, FlavourKind::TasksTrace] {
        for barrier in [BarrierKind::Membarrier, BarrierKind::Fence] {
            let measure = move |cpus| sections::measure(flavour, barrier, false, cpus);
            paths.push((format!("section, {flavour}, {barrier}"), Box::new(measure)));
        }
    }
    for work in [Work::Hit, Work::Miss, Work::Scan] {
        let deferred = move |cpus| trie::measure::<trie::Deferred>(work, cpus);
        paths.push((format!("{work}, leaves after-rcu-gp"), Box::new(deferred)));
    }
    for work in [Work::Hit, Work::Miss, Work::Scan, Work::UpdateOwnRange] {
        let at_once = move |cpus| trie::measure::<trie::AtOnce>(work, cpus);
        paths.push((format!("{work}, leaves immediate"), Box::new(at_once)));
    }
    paths
}

/// Checks the claim for one path; an error states the counts and the line that moves most.
fn check_path(name: &str, path: impl Fn(usize) -> Measured) -> Result<(), String> {
    let (few, more) = (path(2), path(16));
    if scales(few.moved(), more.moved()) {
        return Ok(());
    }
    let (few_moved, more_moved) = (few.moved(), more.moved());
    let place = more.places.first().map_or_else(String::new, |(place, _)| format!(": {place}"));
    Err(format!("{name}: {few_moved:.2} lines move with 2 CPUs, {more_moved:.2} with 16{place}"))
}

/// Checks every claim, and that the check detects a counter that all CPUs share.
pub(crate) fn check() -> Result<(), String> {
    let mut broken: Vec<_> =
        constant().into_iter().filter_map(|(name, path)| check_path(&name, path).err()).collect();
    let shared = AtomicU64::new(0);
    let with_counter = |cpus| {
        let count = || _ = shared.fetch_add(1, Ordering::Relaxed);
        alloc::measure::<Immediate>(Shape::Pair, Reader::None, cpus, count)
    };
    match check_path("pair with a counter that all CPUs share", with_counter) {
        Ok(()) => broken.push("a counter that all CPUs share is not detected".to_owned()),
        Err(found) => println!("detected, as expected: {found}"),
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
}
