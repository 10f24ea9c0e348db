//! `producer-consumer`: of every two threads one allocates and the other frees, with a [`Ring`]
//! between them.
//!
//! The peak of memory is that of the process, beyond its memory before the allocator was built: it
//! is the same measure for every subject, whether the memory is in caches, in slabs or pending. It
//! includes the objects on the ring (at most [`ROOM`] per two threads) and the stacks of the
//! threads, which are the same for all subjects. It is meaningful only if the sample has a separate
//! process.

use std::alloc::Layout;

use super::allocator::Allocator;
use super::ring::{Consumer, Producer, ROOM, Ring};
use super::{Setting, enter, readings};
use crate::measure::{
    Gate, Metric, NoReadings, Reading, Slice, Worker, WrongAnswer, forget_peak,
    peak_resident_bytes, resident_bytes,
};
use crate::workload::reader::Reader;

/// Resets the peak of memory. Returns the resident bytes.
pub(super) fn resident_before() -> u64 {
    forget_peak();
    resident_bytes()
}

/// Runs pairs of threads that pass objects. `before` is the number of resident bytes before the
/// allocator was built.
pub(super) fn run<S: Allocator>(
    setting: Setting,
    layout: Layout,
    allocator: &S,
    slice: Slice,
    before: u64,
) -> Result<Vec<Reading>, NoReadings> {
    let mut rings: Vec<_> =
        (0..setting.threads / 2).map(|_| Ring::new(allocator, layout)).collect();
    let ends = rings.iter_mut().map(Ring::ends);
    let may_read = setting.reader != Reader::None;
    let thread = |end| RingThread { allocator, may_read, end, fault: None };
    let threads = ends.flat_map(|(producer, consumer)| {
        [thread(End::Produces(producer)), thread(End::Consumes(consumer))]
    });
    let mut team = setting.team(allocator, threads);
    let throughput = team.run_for(setting.reader.slice(slice), || {})?;
    let peak = peak_resident_bytes().saturating_sub(before);
    if let Some(fault) = team.iter_mut().find_map(|one| one.worker()?.fault.take()) {
        return Err(fault.into());
    }
    let mut readings = readings(setting, &throughput);
    if before > 0 {
        readings.push(Reading::new(setting.case, Metric::MemPeakBytes, peak as f64));
    }
    Ok(readings)
}

/// One thread of a pair.
struct RingThread<'b, 's, S: Allocator> {
    allocator: &'s S,
    may_read: bool,
    end: End<'b, 's, S>,
    fault: Option<WrongAnswer>,
}

enum End<'b, 's, S: Allocator> {
    Produces(Producer<'b, 's, S>),
    Consumes(Consumer<'b, 's, S>),
}

impl<S: Allocator> Worker for RingThread<'_, '_, S> {
    /// Counts frees.
    fn work(&mut self, gate: &Gate) -> u64 {
        enter(self.allocator, self.may_read);
        match &mut self.end {
            End::Produces(producer) => {
                if !producer.produce(gate) {
                    self.fault = Some(WrongAnswer(format!(
                        "an allocation failed with at most {ROOM} objects in use"
                    )));
                }
                0
            }
            End::Consumes(consumer) => {
                let (count, intact) = consumer.consume(gate);
                if intact < count {
                    self.fault = Some(WrongAnswer(format!(
                        "only {intact} of {count} objects still had their stamp"
                    )));
                }
                count
            }
        }
    }
}
