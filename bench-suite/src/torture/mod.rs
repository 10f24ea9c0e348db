//! Torture: checks the promises of both libraries while threads do everything at once, in short
//! phases with different settings. It works like the kernel's rcutorture, without any of its code.
//!
//! | file | content |
//! |---|---|
//! | `verdict` | counts, and the first error |
//! | `phases` | the settings of each phase, in an order that the seed decides |
//! | `objects` | objects that show reuse and corruption |
//! | `readers`, `updaters` | reading objects, and replacing them |
//! | `tries` | a trie with stable keys, and transient keys around them |
//! | `storms`, `forks`, `switches`, `affinity` | signals, processes, adaptive barriers, CPUs |
//! | `activities` | the activities that threads choose from |
//! | `watch` | reports of panics and fatal signals |
//!
//! Each thread does one short activity after another, chosen at random from the mix of the phase.
//! At the end of a phase all threads have ended. Then all objects are freed and counted.
//!
//! After an error the process exits without cleaning up, since a broken structure cannot be
//! dropped.

mod activities;
mod affinity;
mod forks;
mod objects;
mod phases;
mod readers;
mod storms;
mod switches;
mod tries;
mod updaters;
mod verdict;
mod watch;

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use memalloc::ReusePolicy;
use memalloc::rcu::Domain;

use crate::measure::{Gate, Interrupt};
use crate::workload::policy::with_policy;
use activities::Shared;
use affinity::Movable;
use objects::{Objects, SMALL_MAX_PENDING};
use phases::{LENGTH, Mix, Phase, Phases};
use readers::SentGuards;
use tries::Trie;
use updaters::Callbacks;
use verdict::{Count, Verdict, Wrong};

pub(crate) use phases::Choices;
pub(crate) use verdict::Tally;

/// The time within which a phase must end after its time is over.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// [`END_TIMEOUT`] with a fault chosen, which may keep a phase from ending.
const BROKEN_END_TIMEOUT: Duration = Duration::from_secs(3);

/// The interval between two checks of the run's state.
const TICK: Duration = Duration::from_millis(5);

/// The time after which a reader counts as stalled.
const STALL: Duration = Duration::from_millis(20);

/// The request for a run.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The settings to choose from.
    pub(crate) choices: Choices,
    /// The number of threads of each phase.
    pub(crate) threads: usize,
    /// The duration of the run.
    pub(crate) duration: Duration,
    /// True if a fault has been chosen.
    pub(crate) broken: bool,
}

/// An event during a run.
#[derive(Debug)]
pub(crate) enum Event<'e> {
    /// A minute has passed.
    Minute(Tally),
    /// An error: its text, and the phase as text and as number. The process exits.
    Failed(Tally, &'e str, String, u64),
}

/// The result of a run without errors.
#[derive(Debug)]
pub(crate) struct End {
    /// The counts.
    pub(crate) tally: Tally,
    /// The signal that ended the run early, if any.
    pub(crate) interrupted: Option<i32>,
}

/// The current phase.
struct CurrentPhase {
    phase: Phase,
    since: Instant,
    /// The number of phases that have ended.
    ended: u64,
}

/// Runs phases until the time is over or a signal asks for the end, and passes events to
/// `on_event`. After an error the process exits with 1.
pub(crate) fn run(request: &Request, mut on_event: impl FnMut(Event<'_>)) -> End {
    watch::begin();
    affinity::remember();
    let (interrupt, begun) = (Interrupt::listen(), Instant::now());
    let (verdict, gate) = (&Verdict::default(), &Gate::default());
    let mut phases = Phases::new(&request.choices);
    let first = CurrentPhase { phase: phases.next(), since: begun, ended: 0 };
    let current = &Mutex::new(first);
    let lock = || current.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        let runner = scope.spawn(move || {
            while gate.is_open() {
                let phase = lock().phase.clone();
                watch::set_text(&phase);
                run_phase(&phase, request.threads, verdict, gate);
                let mut now = lock();
                *now = CurrentPhase {
                    phase: phases.next(),
                    since: Instant::now(),
                    ended: now.ended + 1,
                };
            }
        });
        let timeout = if request.broken { BROKEN_END_TIMEOUT } else { END_TIMEOUT };
        let mut minutes = 0;
        loop {
            let is_over = runner.is_finished();
            let (elapsed, now) = (begun.elapsed(), lock());
            let lasted = now.since.elapsed();
            if lasted > LENGTH + timeout {
                verdict.report(Wrong::Stuck, [lasted.as_millis() as u64, 0, 0]);
            }
            if watch::has_panicked() {
                verdict.report(Wrong::Panicked, [0; 3]);
            }
            let tally = || verdict.tally(now.ended, elapsed.as_secs_f64());
            if let Some(error) = verdict.first() {
                let (text, number) = (now.phase.to_string(), now.phase.number);
                on_event(Event::Failed(tally(), &error, text, number));
                std::process::exit(1);
            }
            if elapsed.as_secs() / 60 > minutes {
                minutes = elapsed.as_secs() / 60;
                on_event(Event::Minute(tally()));
            }
            if elapsed >= request.duration || interrupt.signal().is_some() {
                gate.close();
            }
            drop(now);
            if is_over {
                break;
            }
            thread::sleep(TICK);
        }
    });
    let ended = lock().ended;
    let tally = verdict.tally(ended, begun.elapsed().as_secs_f64());
    End { tally, interrupted: interrupt.signal() }
}

