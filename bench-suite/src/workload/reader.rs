//! The readers beside a workload: a parameter of every bench whose subjects defer to them.

use std::fmt;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::{Gate, Worker};

/// What reads meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Nothing, and no thread ever did.
    None,
    /// Each writer has read before, and never does again.
    Idle,
    /// A thread of its own enters and leaves read sections all the time.
    Busy,
    /// A thread of its own sits in a section for so many milliseconds, leaves, and begins again.
    Stall(u64),
}

impl Reader {
    /// The usual ones, in the order in which they run.
    pub(crate) const USUAL: [Self; 4] = [Self::None, Self::Idle, Self::Busy, Self::Stall(100)];

    /// The longest stall, in milliseconds.
    const LONGEST: u64 = 10_000;

    /// Whether there is a thread that does nothing else.
    pub(crate) fn has_thread(self) -> bool {
        matches!(self, Self::Busy | Self::Stall(_))
    }

    /// Whether there is a thread that wants to run all the time and does nothing else.
    pub(crate) fn wants_cpu(self) -> bool {
        self == Self::Busy
    }

    /// Whether it sits in sections.
    pub(crate) fn sits(self) -> bool {
        matches!(self, Self::Stall(_))
    }

    /// How much of the time budget a sample takes, in proportion to one beside no reader: a sample
    /// should see a few of a sitting reader's sections.
    pub(crate) fn share(self) -> f64 {
        match self {
            Self::Stall(milliseconds) => 4.0 * (milliseconds as f64 / 100.0).max(1.0),
            _ => 1.0,
        }
    }

    /// "none, idle, busy, stall-MSms".
    const ALLOWED: &str = "none, idle, busy and stall-1ms to stall-10000ms";
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.pad("none"),
            Self::Idle => f.pad("idle"),
            Self::Busy => f.pad("busy"),
            Self::Stall(milliseconds) => f.pad(&format!("stall-{milliseconds}ms")),
        }
    }
}

impl FromStr for Reader {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let stall = || {
            let milliseconds = name.strip_prefix("stall-")?.strip_suffix("ms")?.parse().ok()?;
            (1..=Self::LONGEST).contains(&milliseconds).then_some(Self::Stall(milliseconds))
        };
        match name {
            "none" => Ok(Self::None),
            "idle" => Ok(Self::Idle),
            "busy" => Ok(Self::Busy),
            _ => stall()
                .ok_or_else(|| format!("unknown reader \"{name}\": allowed are {}", Self::ALLOWED)),
        }
    }
}

/// Stays until the time is up, or the gate is closed.
pub(crate) fn sit(milliseconds: u64, gate: &Gate) {
    /// How soon it notices that the gate was closed.
    const NAP: Duration = Duration::from_micros(500);
    let (begun, time) = (Instant::now(), Duration::from_millis(milliseconds));
    while gate.is_open() && begun.elapsed() < time {
        thread::sleep(NAP);
    }
}

/// A thread at work, or the reader beside those.
pub(crate) enum Member<W, R> {
    /// One of those that are measured.
    Works(W),
    /// One that reads beside them.
    Reads(R),
}

impl<W, R> Member<W, R> {
    /// The worker, if it is one.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for reader in Reader::USUAL.into_iter().chain([Reader::Stall(1), Reader::Stall(10_000)]) {
            assert_eq!(reader.to_string().parse(), Ok(reader));
        }
    }

    #[test]
    fn a_wrong_name_says_what_is_allowed() {
        for name in ["", "sits", "stall", "stall-100", "stall-0ms", "stall-10001ms", "stall--1ms"] {
            let reason = name.parse::<Reader>().unwrap_err();
            assert!(reason.contains("busy and stall-1ms to stall-10000ms"), "{reason}");
        }
    }

    #[test]
    fn a_sitting_reader_leaves_when_the_gate_is_closed() {
        let gate = Gate::default();
        gate.close();
        let begun = Instant::now();
        sit(Reader::LONGEST, &gate);
        assert!(begun.elapsed() < Duration::from_millis(Reader::LONGEST));
    }
}
