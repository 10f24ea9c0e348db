//! A recording from its start to its end, and the thread that writes it.

use super::event::{BYTES, Event, Kind, WORDS};
use super::hooks::{self, Store};
use crate::sys::thread::without_signals;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MAGIC: &[u8; 8] = b"MEMALREC";
const VERSION: u32 = 1;
const HEADER: usize = 64;

/// The default average number of allocations or sections per sample.
const PERIOD: u32 = 256;

/// The largest size of a recording, in bytes. Events beyond it are not recorded.
const LIMIT: u64 = 256 << 20;

/// The interval at which events are written.
const EVERY: Duration = Duration::from_millis(5);

/// True while a recording runs: there is only one at a time.
static RUNS: Mutex<bool> = Mutex::new(false);

/// A running recording. It ends when this is finished or dropped.
///
/// It samples one in 256 allocations and sections at random. It also records the frees of the
/// sampled objects, and every section that lasted 20 ms or longer. The recording ends when the file
/// has reached 256 MiB.
///
/// A process has at most one recording at a time, of all its allocators and domains.
#[derive(Debug)]
#[must_use = "the recording ends when this is dropped"]
pub struct Recording {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<Summary>>>,
}

/// The contents of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Events in the file.
    pub events: u64,
    /// Events that were dropped because there was no room.
    pub dropped: u64,
}

impl Recording {
    /// Creates `path`, or truncates it, and starts recording.
    ///
    /// # Errors
    ///
    /// An error of the file or of starting a thread;
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if a recording is running.
    pub fn start(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::with_period(path, PERIOD)
    }

    /// Starts recording as [`start`](Self::start) does, but samples one in `period` allocations and
    /// sections. `period` is from 1, which records all of them, to 1,048,576.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn with_period(path: impl AsRef<Path>, period: u32) -> io::Result<Self> {
        let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = || io::Error::new(io::ErrorKind::AlreadyExists, "another recording is running");
        if *runs {
            return Err(busy());
        }
        let period = period.clamp(1, 1 << 20);
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&header(period))?;
        let stop = Arc::new(AtomicBool::new(false));
        let store = hooks::switch_on(period).ok_or_else(busy)?;
        let stops = Arc::clone(&stop);
        let begin = || {
            thread::Builder::new()
                .name("recording".into())
                .spawn(move || write(file, store, &stops))
        };
        match without_signals(begin) {
            Ok(thread) => {
                *runs = true;
                Ok(Self { stop, thread: Some(thread) })
            }
            Err(error) => {
                hooks::switch_off();
                Err(error)
            }
        }
    }

    /// Ends the recording, writes the remaining events, and returns a summary of the file.
    ///
    /// # Errors
    ///
    /// The first error of writing the file; the events written before it are complete.
    pub fn finish(mut self) -> io::Result<Summary> {
        self.end()
    }

    fn end(&mut self) -> io::Result<Summary> {
        let Some(thread) = self.thread.take() else { return Ok(Summary::default()) };
        self.stop.store(true, Ordering::Relaxed);
        let end = thread.join();
        *RUNS.lock().unwrap_or_else(PoisonError::into_inner) = false;
        end.unwrap_or_else(|_| Err(io::Error::other("the thread of the recording panicked")))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // Errors are reported only by `finish`.
        let _ = self.end();
    }
}

fn header(period: u32) -> [u8; HEADER] {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&period.to_le_bytes());
    header[16..24].copy_from_slice(&(since.as_nanos() as u64).to_le_bytes());
    header[24..28].copy_from_slice(&cpus.to_le_bytes());
    header[28..32].copy_from_slice(&(BYTES as u32).to_le_bytes());
    header
}

/// Writes events until the recording has to stop, the file has reached its largest size, or writing
/// fails.
fn write(mut file: BufWriter<File>, store: &Store, stop: &AtomicBool) -> io::Result<Summary> {
    // In every case, hooks must not record without a writer.
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            hooks::switch_off();
        }
    }
    let _off = Off;
    let mut summary = Summary::default();
    loop {
        let is_last = stop.load(Ordering::Relaxed) || summary.events * BYTES as u64 >= LIMIT;
        if is_last {
            hooks::switch_off();
            // Lets hooks that are under way put in their last events.
            thread::sleep(EVERY / 5);
        }
        NEXT.with_next(|number| {
            while let Some(words) = store.ring.pop(*number) {
                *number += 1;
                summary.events += 1;
                put(&mut file, words)?;
            }
            io::Result::Ok(())
        })?;
        if is_last {
            break;
        }
        thread::sleep(EVERY);
    }
    let time = hooks::now();
    let mut outcome = Ok(());
    let blank = Event {
        kind: Kind::Live,
        cpu: 0,
        thread: 0,
        time,
        size: 0,
        weight: 0,
        duration: 0,
        elsewhere: false,
    };
    store.live.drain(|birth| {
        let (size, weight) = (birth.size.into(), birth.weight);
        let duration = time.saturating_sub(birth.time);
        let event = Event { cpu: birth.cpu, size, weight, duration, ..blank };
        summary.events += 1;
        if outcome.is_ok() {
            outcome = put(&mut file, event.words());
        }
    });
    outcome?;
    summary.dropped = store.ring.dropped();
    put(&mut file, Event { kind: Kind::End, duration: summary.dropped, ..blank }.words())?;
    file.flush()?;
    Ok(summary)
}

fn put(file: &mut BufWriter<File>, words: [u64; WORDS]) -> io::Result<()> {
    words.into_iter().try_for_each(|word| file.write_all(&word.to_le_bytes()))
}

/// The number of the next event in the ring, which continues from recording to recording.
struct Next(Mutex<u64>);

static NEXT: Next = Next(Mutex::new(0));

impl Next {
    fn with_next<R>(&self, take: impl FnOnce(&mut u64) -> R) -> R {
        take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
