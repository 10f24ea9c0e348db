//! A simulated machine with any number of CPUs, in one process. Each CPU is a thread, and one
//! thread runs at a time. The turn passes to another thread at random accesses, and wherever a
//! thread waits. The same seed gives the same order on every computer. Simulated time is the sum of
//! estimated costs of the operations.

use super::coherence::{Caches, MOST_CPUS};
use super::place::{Chain, Places};
use memalloc::sync::machine::{self, Access, AccessKind, Machine};
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::AddAssign;
use std::panic::Location;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, Once};
use std::thread::{self, Thread};
use std::time::Duration;

/// The mean number of accesses of a turn, while counting.
const MEAN_TURN: u32 = 2;
/// The mean number of accesses of a turn, before counting.
const MEAN_WARM_UP_TURN: u32 = 64;

/// After this many accesses of the machine, waiting threads check their conditions again.
const RECHECK_INTERVAL: u32 = 256;

/// The estimated cost of an access, in picoseconds of one CPU's time. This and the following costs
/// drive the simulated clock and nothing else.
const ACCESS: u64 = 1_000;
/// The additional cost of an access for each line that moves, in picoseconds.
const MOVE: u64 = 100_000;
/// The cost of a fence, in picoseconds.
const FENCE: u64 = 5_000;
/// The cost of a turn that a waiting thread gives up, in picoseconds.
const WAIT: u64 = 50_000;
/// The cost of a system call that interrupts all other CPUs, in picoseconds.
const INTERRUPT: u64 = 10_000_000;

/// The largest number of consecutive waits while no other thread can run. A longer wait
/// would never end, so the thread panics.
const MOST_LONELY_WAITS: u32 = 1 << 20;

/// Stands for no CPU.
const NOWHERE: usize = usize::MAX;

thread_local! {
    /// The CPU of the thread, or `NOWHERE`.
    static CPU: Cell<usize> = const { Cell::new(NOWHERE) };
}

/// The counts of a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Lines that moved for a read.
    pub(crate) read: u64,
    /// Lines that moved for a write, atomic read-modify-writes included.
    pub(crate) written: u64,
    /// Of both, moves by false sharing: the other CPU had only written other bytes of the line.
    pub(crate) false_sharing: u64,
    /// Copies that were invalidated in other CPUs' caches.
    pub(crate) invalidated: u64,
    /// Atomic read-modify-write operations.
    pub(crate) atomics: u64,
    /// SeqCst fences.
    pub(crate) fences: u64,
    /// System calls that interrupt every other CPU.
    pub(crate) interrupts: u64,
    /// Turns given up to wait for another thread.
    pub(crate) waits: u64,
}

impl Counts {
    /// Returns the number of lines that moved.
    pub(crate) fn moved(&self) -> u64 {
        self.read + self.written
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.written += other.written;
        self.false_sharing += other.false_sharing;
        self.invalidated += other.invalidated;
        self.atomics += other.atomics;
        self.fences += other.fences;
        self.interrupts += other.interrupts;
        self.waits += other.waits;
    }
}

/// The results of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The counts of each CPU.
    pub(crate) counts: Vec<Counts>,
    /// The numbers of lines that moved to workers, by place in the source.
    pub(crate) places: Places,
}

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Caches fill. Nothing is counted.
    WarmUp,
    /// Operations are counted.
    Counted,
    /// The run ends. Nothing is counted.
    Over,
}

/// The last seen content of an `UnsafeCell`.
struct Snapshot {
    bytes: Vec<u8>,
    /// The CPU that had mutable access last, and the place of that access. The CPU may have written
    /// the cell since then. A cell without a mutable access has its first access here.
    last: (usize, &'static Location<'static>),
}

/// The state of the machine.
struct State {
    random: fastrand::Rng,
    caches: Caches,
    /// Cells by address.
    cells: HashMap<usize, Snapshot>,
    counts: Vec<Counts>,
    /// Lines that moved to workers while counting.
    chains: HashMap<Chain, u64>,
    phase: Phase,
    /// CPUs that can run.
    ready: Vec<usize>,
    /// CPUs that wait for a condition. They check it again when `until_recheck` reaches 0.
    waiting: Vec<usize>,
    until_recheck: u32,
    /// Workers that have reached the end of the phase.
    arrived: Vec<usize>,
    /// CPUs that do nothing until the run ends.
    resting: Vec<usize>,
    /// The number of workers. They are the first CPUs.
    workers: usize,
    lonely_waits: u32,
    threads: Vec<Option<Thread>>,
    picoseconds: u64,
}

