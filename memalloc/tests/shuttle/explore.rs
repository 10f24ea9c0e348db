//! Runs a program under many schedules: half of them random, half by probabilistic concurrency
//! testing (PCT), which changes the order of priorities at two random steps of an execution.

use super::{broken, machine};
use memalloc::broken::{Fault, leaves_out};
use shuttle::rand::{RngCore, thread_rng};
use shuttle::scheduler::{
    PctScheduler, RandomScheduler, ReplayScheduler, RoundRobinScheduler, Scheduler,
    UncontrolledNondeterminismCheckScheduler,
};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::env;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// An error of two threads needs a depth of 2; PCT finds errors of up to this depth.
const PCT_DEPTH: usize = 3;

/// An execution with more steps than this hangs.
const MOST_STEPS: usize = 20_000_000;

/// A program may have large arrays on the stack.
const STACK_BYTES: usize = 1 << 20;

/// One execution at a time: statics of the libraries are shared, and must be the same in a replay.
static EXPLORING: Mutex<()> = Mutex::new(());

/// Runs `program` with a random seed under `executions` schedules of each scheduler; the variable
/// `SHUTTLE_LONGER` multiplies their number. With a file of a schedule in `SCHEDULE`, runs only
/// that one. With the name of a fault in `BROKEN`, leaves that step out.
pub(crate) fn explore(executions: usize, program: impl Fn(u64) + Copy + Send + Sync + 'static) {
    let _exploring = begin(program);
    if let Ok(file) = env::var("SCHEDULE") {
        let schedule = ReplayScheduler::new_from_file(file).expect("SCHEDULE is a file");
        return report("replay", || run(schedule, program));
    }
    let longer = env::var("SHUTTLE_LONGER")
        .map_or(1, |times| times.parse().expect("SHUTTLE_LONGER is a number"));
    let executions = executions * longer;
    report("random", || run(RandomScheduler::new(executions), program));
    report("PCT", || run(PctScheduler::new(PCT_DEPTH, executions), program));
}

/// Runs `program` twice under each of so many random schedules. Panics if the threads that can run
/// differ at any step.
pub(crate) fn replay_each(executions: usize, program: impl Fn(u64) + Copy + Send + Sync + 'static) {
    let _exploring = begin(program);
    let scheduler = UncontrolledNondeterminismCheckScheduler::new(RandomScheduler::new(executions));
    report("twice", || run(scheduler, program));
}

/// Prepares the process. A first execution gives statics the values that they keep.
fn begin(program: impl Fn(u64) + Send + Sync + 'static) -> MutexGuard<'static, ()> {
    let exploring = EXPLORING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    machine::install();
    broken::leave_out();
    run(RoundRobinScheduler::new(1), program);
    exploring
}

/// Returns the number of executions.
fn run(
    scheduler: impl Scheduler + 'static,
    program: impl Fn(u64) + Send + Sync + 'static,
) -> usize {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    config.silence_warnings = true;
    // A broken build fails as expected.
    config.failure_persistence = match Fault::ALL.iter().any(|&fault| leaves_out(fault)) {
        true => FailurePersistence::None,
        false => FailurePersistence::File(Some(env!("CARGO_TARGET_TMPDIR").into())),
    };
    Runner::new(scheduler, config).run(move || program(thread_rng().next_u64()))
}

/// Prints the extent of the exploration; or, if that fails, how to repeat the execution.
fn report(name: &str, explore: impl FnOnce() -> usize) {
    let thread = std::thread::current();
    let claim = thread.name().expect("tests have threads of their own");
    let (_replay, begin) = (Replay(claim), Instant::now());
    let executions = explore();
    println!("{claim}, {name}: {executions} executions, {:.1} s", begin.elapsed().as_secs_f64());
}

/// Says how to repeat the execution that failed.
struct Replay<'c>(&'c str);

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "to replay the schedule in that file: SCHEDULE=FILE cargo shuttle {}",
                self.0
            );
        }
    }
}