/// Runs one phase, or its beginning if the gate closes.
fn run_phase(phase: &Phase, threads: usize, verdict: &Verdict, gate: &Gate) {
    let result = match phase.validated {
        true => {
            with_policy!(phase.policy, P => {
                run_with::<P, Immediate>(phase, threads, verdict, gate)
            })
        }
        false => {
            with_policy!(phase.policy, P => {
                run_with::<P, AfterRcuGp>(phase, threads, verdict, gate)
            })
        }
    };
    if result.is_some_and(|result| result.is_none()) {
        verdict.report(Wrong::NoMemory, [0; 3]);
    }
}

/// Runs a phase with policy `P` for objects and leaves, and `B` for branches. `None` if there is
/// not enough memory.
fn run_with<P: ReusePolicy, B: ReusePolicy>(
    phase: &Phase,
    threads: usize,
    verdict: &Verdict,
    run: &Gate,
) -> Option<()> {
    let domain = &Domain::builder().barrier_kind(phase.barrier).stall_after(STALL).build().ok()?;
    let gate = Gate::default();
    let max_pending = phase.small.then_some(SMALL_MAX_PENDING);
    let objects = Objects::<P>::new(phase, domain, max_pending, verdict, &gate).ok()?;
    let trie = Trie::<B, P>::new(phase, domain, threads, verdict).ok()?;
    let (callbacks, movable) = (Callbacks::default(), Movable::default());
    let sent_guards = SentGuards::default();
    let shared = &Shared {
        phase,
        domain,
        objects: &objects,
        trie: &trie,
        sent_guards: &sent_guards,
        callbacks: &callbacks,
        movable: &movable,
        verdict,
        gate: &gate,
    };
    let own_keys = thread::scope(|scope| {
        let worker = |thread| {
            let worker = thread::Builder::new().name(format!("torture-{thread}"));
            worker.spawn_scoped(scope, move || shared.work(thread))
        };
        let workers: Vec<_> = (0..threads).map_while(|thread| worker(thread).ok()).collect();
        let (begun, mut random) = (Instant::now(), fastrand::Rng::with_seed(phase.seed));
        let mut moves = 0;
        while begun.elapsed() < LENGTH && run.is_open() && verdict.is_clean() {
            thread::sleep(Duration::from_micros(random.u64(200..3_000)));
            // Threads that switch barriers choose their CPUs themselves.
            if phase.mix != Mix::Switches {
                moves += u64::from(movable.move_one(&mut random));
            }
        }
        verdict.count(Count::Moves, moves);
        gate.close();
        let own_keys = workers.into_iter().map(|worker| worker.join().ok());
        own_keys.collect::<Option<Vec<_>>>()
    });
    if let Some(own_keys) = own_keys.filter(|_| verdict.is_clean()) {
        sent_guards.clear();
        callbacks.drain(domain, &objects);
        objects.drain();
        trie.drain(&own_keys);
    } else {
        verdict.report(Wrong::Panicked, [0; 3]);
    }
    if !verdict.is_clean() {
        // The process exits soon. Broken structures must not be dropped.
        loop {
            thread::park();
        }
    }
    Some(())
}