impl State {
    fn new(cpus: usize, workers: usize, seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            caches: Caches::default(),
            cells: HashMap::new(),
            counts: vec![Counts::default(); cpus],
            chains: HashMap::new(),
            phase: Phase::WarmUp,
            ready: Vec::new(),
            waiting: Vec::new(),
            until_recheck: RECHECK_INTERVAL,
            arrived: Vec::new(),
            resting: Vec::new(),
            workers,
            lonely_waits: 0,
            threads: vec![None; cpus],
            picoseconds: 0,
        }
    }

    /// Advances the clock: one CPU was busy for this time, and the other running CPUs as long.
    fn spend(&mut self, picoseconds: u64) {
        let busy = self.ready.len() + self.waiting.len();
        self.picoseconds += picoseconds / busy.max(1) as u64;
    }

    /// Changes the counts of a CPU, if the phase is counted.
    fn count(&mut self, cpu: usize, change: impl FnOnce(&mut Counts)) {
        if self.phase == Phase::Counted {
            change(&mut self.counts[cpu]);
        }
    }

    /// Applies an access of a CPU to the caches, the counts and the clock.
    fn access(&mut self, cpu: usize, access: Access) {
        let Access { address, bytes, kind, place } = access;
        let (mut counts, mut moves) = (Counts::default(), 0);
        counts.atomics += u64::from(kind == AccessKind::ReadModifyWrite);
        self.caches.access(cpu, address, bytes, kind != AccessKind::Load, |effect| {
            let moved = u64::from(effect.moved);
            if kind == AccessKind::Load {
                counts.read += moved;
            } else {
                counts.written += moved;
            }
            counts.false_sharing += u64::from(effect.moved && effect.false_sharing);
            counts.invalidated += u64::from(effect.invalidated);
            moves += moved;
        });
        self.spend(ACCESS + moves * MOVE);
        self.until_recheck -= 1;
        if self.until_recheck == 0 {
            self.recheck();
        }
        if moves > 0 && self.phase == Phase::Counted && self.is_worker(cpu) {
            *self.chains.entry(Chain::here(place)).or_default() += moves;
        }
        self.count(cpu, |all| *all += counts);
    }

    /// Applies an access to a cell. The façade reports the access to the cell, not the writes to
    /// its content. So lines that differ from the snapshot count as written by the CPU in
    /// [`Snapshot::last`].
    fn cell(
        &mut self,
        cpu: usize,
        (address, bytes): (usize, usize),
        writes: bool,
        place: &'static Location<'static>,
    ) {
        if bytes == 0 {
            return;
        }
        // SAFETY: the cell exists, and only one thread runs at a time. Padding bytes are only
        // copied and compared.
        let now = unsafe { std::slice::from_raw_parts(address as *const u8, bytes) };
        let known = self.cells.remove(&address).filter(|cell| cell.bytes.len() == bytes);
        let mut cell =
            known.unwrap_or_else(|| Snapshot { bytes: now.to_vec(), last: (cpu, place) });
        let (writer, written_at) = cell.last;
        let mut at = 0;
        while at < bytes {
            let next = bytes.min(((address + at) / 64 + 1) * 64 - address);
            let (old, new) = (&cell.bytes[at..next], &now[at..next]);
            if let Some(first) = old.iter().zip(new).position(|(old, new)| old != new) {
                let last = old.iter().zip(new).rposition(|(old, new)| old != new).unwrap_or(first);
                let (address, bytes) = (address + at + first, last + 1 - first);
                let kind = AccessKind::Store;
                self.access(writer, Access { address, bytes, kind, place: written_at });
            }
            at = next;
        }
        self.access(cpu, Access { address, bytes, kind: AccessKind::Load, place });
        cell.bytes.copy_from_slice(now);
        if writes {
            cell.last = (cpu, place);
        }
        self.cells.insert(address, cell);
    }

    fn is_worker(&self, cpu: usize) -> bool {
        cpu < self.workers
    }

    /// Lets all waiting CPUs run, to check their conditions.
    fn recheck(&mut self) {
        self.ready.append(&mut self.waiting);
        self.until_recheck = RECHECK_INTERVAL;
    }

    /// Returns a random CPU that can run, or `None` if every CPU has arrived or rests.
    fn any_ready(&mut self) -> Option<usize> {
        if self.ready.is_empty() {
            self.recheck();
        }
        let count = self.ready.len();
        (count > 0).then(|| self.ready[self.random.usize(..count)])
    }

    /// Begins the next phase if every worker has reached the end of this one.
    fn advance(&mut self) {
        if self.arrived.len() < self.workers {
            return;
        }
        match self.phase {
            Phase::WarmUp => {
                self.phase = Phase::Counted;
                self.ready.append(&mut self.arrived);
            }
            Phase::Counted | Phase::Over => self.end(),
        }
    }

    /// Ends the run: counting stops, and all CPUs may run.
    fn end(&mut self) {
        self.phase = Phase::Over;
        self.ready.append(&mut self.arrived);
        self.ready.append(&mut self.resting);
    }
}

