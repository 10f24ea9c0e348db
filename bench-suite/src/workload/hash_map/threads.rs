//! The threads of a run, and its course.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::map::{Keys, LOOP, Map, Session, Task};
use crate::measure::{
    Gate, HeldBytes, Metric, NoReadings, Reading, Slice, Team, Throughput, Worker, WrongAnswer,
    forget_peak, peak_resident_bytes, resident_bytes,
};
use crate::workload::reader::{Member, Reader, sit};

/// The turn of two threads that share keys: set while it is the deleting thread's.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Turn(AtomicBool);

impl Turn {
    /// Waits until it is this side's turn. Returns false if the time was up first.
    fn wait(&self, is_deleter: bool, gate: &Gate) -> bool {
        // ORDERING: pairs with the Release of `pass`: the other side's changes to the map happen
        // before. Maps synchronize internally; no test depends on it.
        while self.0.load(Ordering::Acquire) != is_deleter {
            if !gate.is_open() {
                return false;
            }
            std::hint::spin_loop();
            thread::yield_now();
        }
        true
    }

    fn pass(&self, is_deleter: bool) {
        // ORDERING: see `wait`.
        self.0.store(!is_deleter, Ordering::Release);
    }
}

/// A thread that changes the map.
struct Producer<'m, M> {
    map: &'m M,
    number: usize,
    task: Task,
    keys: Keys,
    turn: &'m Turn,
    /// True if it reads once before it begins.
    has_read: bool,
    /// True if it has run at least once.
    has_run: bool,
    wrong: Option<WrongAnswer>,
}

impl<M: Map> Worker for Producer<'_, M> {
    fn work(&mut self, gate: &Gate) -> u64 {
        let mut session = self.map.session(self.number);
        if self.has_read && self.wrong.is_none() {
            self.wrong = session.sit(self.keys.from, || ()).err();
        }
        let mut operations = 0;
        while self.wrong.is_none() {
            let sides = [Task::Add, Task::Delete].contains(&self.task);
            let is_deleter = self.task == Task::Delete;
            if sides && !self.turn.wait(is_deleter, gate) {
                break;
            }
            self.wrong = session.run(self.keys).err();
            self.has_run = true;
            operations += self.task.operations();
            if sides {
                self.turn.pass(is_deleter);
            }
            if !gate.is_open() {
                break;
            }
        }
        operations
    }
}

/// The concurrent reader.
struct Beside<'m, M> {
    map: &'m M,
    number: usize,
    reader: Reader,
    /// The number of keys of all threads.
    keys: u32,
    rng: fastrand::Rng,
    wrong: Option<WrongAnswer>,
}

impl<M: Map> Worker for Beside<'_, M> {
    fn work(&mut self, gate: &Gate) -> u64 {
        let mut session = self.map.session(self.number);
        let mut looks = 0;
        while self.wrong.is_none() {
            match self.reader {
                Reader::Stall(milliseconds) | Reader::Sleep(milliseconds) => {
                    let key = self.rng.u32(..self.keys);
                    self.wrong = session.sit(key, || sit(milliseconds, gate)).err();
                    looks += 1;
                }
                _ => {
                    // Any 64 consecutive keys.
                    let from = self.rng.u32(..=self.keys - LOOP);
                    self.wrong = session.run(Keys { from, step: 1 }).err();
                    looks += Task::Read.operations();
                }
            }
            if !gate.is_open() {
                break;
            }
        }
        looks
    }
}

/// The parameters of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The task of the threads; of a pair, the task of the first one.
    pub(super) task: Task,
    pub(super) threads: usize,
    pub(super) value_size: usize,
    pub(super) reader: Reader,
}

impl Plan {
    fn in_pairs(self) -> bool {
        self.task == Task::Add
    }

    fn task_of(self, number: usize) -> Task {
        match self.in_pairs() && !number.is_multiple_of(2) {
            true => Task::Delete,
            false => self.task,
        }
    }

    /// Returns the number of distinct sets of keys.
    fn owners(self) -> usize {
        if self.in_pairs() { self.threads / 2 } else { self.threads }
    }

    fn keys_of(self, number: usize) -> Keys {
        let owner = if self.in_pairs() { number / 2 } else { number };
        Keys { from: owner as u32, step: self.owners() as u32 }
    }

