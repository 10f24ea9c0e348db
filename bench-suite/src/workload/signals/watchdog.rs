//! Detects a deadlocked thread. A thread that deadlocks with itself can't be joined, so the process
//! exits with a message.

use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::CutOff;

/// The time that a thread may make no progress. Everything that it does takes less than a
/// thousandth of that.
const PATIENCE: Duration = Duration::from_secs(20);

/// The interval between checks.
const NAP: Duration = Duration::from_millis(20);

/// A counter that its thread increments, on separate cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Pulse(AtomicU64);

impl Pulse {
    /// Reports progress.
    #[inline]
    pub(super) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs `work` while a thread checks that every pulse makes progress.
///
/// # Errors
///
/// The system can't start the thread: then nothing has run.
pub(super) fn guarded<R>(pulses: &[Pulse], work: impl FnOnce() -> R) -> Result<R, CutOff> {
    let over = &AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = thread::Builder::new().spawn_scoped(scope, || {
            let mut watch = Watch::new(Instant::now(), pulses);
            while !over.load(Ordering::Relaxed) {
                thread::sleep(NAP);
                if let Some(number) = watch.stopped(Instant::now(), pulses) {
                    let seconds = PATIENCE.as_secs();
                    eprintln!("thread {number} has made no progress for {seconds} s: a deadlock");
                    process::exit(1);
                }
            }
        });
        if let Err(error) = watch {
            let what = format!("the system did not start a thread that detects deadlocks: {error}");
            return Err(CutOff::Refused(what));
        }
        let result = work();
        over.store(true, Ordering::Relaxed);
        Ok(result)
    })
}

/// The last count of each pulse, and the time of its last change.
struct Watch(Vec<(u64, Instant)>);

impl Watch {
    fn new(now: Instant, pulses: &[Pulse]) -> Self {
        Self(pulses.iter().map(|_| (0, now)).collect())
    }

    /// Returns the number of a pulse that has not changed for at least [`PATIENCE`].
    fn stopped(&mut self, now: Instant, pulses: &[Pulse]) -> Option<usize> {
        for ((seen, since), pulse) in self.0.iter_mut().zip(pulses) {
            let count = pulse.0.load(Ordering::Relaxed);
            if count != *seen {
                (*seen, *since) = (count, now);
            }
        }
        self.0.iter().position(|(_, since)| now.duration_since(*since) >= PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pulse_that_stops_is_reported() {
        let pulses = [Pulse::default(), Pulse::default()];
        let start = Instant::now();
        let mut watch = Watch::new(start, &pulses);
        pulses[0].beat();
        assert_eq!(watch.stopped(start + PATIENCE / 2, &pulses), None);
        assert_eq!(watch.stopped(start + PATIENCE, &pulses), Some(1));
        pulses[1].beat();
        assert_eq!(watch.stopped(start + PATIENCE, &pulses), None);
        assert_eq!(watch.stopped(start + PATIENCE * 3 / 2, &pulses), Some(0));
    }

    #[test]
    fn guarded_work_runs_and_returns() {
        assert_eq!(guarded(&[Pulse::default()], || 7), Ok(7));
    }
}