/// The machine, as the façade sees it.
struct Simulated {
    state: Mutex<State>,
    /// The CPU whose thread runs.
    turn: AtomicUsize,
    /// The accesses left in its turn.
    until_turn: AtomicU32,
}

static SIMULATED: LazyLock<Simulated> = LazyLock::new(|| Simulated {
    state: Mutex::new(State::new(1, 1, 0)),
    turn: AtomicUsize::new(NOWHERE),
    until_turn: AtomicU32::new(1),
});

/// Held during a run: there is one machine.
static RUNNING: Mutex<()> = Mutex::new(());

impl Simulated {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Passes the turn to CPU `to`. The calling CPU, if given in `returns`, then waits for its next
    /// turn.
    fn hand_over(&self, state: MutexGuard<'_, State>, to: usize, returns: Option<usize>) {
        let thread = state.threads[to].clone();
        drop(state);
        self.turn.store(to, Ordering::Release);
        thread.expect("every CPU has its thread").unpark();
        if let Some(me) = returns {
            self.wait_for_turn(me);
        }
    }

    fn wait_for_turn(&self, me: usize) {
        while self.turn.load(Ordering::Acquire) != me {
            thread::park();
        }
    }

    /// Ends the turn of CPU `me`, and returns in its next one. `waits`: the CPU waits for a
    /// condition, and `counts` says whether its counts include the wait.
    fn next_turn(&self, me: usize, waits: bool, counts: bool) {
        let mut state = self.state();
        let is_counted = state.phase == Phase::Counted;
        let mean = if is_counted { MEAN_TURN } else { MEAN_WARM_UP_TURN };
        self.until_turn.store(state.random.u32(1..2 * mean), Ordering::Relaxed);
        if waits {
            state.count(me, |all| all.waits += u64::from(counts));
            state.spend(WAIT);
            let lonely = state.ready.len() + state.waiting.len() <= 1;
            state.lonely_waits = if lonely { state.lonely_waits + 1 } else { 0 };
            assert!(
                state.lonely_waits < MOST_LONELY_WAITS,
                "CPU {me} waits, and no other CPU can run"
            );
            state.ready.retain(|&cpu| cpu != me);
            state.waiting.push(me);
        }
        let next = state.any_ready();
        if let Some(next) = next.filter(|&next| next != me) {
            self.hand_over(state, next, Some(me));
        }
    }
}

impl Machine for Simulated {
    fn preempt(&self) {
        let me = CPU.get();
        if me == NOWHERE {
            return;
        }
        // Only this thread runs, so a load and a store are enough.
        let left = self.until_turn.load(Ordering::Relaxed).saturating_sub(1);
        self.until_turn.store(left, Ordering::Relaxed);
        if left == 0 {
            self.next_turn(me, false, false);
        }
    }

    fn access(&self, access: Access) {
        let me = CPU.get();
        if me != NOWHERE {
            self.state().access(me, access);
        }
    }

    fn cell(&self, address: usize, bytes: usize, writes: bool, place: &'static Location<'static>) {
        let me = CPU.get();
        if me != NOWHERE {
            self.state().cell(me, (address, bytes), writes, place);
        }
    }

    fn fence(&self) {
        let me = CPU.get();
        if me != NOWHERE {
            let mut state = self.state();
            state.spend(FENCE);
            state.count(me, |counts| counts.fences += 1);
        }
    }

    fn interrupt_others(&self) {
        let me = CPU.get();
        if me != NOWHERE {
            let mut state = self.state();
            state.spend(INTERRUPT);
            state.count(me, |counts| counts.interrupts += 1);
        }
    }

    fn pause(&self) {
        let me = CPU.get();
        if me == NOWHERE {
            thread::yield_now();
        } else {
            self.next_turn(me, true, true);
        }
    }

    fn sleep(&self, time: Duration) {
        if CPU.get() == NOWHERE {
            return thread::sleep(time);
        }
        let end = self.now() + time;
        while self.now() < end {
            self.pause();
        }
    }

    fn cpus(&self) -> usize {
        self.state().counts.len()
    }

