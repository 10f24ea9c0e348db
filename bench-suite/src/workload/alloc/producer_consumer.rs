//! `producer-consumer`: of each two threads one allocates and the other frees, with a [`Ring`]
//! between them.
//!
//! The peak of memory is that of the process, beyond what it had before the allocator was built: it
//! is the same measure for everybody, whether the memory is held in caches, in slabs or in what
//! waits for a grace period. It contains the objects on the ring (at most [`ROOM`] for each two
//! threads) and the stacks of the threads, which are the same for all. It means something only
//! where the sample has a process of its own.

use std::alloc::Layout;

use super::allocator::Allocator;
use super::ring::{Consumer, Producer, ROOM, Ring};
use super::{Setting, enter, readings};
use crate::measure::{
    Gate, Metric, Reading, Slice, Worker, WrongAnswer, forget_peak, peak_resident_bytes,
    resident_bytes,
};
use crate::workload::reader::Reader;

/// Has the peak of memory begin again. Returns what is resident now, in bytes.
pub(super) fn resident_before() -> u64 {
    forget_peak();
    resident_bytes()
}

/// Has pairs of threads pass objects. `before` the allocator was built so much was resident.
pub(super) fn run<S: Allocator>(
    setting: Setting,
    layout: Layout,
    allocator: &S,
    slice: Slice,
    before: u64,
) -> Result<Vec<Reading>, WrongAnswer> {
    let mut rings: Vec<_> =
        (0..setting.threads / 2).map(|_| Ring::new(allocator, layout)).collect();
    let ends = rings.iter_mut().map(Ring::ends);
    let may_read = setting.reader != Reader::None;
    let thread = |end| RingThread { allocator, may_read, end, fault: None };
    let threads = ends.flat_map(|(producer, consumer)| {
        [thread(End::Produces(producer)), thread(End::Consumes(consumer))]
    });
    let mut team = setting.team(allocator, threads);
    let throughput = team.run_for(slice, || {})?;
    let peak = peak_resident_bytes().saturating_sub(before);
    if let Some(fault) = team.iter_mut().find_map(|one| one.worker()?.fault.take()) {
        return Err(fault);
    }
    let mut readings = readings(setting, &throughput);
    if before > 0 {
        readings.push(Reading::new(setting.case, Metric::MemPeakBytes, peak as f64));
    }
    Ok(readings)
}

/// What a thread does.
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
    /// Counts what was freed.
    fn work(&mut self, gate: &Gate) -> u64 {
        enter(self.allocator, self.may_read);
        match &mut self.end {
            End::Produces(producer) => {
                if !producer.produce(gate) {
                    self.fault = Some(WrongAnswer(format!(
                        "an allocation was not served, with at most {ROOM} objects out"
                    )));
                }
                0
            }
            End::Consumes(consumer) => {
                let (count, intact) = consumer.consume(gate);
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
