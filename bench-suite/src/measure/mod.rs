//! The method of measurement: threads, rounds, time, and the conclusions from samples.
//!
//! Knows nothing of the workloads. The rules:
//!
//! - subjects that are compared take one sample each in every round. Each sample runs in a separate
//!   process, and those of a round take turns of some milliseconds if they can (see [`turn`]), so
//!   that a change of the machine favours none of them. The order is reversed from round to round.
//! - a speed counts the operations of all threads together, from the moment when the first
//!   of them begins to the moment when the last one ends.
//! - samples of a workload with several threads are compared only with samples of the same
//!   placement of the CPUs (see [`Placed`]).
//! - a difference is claimed only if an interval excludes that there is none (see
//!   [`Comparison`]).
//! - a wrong answer never becomes a sample. It ends the run, or only its subject is
//!   withdrawn, and the earlier samples of that subject are dropped.
//! - a run that a signal ends, or that is refused a thread, keeps its complete rounds.

mod budget;
mod comparison;
mod cpus;
mod curve;
mod held;
mod interrupt;
mod metric;
mod placement;
mod probe;
mod resident;
mod rounds;
mod sample_process;
mod sample_request;
mod summary;
mod team;
mod throughput;
mod turn;

pub(crate) use budget::{Budget, SHORTEST, Slice};
pub(crate) use comparison::{Comparison, Interval, MARGIN, Side, Verdict};
pub(crate) use cpus::{available as available_cpus, pin as pin_to_cpu};
pub(crate) use curve::{Curve, Over, Timeline};
pub(crate) use held::HeldBytes;
pub(crate) use interrupt::{Interrupt, signal_name};
pub(crate) use metric::{Metric, Reading};
pub(crate) use placement::{Placed, ratios};
pub(crate) use probe::{Look, Probe};
pub(crate) use resident::{forget_peak, peak_resident_bytes, resident_bytes};
pub(crate) use rounds::{
    Contestant, CutOff, FEWEST_ROUNDS, NoReadings, Outcome, Rounds, Sampler, Series, WrongAnswer,
    run_rounds,
};
pub(crate) use sample_process::{SampleProcess, end_with_the_run};
pub(crate) use sample_request::{SampleRequest, answer};
pub(crate) use summary::Summary;
pub(crate) use team::{Gate, Team, Worker};
pub(crate) use throughput::Throughput;
