//! The concurrent reader of a case: a thread beside those that are measured. A stall is longer than
//! a turn, so samples beside a reader that runs are taken whole.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::map::{OrderedMap, View};
use super::walk::{Walk, number_of};
use super::{BATCH, ConcurrentReader, Setting, Value};
use crate::measure::{CutOff, Gate, NoReadings, WrongAnswer, pin_to_cpu};
use crate::workload::reader::sit;

/// Runs `work` beside the concurrent reader of `setting`, which has entered a section before.
///
/// # Errors
///
/// That of `work`; the reader found the value of another key; or the system can't start its thread.
pub(super) fn beside_reader<V: Value, M: OrderedMap<V>, R>(
    map: &M,
    setting: Setting<'_>,
    work: impl FnOnce() -> Result<R, NoReadings>,
) -> Result<R, NoReadings> {
    if setting.concurrent == ConcurrentReader::None {
        return work();
    }
    let gate = &Gate::default();
    let (entered, has_entered) = channel();
    let (stop, stopped) = channel();
    thread::scope(|scope| {
        let reader = move || read(map, setting, gate, entered, &stopped);
        let reader = thread::Builder::new().spawn_scoped(scope, reader).map_err(|error| {
            CutOff::Refused(format!("the system did not start a thread that reads: {error}"))
        })?;
        let stop = Stop { gate, _stopped: stop };
        // Ends when the reader drops the other end.
        let _ = has_entered.recv();
        let end = work();
        drop(stop);
        let wrong = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match wrong {
            Some(wrong) => Err(wrong.into()),
            None => end,
        }
    })
}

/// Stops the reader when it is dropped, also by a panic.
struct Stop<'g> {
    gate: &'g Gate,
    _stopped: Sender<()>,
}

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.gate.close();
    }
}

/// Reads until the gate is closed; drops `entered` in its first section.
fn read<V: Value, M: OrderedMap<V>>(
    map: &M,
    setting: Setting<'_>,
    gate: &Gate,
    entered: Sender<()>,
    stopped: &Receiver<()>,
) -> Option<WrongAnswer> {
    let queries = &setting.data.queries;
    let mut walk = Walk::through(queries, 0..queries.len());
    let mut entered = Some(entered);
    pin_to_cpu(setting.threads);
    loop {
        let view = map.pin();
        let mut wrong = None;
        let mut look = |(number, key): (u32, &[u8])| {
            // The key may be absent, and its value may have been replaced.
            let found = view.get(key).map(number_of);
            if found.is_some_and(|found| found != number) {
                wrong = Some(WrongAnswer(format!(
                    "a concurrent reader looked up key {number} and found {found:?}"
                )));
            }
        };
        let first = walk.next();
        look(first);
        drop(entered.take());
        match setting.concurrent {
            ConcurrentReader::Busy => (1..BATCH).for_each(|_| look(walk.next())),
            ConcurrentReader::Stall(milliseconds) | ConcurrentReader::Sleep(milliseconds) => {
                sit(milliseconds, gate);
                look(first);
            }
            ConcurrentReader::None | ConcurrentReader::Idle => {}
        }
        drop(view);
        if setting.concurrent == ConcurrentReader::Idle {
            // Ends when the sender is dropped.
            let _ = stopped.recv();
        }
        if wrong.is_some() || !gate.is_open() {
            return wrong;
        }
    }
}
