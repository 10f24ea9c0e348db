//! The concurrent readers of a workload: a parameter of every bench whose subjects defer frees.

use std::fmt;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::{Gate, SHORTEST, Slice, Worker};

/// The kind of concurrent reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// No thread reads, or has ever read.
    None,
    /// Each writer has read before, and never reads again.
    Idle,
    /// A separate thread enters and leaves read sections all the time.
    Busy,
    /// A separate thread stays in a section for this many milliseconds, leaves, and enters again.
    Stall(u64),
    /// As `Stall`, in sections that may sleep, for which only tasks-trace grace periods wait.
    Sleep(u64),
}

impl Reader {
    /// The usual readers, in the order in which they run.
    pub(crate) const USUAL: [Self; 4] = [Self::None, Self::Idle, Self::Busy, Self::Stall(100)];

    /// The longest stay in a section, in milliseconds.
    const LONGEST: u64 = 10_000;

    /// Returns whether there is a thread that only reads.
    pub(crate) fn has_thread(self) -> bool {
        self == Self::Busy || self.sits()
    }

    /// Returns whether there is a thread that only reads and always wants to run.
    pub(crate) fn wants_cpu(self) -> bool {
        self == Self::Busy
    }

    /// Returns whether the reader stays in sections.
    pub(crate) fn sits(self) -> bool {
        self.stay().is_some()
    }

    /// Returns the time that it stays in a section, in milliseconds, if it does.
    fn stay(self) -> Option<u64> {
        match self {
            Self::Stall(milliseconds) | Self::Sleep(milliseconds) => Some(milliseconds),
            Self::None | Self::Idle | Self::Busy => None,
        }
    }

    /// Returns the share of a sample in the time of a run: a sample should contain a few turns, or
    /// a few of the long sections of a stalled reader.
    pub(crate) fn share(self) -> f64 {
        self.stay().map_or(2.0, |milliseconds| 4.0 * (milliseconds as f64 / 100.0).max(1.0))
    }

    /// Returns the shortest time of a sample that means something: one with a whole section of a
    /// reader that stays.
    pub(crate) fn shortest_sample(self) -> Duration {
        self.stay().map_or(SHORTEST, |milliseconds| 2 * Duration::from_millis(milliseconds))
    }

    /// Returns the slice of a sample with this reader: a stall is longer than a turn.
    pub(crate) fn slice(self, slice: Slice) -> Slice {
        if self.sits() { slice.whole() } else { slice }
    }

    /// The accepted names.
    const ALLOWED: &str =
        "none, idle, busy, stall-1ms to stall-10000ms and, in flood, sleep-1ms to sleep-10000ms";
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.pad("none"),
            Self::Idle => f.pad("idle"),
            Self::Busy => f.pad("busy"),
            Self::Stall(milliseconds) => f.pad(&format!("stall-{milliseconds}ms")),
            Self::Sleep(milliseconds) => f.pad(&format!("sleep-{milliseconds}ms")),
        }
    }
}

impl FromStr for Reader {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let stay = || {
            let (kind, time) = name.split_once('-')?;
            let milliseconds = time.strip_suffix("ms")?.parse().ok()?;
            let reader = match kind {
                "stall" => Self::Stall(milliseconds),
                "sleep" => Self::Sleep(milliseconds),
                _ => return None,
            };
            (1..=Self::LONGEST).contains(&milliseconds).then_some(reader)
        };
        match name {
            "none" => Ok(Self::None),
            "idle" => Ok(Self::Idle),
            "busy" => Ok(Self::Busy),
            _ => stay()
                .ok_or_else(|| format!("unknown reader \"{name}\": expected {}", Self::ALLOWED)),
        }
    }
}

/// Blocks until the time is up or the gate is closed.
pub(crate) fn sit(milliseconds: u64, gate: &Gate) {
    /// The time within which a closed gate is noticed.
    const NAP: Duration = Duration::from_micros(500);
    let (begun, time) = (Instant::now(), Duration::from_millis(milliseconds));
    while gate.is_open() && begun.elapsed() < time {
        thread::sleep(NAP);
    }
}

/// A worker or the concurrent reader.
pub(crate) enum Member<W, R> {
    /// A thread that is measured.
    Works(W),
    /// The thread that only reads.
    Reads(R),
}

impl<W, R> Member<W, R> {
    /// Returns the worker; `None` for the reader.
    pub(crate) fn worker(&mut self) -> Option<&mut W> {
        match self {
            Self::Works(worker) => Some(worker),
            Self::Reads(_) => None,
        }
    }
}

impl<W: Worker, R: Worker> Worker for Member<W, R> {
    fn work(&mut self, gate: &Gate) -> u64 {
        match self {
            Self::Works(worker) => worker.work(gate),
            Self::Reads(reader) => reader.work(gate),
        }
    }

    fn forget_warm_up(&mut self) {
        match self {
            Self::Works(worker) => worker.forget_warm_up(),
            Self::Reads(reader) => reader.forget_warm_up(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_parsed_as_it_is_displayed() {
        for reader in Reader::USUAL.into_iter().chain([Reader::Sleep(1), Reader::Stall(10_000)]) {
            assert_eq!(reader.to_string().parse(), Ok(reader));
        }
    }

    #[test]
    fn the_error_for_an_unknown_name_says_what_is_expected() {
        for name in ["", "sits", "stall", "stall-100", "stall-0ms", "sleep-10001ms", "stall--1ms"] {
            let reason = name.parse::<Reader>().unwrap_err();
            assert!(
                reason.contains("busy, stall-1ms to stall-10000ms and, in flood, sleep-1ms"),
                "{reason}"
            );
        }
    }

    #[test]
    fn a_stalled_reader_leaves_when_the_gate_is_closed() {
        let gate = Gate::default();
        gate.close();
        let begun = Instant::now();
        sit(Reader::LONGEST, &gate);
        assert!(begun.elapsed() < Duration::from_millis(Reader::LONGEST));
    }
}
