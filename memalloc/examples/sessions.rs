//! A table of sessions that two threads read while a third replaces them, like the logins of a
//! server. It can be recorded, and the recording given to `bench-suite advise`:
//!
//! ```sh
//! cargo run --release -p memalloc --features recording --example sessions -- sessions.rec [SECONDS]
//! cargo run --release -p bench-suite -- advise --recording sessions.rec
//! ```

use memalloc::Cache;
use std::error::Error;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// A session as readers see it: it never changes, but is replaced.
#[derive(Debug)]
struct Session {
    user: u64,
    /// A copy of `user`, to detect a torn session.
    again: u64,
    data: [u64; 10],
}

const SESSIONS: usize = 2000;

/// Serves for `time`. Returns the number of lookups and of replacements.
fn serve(time: Duration) -> Result<(u64, u64), Box<dyn Error + Send + Sync>> {
    let cache = Cache::<Session>::new()?;
    let login = |user| cache.alloc(Session { user, again: user, data: [user; 10] });
    let mut table: Vec<AtomicPtr<Session>> = Vec::new();
    for user in 0..SESSIONS as u64 {
        table.push(AtomicPtr::new(login(user)?.into_raw().as_ptr()));
    }
    let (table, is_over) = (&table, &AtomicBool::new(false));
    let (lookups, replaced) = (&AtomicU64::new(0), &AtomicU64::new(0));
    thread::scope(|scope| {
        for seed in [1, 2_u64] {
            let cache = &cache;
            scope.spawn(move || {
                let mut number = seed;
                while !is_over.load(Ordering::Relaxed) {
                    number = random(number);
                    let guard = cache.domain().pin();
                    let found = table[number as usize % SESSIONS].load(Ordering::Acquire);
                    let found = NonNull::new(found).expect("every slot has a session");
                    // SAFETY: loaded inside the section; freed, if at all, after it began.
                    let session = unsafe { cache.read(found, &guard) };
                    assert_eq!(session.user, session.again);
                    assert!(session.data.iter().all(|&word| word == session.user));
                    lookups.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut number = 3;
        let begun = std::time::Instant::now();
        while begun.elapsed() < time {
            for _ in 0..64 {
                number = random(number);
                let Ok(session) = login(number) else { break };
                let place = &table[number as usize % SESSIONS];
                let old = place.swap(session.into_raw().as_ptr(), Ordering::AcqRel);
                // SAFETY: of this cache, unlinked by the swap, and freed once.
                unsafe { cache.free_raw(NonNull::new(old).expect("every slot has a session")) };
                replaced.fetch_add(1, Ordering::Relaxed);
            }
            thread::sleep(Duration::from_micros(100));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    for place in table {
        let last = NonNull::new(place.load(Ordering::Relaxed)).expect("every slot has a session");
        // SAFETY: the threads have ended; freed once.
        unsafe { cache.free_raw(last) };
    }
    cache.destroy()?;
    Ok((lookups.load(Ordering::Relaxed), replaced.load(Ordering::Relaxed)))
}

/// Xorshift: good enough to choose a session.
fn random(mut number: u64) -> u64 {
    number ^= number << 13;
    number ^= number >> 7;
    number ^ number << 17
}

/// Serves for `time`, and records it into `path` if there is one.
fn run(path: Option<&str>, time: Duration) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Some(path) = path else {
        let (lookups, replaced) = serve(time)?;
        println!("{lookups} lookups, {replaced} sessions replaced");
        return Ok(());
    };
    #[cfg(all(feature = "recording", not(loom)))]
    {
        let recording = memalloc::recording::Recording::start(path)?;
        let (lookups, replaced) = serve(time)?;
        let summary = recording.finish()?;
        println!("{lookups} lookups, {replaced} sessions replaced; {path}: {summary:?}");
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
