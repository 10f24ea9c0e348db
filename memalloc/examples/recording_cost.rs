//! Measures the cost of a recording: the time of an allocation with its free, and of a section,
//! without a recording and with one.
//!
//! ```sh
//! cargo run --release -p memalloc --features recording --example recording_cost
//! ```

use memalloc::rcu::Domain;
use memalloc::{Immediate, MemAlloc};
use std::alloc::Layout;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

const TIMES: u32 = 128_000;

/// Number of runs, of which the fastest counts. Each is short enough that some are not interrupted.
const RUNS: u32 = 200;

/// Returns the nanoseconds per call of `work` in the fastest run.
fn time(mut work: impl FnMut()) -> f64 {
    let once = |work: &mut dyn FnMut()| {
        let begun = Instant::now();
        for _ in 0..TIMES / 64 {
            for _ in 0..64 {
                work();
            }
        }
        begun.elapsed().as_nanos() as f64 / f64::from(TIMES)
    };
    (0..RUNS).map(|_| once(&mut work)).fold(f64::MAX, f64::min)
}

fn show(what: &str, alloc: &MemAlloc<Immediate>) {
    let layout = Layout::new::<[u64; 8]>();
    let pair = time(|| {
        let object = black_box(alloc.alloc(layout)).expect("memory").cast();
        // SAFETY: allocated with this layout, freed once, and never used.
        unsafe { alloc.free(object, layout) };
    });
    let section = time(|| {
        let section = alloc.domain().pin();
        black_box(&section);
    });
    println!("{what:<10} {pair:6.2} ns a pair of alloc and free, {section:6.2} ns a section");
}

fn main() -> Result<(), Box<dyn Error>> {
    let alloc = MemAlloc::<Immediate>::builder().domain(Domain::new()).build()?;
    show("off", &alloc);
    #[cfg(all(feature = "recording", not(loom)))]
    {
        let path = std::env::temp_dir().join(format!("memalloc-cost-{}", std::process::id()));
        let recording = memalloc::recording::Recording::start(&path)?;
        show("on", &alloc);
        println!("{:?}", recording.finish()?);
        std::fs::remove_file(path)?;
    }
    Ok(())
}
