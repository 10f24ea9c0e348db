//! Torture: everything that the libraries promise, checked while threads do everything at once, in
//! short phases of ever other settings. (In the manner of the kernel's rcutorture; no code of it.)
//!
//! | file | knows |
//! |---|---|
//! | `verdict` | what was counted, and the first thing that was wrong |
//! | `phases` | what a run goes through, in an order that its seed decides |
//! | `objects` | objects that show what became of them |
//! | `readers`, `updaters` | who reads objects, and who replaces them |
//! | `tries` | keys that are always there, and those around them that come and go |
//! | `storms`, `forks`, `switches`, `affinity` | signals, children, adaptive barriers, CPUs |
//! | `bouts` | what one thread does for a moment |
//! | `watch` | a run that can't go on |
//!
//! Every thread does one bout after the other, of those that the phase's mix has. At the end of a phase all
//! threads have gone, everything is taken back, and counted.
//!
//! A run that found an error ends with the process: what is broken can't be tidied up.

mod affinity;
mod bouts;
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
use affinity::Movable;
use bouts::Ground;
use objects::{LITTLE_PENDING, Objects};
use phases::{LENGTH, Mix, Phase, Phases};
use readers::Parcels;
use tries::Trie;
use updaters::Callbacks;
use verdict::{Count, Verdict, Wrong};

pub(crate) use phases::Choices;
pub(crate) use verdict::Tally;

/// How long whatever has to end at the end of a phase may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The same where a fault has been chosen, which may keep it from ending at all.
const SHORT_PATIENCE: Duration = Duration::from_secs(3);

/// How often the run is looked at.
const TICK: Duration = Duration::from_millis(5);

/// After how long a reader stalls.
const STALL: Duration = Duration::from_millis(20);

/// What a run does.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The phases.
    pub(crate) choices: Choices,
    /// Threads of each phase.
    pub(crate) threads: usize,
    /// The time for all phases.
    pub(crate) duration: Duration,
    /// Whether a fault has been chosen.
    pub(crate) broken: bool,
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub(crate) enum News<'n> {
    /// A minute has passed.
    Minute(Tally),
    /// Something is wrong: what, and in which phase. The process ends.
    Failed(Tally, &'n str, String, u64),
}

/// How a run ended that found nothing.
#[derive(Debug)]
pub(crate) struct End {
    /// What was seen.
    pub(crate) tally: Tally,
    /// Whether somebody asked for the end.
    pub(crate) interrupted: bool,
}

/// The phase under way.
struct UnderWay {
    phase: Phase,
    since: Instant,
    /// Phases that have ended.
    ended: u64,
}

/// Goes through phases until the time is over. Where something is wrong, `tell` hears it, and the process
/// ends with 1.
pub(crate) fn run(request: &Request, mut tell: impl FnMut(News<'_>)) -> End {
    watch::begin();
    affinity::remember();
    let (interrupt, begun) = (Interrupt::listen(), Instant::now());
    let (verdict, gate) = (&Verdict::default(), &Gate::default());
    let mut phases = Phases::new(&request.choices);
    let first = UnderWay { phase: phases.next(), since: begun, ended: 0 };
    let under_way = &Mutex::new(first);
    let lock = || under_way.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        let conductor = scope.spawn(move || {
            while gate.is_open() {
                let phase = lock().phase.clone();
                watch::says(&phase);
                go_through(&phase, request.threads, verdict, gate);
                let mut now = lock();
                *now =
                    UnderWay { phase: phases.next(), since: Instant::now(), ended: now.ended + 1 };
            }
        });
        let patience = if request.broken { SHORT_PATIENCE } else { PATIENCE };
        let mut minutes = 0;
        loop {
            let is_over = conductor.is_finished();
            let (elapsed, now) = (begun.elapsed(), lock());
            let lasted = now.since.elapsed();
            if lasted > LENGTH + patience {
                verdict.complain(Wrong::Stuck, [lasted.as_millis() as u64, 0, 0]);
            }
            if watch::has_panicked() {
                verdict.complain(Wrong::Panicked, [0; 3]);
            }
            let tally = || verdict.tally(now.ended, elapsed.as_secs_f64());
            if let Some(error) = verdict.first() {
                let (text, number) = (now.phase.to_string(), now.phase.number);
                tell(News::Failed(tally(), &error, text, number));
                std::process::exit(1);
            }
            if elapsed.as_secs() / 60 > minutes {
                minutes = elapsed.as_secs() / 60;
                tell(News::Minute(tally()));
            }
            if elapsed >= request.duration || interrupt.is_asked() {
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
    End { tally, interrupted: interrupt.is_asked() }
}

/// Goes through one phase, or as far as the time lets it.
fn go_through(phase: &Phase, threads: usize, verdict: &Verdict, gate: &Gate) {
    let went = match phase.validated {
        true => {
            with_policy!(phase.policy, P => with::<P, Immediate>(phase, threads, verdict, gate))
        }
        false => {
            with_policy!(phase.policy, P => with::<P, AfterRcuGp>(phase, threads, verdict, gate))
        }
    };
    if went.is_some_and(|went| went.is_none()) {
        verdict.complain(Wrong::NoMemory, [0; 3]);
    }
}

/// The same with the policies of objects and leaves, and of branches. None where there is no memory for it.
fn with<P: ReusePolicy, B: ReusePolicy>(
    phase: &Phase,
    threads: usize,
    verdict: &Verdict,
    run: &Gate,
) -> Option<()> {
    let domain = &Domain::builder().barrier_kind(phase.barrier).stall_after(STALL).build().ok()?;
    let gate = Gate::default();
    let max_pending = phase.small.then_some(LITTLE_PENDING);
    let objects = Objects::<P>::new(phase, domain, max_pending, verdict, &gate).ok()?;
    let trie = Trie::<B, P>::new(phase, domain, threads, verdict).ok()?;
    let (callbacks, movable) = (Callbacks::default(), Movable::default());
    let parcels = Parcels::default();
    let ground = &Ground {
        phase,
        domain,
        objects: &objects,
        trie: &trie,
        parcels: &parcels,
        callbacks: &callbacks,
        movable: &movable,
        verdict,
        gate: &gate,
    };
    let owns = thread::scope(|scope| {
        let worker = |thread| {
            let worker = thread::Builder::new().name(format!("torture-{thread}"));
            worker.spawn_scoped(scope, move || ground.work(thread))
        };
        let workers: Vec<_> = (0..threads).map_while(|thread| worker(thread).ok()).collect();
        let (begun, mut random) = (Instant::now(), fastrand::Rng::with_seed(phase.seed));
        let mut moves = 0;
        while begun.elapsed() < LENGTH && run.is_open() && verdict.is_clean() {
            thread::sleep(Duration::from_micros(random.u64(200..3_000)));
            // Those that change barriers have chosen their CPUs.
            if phase.mix != Mix::Switches {
                moves += u64::from(movable.move_one(&mut random));
            }
        }
        verdict.count(Count::Moves, moves);
        gate.close();
        let owns = workers.into_iter().map(|worker| worker.join().ok());
        owns.collect::<Option<Vec<_>>>()
    });
    if let Some(owns) = owns.filter(|_| verdict.is_clean()) {
        parcels.clear();
        callbacks.drain(domain, &objects);
        objects.drain();
        trie.drain(&owns);
    } else {
        verdict.complain(Wrong::Panicked, [0; 3]);
    }
    if !verdict.is_clean() {
        // The end of the process comes; what is broken is left as it is.
        loop {
            thread::park();
        }
    }
    Some(())
}