    fn cpu(&self) -> usize {
        match CPU.get() {
            NOWHERE => 0,
            cpu => cpu,
        }
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.state().picoseconds / 1000)
    }
}

/// A CPU of the machine, for the thread that runs on it.
#[derive(Debug)]
pub(crate) struct Cpu {
    number: usize,
}

impl Cpu {
    /// Returns the number of the CPU, from 0. Workers have the lowest numbers.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Returns the phase of the run.
    pub(crate) fn phase(&self) -> Phase {
        SIMULATED.state().phase
    }

    /// Ends a worker's part of the phase, and waits for the other workers.
    pub(crate) fn end_phase(&self) {
        let mut state = SIMULATED.state();
        let me = self.number;
        state.ready.retain(|&cpu| cpu != me);
        state.arrived.push(me);
        state.advance();
        match state.any_ready() {
            Some(next) if next != me => SIMULATED.hand_over(state, next, Some(me)),
            Some(_) => (),
            None => unreachable!("the last to arrive goes on"),
        }
    }

    /// Does a worker's part of both phases: calls `step` `warm_up` times, then `counted` times.
    pub(crate) fn work(&self, warm_up: usize, counted: usize, mut step: impl FnMut()) {
        (0..warm_up).for_each(|_| step());
        self.end_phase();
        (0..counted).for_each(|_| step());
        self.end_phase();
    }

    /// Calls `step` repeatedly until the workers are done: the part of a CPU that is no worker.
    /// Returns the number of calls while counting.
    pub(crate) fn accompany(&self, mut step: impl FnMut()) -> u64 {
        let mut counted = 0;
        loop {
            match self.phase() {
                Phase::WarmUp => step(),
                Phase::Counted => {
                    step();
                    counted += 1;
                }
                Phase::Over => return counted,
            }
        }
    }

    /// Does nothing until the workers are done: the part of an idle CPU that is no worker.
    pub(crate) fn rest(&self) {
        let mut state = SIMULATED.state();
        let me = self.number;
        if state.phase < Phase::Over {
            state.ready.retain(|&cpu| cpu != me);
            state.resting.push(me);
            let next = state.any_ready().expect("a worker is there");
            SIMULATED.hand_over(state, next, Some(me));
        }
    }

    /// Waits for another thread of the experiment. The wait is not counted, since the libraries do
    /// not cause it.
    pub(crate) fn pause(&self) {
        SIMULATED.next_turn(self.number, true, false);
    }
}

impl Drop for Cpu {
    /// Removes the thread from the machine, also if it panics.
    fn drop(&mut self) {
        CPU.set(NOWHERE);
        let mut state = SIMULATED.state();
        let me = self.number;
        state.ready.retain(|&cpu| cpu != me);
        state.end();
        if let Some(next) = state.any_ready() {
            SIMULATED.hand_over(state, next, None);
        }
    }
}

/// Runs an experiment on a new machine with `workers` CPUs for workers and `others` more, which run
/// until the workers are done. `build` creates the data that the CPUs share, `part` is the work of
/// each CPU.
pub(crate) fn run<S: Sync>(
    (workers, others): (usize, usize),
    seed: u64,
    build: impl FnOnce() -> S,
    part: impl Fn(&S, &Cpu) + Sync,
) -> Outcome {
    static INSTALL: Once = Once::new();
    let _one = RUNNING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let cpus = workers + others;
    assert!(workers > 0 && cpus <= MOST_CPUS);
    INSTALL.call_once(|| machine::install(&*SIMULATED));
    *SIMULATED.state() = State::new(cpus, workers, seed);
    SIMULATED.turn.store(NOWHERE, Ordering::Release);
    SIMULATED.until_turn.store(1, Ordering::Relaxed);
    // Boxed, so that it begins at the start of a cache line.
    let shared = Box::new(build());
    thread::scope(|scope| {
        for number in 0..cpus {
            let (shared, part) = (&shared, &part);
            scope.spawn(move || {
                let cpu = Cpu { number };
                CPU.set(number);
                SIMULATED.state().threads[number] = Some(thread::current());
                SIMULATED.wait_for_turn(number);
                part(shared, &cpu);
            });
        }
        while SIMULATED.state().threads.iter().any(Option::is_none) {
            thread::yield_now();
        }
        let mut state = SIMULATED.state();
        state.ready = (0..cpus).collect();
        SIMULATED.hand_over(state, 0, None);
    });
    let state = &mut *SIMULATED.state();
    let places = Places::of(&std::mem::take(&mut state.chains));
    Outcome { counts: std::mem::take(&mut state.counts), places }
}