    /// Returns the tasks of all threads.
    fn tasks(self) -> Vec<Task> {
        let reader = self.reader.has_thread().then_some(Task::Read);
        (0..self.threads).map(|number| self.task_of(number)).chain(reader).collect()
    }
}

/// The result of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    throughput: Throughput,
    threads: usize,
    held: HeldBytes,
    peak: Option<u64>,
}

impl Outcome {
    /// Returns the operations per second of all threads.
    pub(super) fn ops_per_s(&self) -> f64 {
        let operations = &self.throughput.operations()[..self.threads];
        self.throughput.per_second(operations.iter().sum())
    }

    /// Returns the operations per second of CPU time if it is known: other load on the machine does
    /// not count.
    pub(super) fn ops_per_cpu_s(&self) -> f64 {
        let share = self.throughput.cpu_share("").map_or(1.0, |share| share.value);
        self.ops_per_s() / share
    }

    /// Returns speed, memory, and the share of CPU time.
    pub(super) fn readings(&self, case: &'static str, reader: Reader) -> Vec<Reading> {
        let mut readings = vec![Reading::new(case, Metric::OpsPerS, self.ops_per_s())];
        if reader == Reader::Busy {
            let looks = self.throughput.operations()[self.threads..].iter().sum();
            let speed = self.throughput.per_second(looks);
            readings.push(Reading::new(case, Metric::LookupsPerS, speed));
        }
        match self.peak {
            Some(peak) => {
                readings.extend(self.held.average(case));
                readings.push(Reading::new(case, Metric::MemPeakBytes, peak as f64));
            }
            None => readings.extend(self.held.readings(case)),
        }
        // A stalled reader sleeps: it does not want a CPU.
        if !reader.sits() {
            readings.extend(self.throughput.cpu_share(case));
        }
        readings
    }
}

/// Runs a plan on a new map, and checks its final content.
pub(super) fn run<M: Map>(plan: Plan, slice: Slice) -> Result<Outcome, NoReadings> {
    let Plan { threads, value_size, reader, .. } = plan;
    forget_peak();
    let before = resident_bytes();
    let map = M::build(&plan.tasks(), value_size)?;
    let turns: Vec<Turn> = (0..plan.owners()).map(|_| Turn::default()).collect();
    let producer = |number| {
        Member::Works(Producer {
            map: &map,
            number,
            task: plan.task_of(number),
            keys: plan.keys_of(number),
            turn: &turns[plan.keys_of(number).from as usize],
            has_read: reader != Reader::None,
            has_run: false,
            wrong: None,
        })
    };
    let beside = reader.has_thread().then(|| {
        let (keys, rng) = (LOOP * plan.owners() as u32, fastrand::Rng::with_seed(1));
        Member::Reads(Beside { map: &map, number: threads, reader, keys, rng, wrong: None })
    });
    let mut team: Team<_> = (0..threads).map(producer).chain(beside).collect();
    let mut held = HeldBytes::default();
    let grown = |bytes: u64| (before > 0).then(|| bytes.saturating_sub(before));
    let look = || match M::IS_INSIDE {
        true => grown(resident_bytes()),
        false => map.held_outside(),
    };
    let throughput = team.run_for(reader.slice(slice), || {
        if let Some(bytes) = look() {
            held.note(bytes);
        }
    })?;
    let peak = if M::IS_INSIDE { grown(peak_resident_bytes()) } else { map.peak_outside() };
    let mut left = Vec::new();
    for member in team.iter_mut() {
        let wrong = match member {
            Member::Works(one) => {
                left.extend(one.left());
                one.wrong.take()
            }
            Member::Reads(one) => one.wrong.take(),
        };
        wrong.map_or(Ok(()), Err)?;
    }
    left.sort_unstable();
    drop(team);
    map.close(&left)?;
    Ok(Outcome { throughput, threads, held, peak })
}

impl<M: Map> Producer<'_, M> {
    /// Returns the keys that the thread leaves in the map.
    fn left(&self) -> impl Iterator<Item = u32> {
        let leaves = match self.task {
            Task::Overwrite => self.has_run,
            // The keys are there as long as the other side has not had its turn.
            Task::Add => self.turn.0.load(Ordering::Relaxed),
            _ => false,
        };
        leaves.then(|| self.keys.iter()).into_iter().flatten()
    }
}
