//! `producer-consumer`: of each two threads one allocates and the other frees, with a [`Belt`]
//! between them.
//!
//! The peak of memory is that of the process, beyond what it had before the source was built: it
//! is the same measure for everybody, whether the memory is held in caches, in slabs or in what
//! waits for a grace period. It contains the objects on the belt (at most [`ROOM`] for each two
//! threads) and the stacks of the threads, which are the same for all. It means something only
//! where the sample has a process of its own.

use std::alloc::Layout;

use super::belt::{Belt, Loader, ROOM, Unloader};
use super::source::Source;
use super::{Setting, readings};
use crate::measure::{
    Gate, Metric, Reading, Slice, Team, Worker, WrongAnswer, forget_peak, peak_resident_bytes,
    resident_bytes,
};

/// Has the peak of memory begin again. Returns what is resident now, in bytes.
pub(super) fn resident_before() -> u64 {
    forget_peak();
    resident_bytes()
}

/// Has pairs of threads pass objects. `before` the source was built so much was resident.
pub(super) fn run<S: Source>(
    setting: Setting,
    layout: Layout,
    source: &S,
    slice: Slice,
    before: u64,
) -> Result<Vec<Reading>, WrongAnswer> {
    let mut belts: Vec<_> = (0..setting.threads / 2).map(|_| Belt::new(source, layout)).collect();
    let ends = belts.iter_mut().map(Belt::ends);
    let mut team: Team<_> =
        ends.flat_map(|(load, unload)| [Role::loads(load), Role::unloads(unload)]).collect();
    let shift = team.run_for(slice, || {})?;
    let peak = peak_resident_bytes().saturating_sub(before);
    if let Some(fault) = team.iter_mut().find_map(|role| role.fault.take()) {
        return Err(fault);
    }
    let mut readings = readings(setting, &shift);
    if before > 0 {
        readings.push(Reading::new(setting.case, Metric::MemPeakBytes, peak as f64));
    }
    Ok(readings)
}

/// What a thread does.
struct Role<'b, 's, S: Source> {
    end: End<'b, 's, S>,
    fault: Option<WrongAnswer>,
}

enum End<'b, 's, S: Source> {
    Loads(Loader<'b, 's, S>),
    Unloads(Unloader<'b, 's, S>),
}

impl<'b, 's, S: Source> Role<'b, 's, S> {
    fn loads(end: Loader<'b, 's, S>) -> Self {
        Self { end: End::Loads(end), fault: None }
    }

    fn unloads(end: Unloader<'b, 's, S>) -> Self {
        Self { end: End::Unloads(end), fault: None }
    }
}

impl<S: Source> Worker for Role<'_, '_, S> {
    /// Counts what was freed.
    fn work(&mut self, gate: &Gate) -> u64 {
        match &mut self.end {
            End::Loads(loader) => {
                if !loader.load(gate) {
                    self.fault = Some(WrongAnswer(format!(
                        "an allocation was not served, with at most {ROOM} objects out"
                    )));
                }
                0
            }
            End::Unloads(unloader) => {
                let (count, intact) = unloader.unload(gate);
                if intact < count {
                    self.fault = Some(WrongAnswer(format!(
                        "of {count} objects {intact} still had what had been written into them"
                    )));
                }
                count
            }
        }
    }
}
