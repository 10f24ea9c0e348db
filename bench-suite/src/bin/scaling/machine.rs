//! A machine of as many CPUs as wanted, in one process: a thread for each, of which one goes on at a
//! time. The token that lets it passes to another at random accesses, and wherever a thread waits:
//! the same seed, the same order, on every machine. Time is what the machine has done.

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

/// After so many accesses, on average, another CPU goes on: while it counts, and before.
const MEAN_TURN: u32 = 2;
const MEAN_WARM_UP_TURN: u32 = 64;

/// A thread that waits looks again when the machine has made so many accesses.
const LOOK_AGAIN: u32 = 256;

/// What things take, in picoseconds of one CPU's time: estimates, for the machine's clock only.
const ACCESS: u64 = 1_000;
const MOVE: u64 = 100_000;
const FENCE: u64 = 5_000;
const WAIT: u64 = 50_000;
const INTERRUPT: u64 = 10_000_000;

/// A thread that waits so often without any other going on waits for good.
const MOST_LONELY_WAITS: u32 = 1 << 20;

const NOWHERE: usize = usize::MAX;

thread_local! {
    /// The CPU that the thread is on, or `NOWHERE`.
    static CPU: Cell<usize> = const { Cell::new(NOWHERE) };
}

/// What a CPU did while it was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Lines that came to be read.
    pub(crate) read: u64,
    /// Lines that came, or were taken from other CPUs, to be written.
    pub(crate) written: u64,
    /// Of both, those that another CPU had written other bytes of.
    pub(crate) for_nothing: u64,
    /// Copies that other CPUs lost.
    pub(crate) taken: u64,
    /// Atomic read-modify-writes.
    pub(crate) atomics: u64,
    /// SeqCst fences.
    pub(crate) fences: u64,
    /// System calls that interrupt every other CPU.
    pub(crate) interrupts: u64,
    /// Turns given up because another thread had to go on first.
    pub(crate) waits: u64,
}

impl Counts {
    /// Lines that moved.
    pub(crate) fn moved(&self) -> u64 {
        self.read + self.written
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.written += other.written;
        self.for_nothing += other.for_nothing;
        self.taken += other.taken;
        self.atomics += other.atomics;
        self.fences += other.fences;
        self.interrupts += other.interrupts;
        self.waits += other.waits;
    }
}

/// What a run counted.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// By CPU.
    pub(crate) counts: Vec<Counts>,
    /// How many lines moved for each line of source on the workers, and its callers.
    pub(crate) places: Places,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Caches fill; nothing is counted.
    WarmUp,
    /// What is done counts.
    Counted,
    /// What is done does not count any more.
    Over,
}

/// A cell as it was last seen, and by whom it may have been written since.
struct Snapshot {
    bytes: Vec<u8>,
    last: (usize, &'static Location<'static>),
}

struct State {
    random: fastrand::Rng,
    caches: Caches,
    cells: HashMap<usize, Snapshot>,
    counts: Vec<Counts>,
    chains: HashMap<Chain, u64>,
    phase: Phase,
    /// CPUs that may go on.
    ready: Vec<usize>,
    /// CPUs that wait, and look again by and by.
    waiting: Vec<usize>,
    until_look: u32,
    /// Workers at the end of the phase.
    arrived: Vec<usize>,
    /// Others that have nothing to do before the end.
    resting: Vec<usize>,
    /// Workers that have not left: the CPUs below this number.
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
            until_look: LOOK_AGAIN,
            arrived: Vec::new(),
            resting: Vec::new(),
            workers,
            lonely_waits: 0,
            threads: vec![None; cpus],
            picoseconds: 0,
        }
    }

    /// One CPU was busy for so long, as were the others beside it.
    fn spend(&mut self, picoseconds: u64) {
        let busy = self.ready.len() + self.waiting.len();
        self.picoseconds += picoseconds / busy.max(1) as u64;
    }

    fn count(&mut self, cpu: usize, change: impl FnOnce(&mut Counts)) {
        if self.phase == Phase::Counted {
            change(&mut self.counts[cpu]);
        }
    }

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
            counts.for_nothing += u64::from(effect.moved && effect.for_nothing);
            counts.taken += u64::from(effect.lost_by);
            moves += moved;
        });
        self.spend(ACCESS + moves * MOVE);
        self.until_look -= 1;
        if self.until_look == 0 {
            self.look_again();
        }
        if moves > 0 && self.phase == Phase::Counted && self.is_worker(cpu) {
            *self.chains.entry(Chain::here(place)).or_default() += moves;
        }
        self.count(cpu, |all| *all += counts);
    }

    /// What is in a cell is written without telling: the lines that differ from what was last seen
    /// were written by the one that had the cell then.
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
        // SAFETY: the cell is there, and one thread goes on at a time. Bytes between its fields
        // are copied and compared, which is all that is done to them.
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

    /// Those that wait may find what they wait for.
    fn look_again(&mut self) {
        self.ready.append(&mut self.waiting);
        self.until_look = LOOK_AGAIN;
    }

    fn any_ready(&mut self) -> Option<usize> {
        if self.ready.is_empty() {
            self.look_again();
        }
        let count = self.ready.len();
        (count > 0).then(|| self.ready[self.random.usize(..count)])
    }

    /// The next phase, once every worker is at the end of this one.
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

    /// Nothing counts any more, and none waits for one that has left.
    fn end(&mut self) {
        self.phase = Phase::Over;
        self.ready.append(&mut self.arrived);
        self.ready.append(&mut self.resting);
    }
}

struct Simulated {
    state: Mutex<State>,
    /// The CPU that goes on.
    turn: AtomicUsize,
    /// For so many accesses.
    until_turn: AtomicU32,
}

static SIMULATED: LazyLock<Simulated> = LazyLock::new(|| Simulated {
    state: Mutex::new(State::new(1, 1, 0)),
    turn: AtomicUsize::new(NOWHERE),
    until_turn: AtomicU32::new(1),
});

/// One run at a time.
static RUNNING: Mutex<()> = Mutex::new(());

impl Simulated {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lets another CPU go on; this one waits for its turn, if it `returns`.
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

    /// Another CPU's turn, if another is ready.
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
            assert!(state.lonely_waits < MOST_LONELY_WAITS, "CPU {me} waits for nobody");
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
        // This thread alone goes on.
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

/// A CPU, for the thread on it.
#[derive(Debug)]
pub(crate) struct Cpu {
    number: usize,
}

impl Cpu {
    /// Counted from 0; workers come first.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Where the run is.
    pub(crate) fn phase(&self) -> Phase {
        SIMULATED.state().phase
    }

    /// A worker has done its part of the phase; waits for the others.
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

    /// A worker's part of both phases: so many times `step`, and so many that count.
    pub(crate) fn work(&self, warm_up: usize, counted: usize, mut step: impl FnMut()) {
        (0..warm_up).for_each(|_| step());
        self.end_phase();
        (0..counted).for_each(|_| step());
        self.end_phase();
    }

    /// What is no worker's part: `step` again and again, to the end. How often, while it counted.
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

    /// The same, with nothing to do.
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

    /// Waits for what another thread of the experiment does, which is no fault of the libraries.
    pub(crate) fn pause(&self) {
        SIMULATED.next_turn(self.number, true, false);
    }
}

impl Drop for Cpu {
    /// The thread leaves the machine, by a panic too.
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

/// Makes a machine, with a number of CPUs for workers and a number for others, which go on until the
/// workers are done; builds what they share; and has each CPU do its part.
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
    // At the start of a line, as everything on the heap.
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
