//! A table of routes: two threads look up paths, one thread registers and removes them. The example
//! can record itself for `bench-suite advise`:
//!
//! ```sh
//! cargo run --release -p qptrie --features recording --example routes -- routes.rec [SECONDS]
//! cargo run --release -p bench-suite -- advise --recording routes.rec
//! ```

use qptrie::QpTrie;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ROUTES: u64 = 5000;

fn path(number: u64) -> String {
    format!("/api/v{}/tenants/{:04}/items", number % 3, number % ROUTES)
}

/// Serves for `time`; returns the numbers of lookups and changes.
fn serve(time: Duration) -> Result<(u64, u64), Box<dyn Error + Send + Sync>> {
    let routes: QpTrie<u64> = QpTrie::new()?;
    for number in 0..ROUTES {
        routes.pin().insert(path(number).as_bytes(), number)?;
    }
    let (routes, is_over) = (&routes, &AtomicBool::new(false));
    let (lookups, changes) = (&AtomicU64::new(0), &AtomicU64::new(0));
    thread::scope(|scope| {
        for seed in [1, 2_u64] {
            scope.spawn(move || {
                let mut number = seed;
                while !is_over.load(Ordering::Relaxed) {
                    number = random(number);
                    let key = path(number);
                    let view = routes.pin();
                    let found = view.get(key.as_bytes());
                    assert!(found.is_none_or(|&route| path(route) == key));
                    lookups.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (mut number, begun) = (3, Instant::now());
        while begun.elapsed() < time {
            for _ in 0..32 {
                number = random(number);
                let key = path(number);
                let view = routes.pin();
                if view.remove(key.as_bytes()).is_none() {
                    // If there is no memory, the routes stay as they are.
                    let _ = view.insert(key.as_bytes(), number);
                }
                changes.fetch_add(1, Ordering::Relaxed);
            }
            thread::sleep(Duration::from_micros(100));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    Ok((lookups.load(Ordering::Relaxed), changes.load(Ordering::Relaxed)))
}

/// Xorshift: random enough to choose a route.
fn random(mut number: u64) -> u64 {
    number ^= number << 13;
    number ^= number >> 7;
    number ^ number << 17
}

/// Serves for `time`; if there is a `path`, records into that file.
fn run(path: Option<&str>, time: Duration) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Some(path) = path else {
        let (lookups, changes) = serve(time)?;
        println!("{lookups} lookups, {changes} changes");
        return Ok(());
    };
    #[cfg(all(feature = "recording", not(loom)))]
    {
        let recording = memalloc::recording::Recording::start(path)?;
        let (lookups, changes) = serve(time)?;
        let summary = recording.finish()?;
        println!("{lookups} lookups, {changes} changes; {path}: {summary:?}");
        Ok(())
    }
    #[cfg(not(all(feature = "recording", not(loom))))]
    Err(format!("{path}: build with --features recording to record").into())
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let (path, seconds) = (std::env::args().nth(1), std::env::args().nth(2));
    let seconds: f64 = seconds.map_or(Ok(3.0), |seconds| seconds.parse())?;
    run(path.as_deref(), Duration::try_from_secs_f64(seconds)?)
}

#[test]
fn the_example_runs() {
    run(None, Duration::from_millis(20)).expect("memory");
}
