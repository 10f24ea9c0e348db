//! The bench `read-side`: what a reader pays for its protection, and how long a grace period takes
//! when nobody reads and when somebody reads all the time.

mod enter_leave;
mod grace_period;
#[cfg(feature = "rivals")]
mod rivals;
mod scheme;

use memalloc::rcu::{BarrierKind, Domain};

use super::{Competitor, Contest, OnWrong, Params, Selection, threads_in_words};
use crate::measure::{Entrant, Reading, Slice, WrongAnswer};
use scheme::{Rcu, Trace};

/// The name of the bench.
pub(crate) const BENCH: &str = "read-side";

const RCU: &str = "memalloc-rcu";
const TRACE: &str = "memalloc-trace";

/// The cases, in the order in which they run.
pub(crate) const CASES: &[&str] = &[enter_leave::CASE, grace_period::CASE];

/// The contests of the bench.
pub(crate) fn contests<'d>(selection: &Selection) -> Vec<Contest<'d>> {
    let mut contests = Vec::new();
    if selection.wants(enter_leave::CASE) {
        contests.extend(selection.threads.iter().map(|&threads| enter_leave(threads, selection)));
    }
    if selection.wants(grace_period::CASE) {
        contests.extend(selection.threads.iter().map(|&threads| grace_period(threads)));
    }
    contests
}

fn enter_leave<'d>(threads: usize, selection: &Selection) -> Contest<'d> {
    let mut competitors = Vec::new();
    for barrier in barriers() {
        let rcu = move |slice| enter_leave::run(&Rcu(domain(barrier)?), threads, slice);
        competitors.push(ours(RCU, barrier, Params::new(), rcu));
    }
    for barrier in barriers() {
        let trace = move |slice| enter_leave::run(&Trace(domain(barrier)?), threads, slice);
        competitors.push(ours(TRACE, barrier, Params::new(), trace));
    }
    if selection.rivals {
        competitors.extend(rivals(threads));
    }
    Contest {
        bench: BENCH,
        title: format!("{}, {}", enter_leave::CASE, threads_in_words(threads)),
        keys: None,
        threads,
        share: 1.0,
        competitors,
    }
}

/// One thread waits for grace periods, all others read.
fn grace_period<'d>(threads: usize) -> Contest<'d> {
    let reader = if threads > 1 { "busy" } else { "none" };
    let params: Params = [("reader".into(), reader.into())].into_iter().collect();
    let mut competitors = Vec::new();
    for barrier in barriers() {
        let rcu = move |slice| grace_period::run(&Rcu(domain(barrier)?), threads, slice);
        competitors.push(ours(RCU, barrier, params.clone(), rcu));
    }
    for barrier in barriers() {
        let trace = move |slice| grace_period::run(&Trace(domain(barrier)?), threads, slice);
        competitors.push(ours(TRACE, barrier, params.clone(), trace));
    }
    Contest {
        bench: BENCH,
        title: format!("{}, reader {reader}", grace_period::CASE),
        keys: None,
        threads,
        share: 1.0,
        competitors,
    }
}

/// The kinds of barrier that this system has.
fn barriers() -> impl Iterator<Item = BarrierKind> {
    BarrierKind::ALL.iter().copied().filter(|barrier| barrier.is_supported())
}

fn domain(barrier: BarrierKind) -> Result<Domain, WrongAnswer> {
    let domain = Domain::builder().barrier(barrier).build();
    domain.map_err(|error| WrongAnswer(format!("building a domain failed: {error}")))
}

fn ours<'d>(
    subject: &'static str,
    barrier: BarrierKind,
    mut params: Params,
    play: impl Fn(Slice) -> Result<Vec<Reading>, WrongAnswer> + 'd,
) -> Competitor<'d> {
    params.insert("barrier".into(), barrier.to_string().into());
    competitor(subject, params, play)
}

fn competitor<'d>(
    subject: &'static str,
    params: Params,
    play: impl Fn(Slice) -> Result<Vec<Reading>, WrongAnswer> + 'd,
) -> Competitor<'d> {
    let entrant = Box::new(Player(play));
    Competitor { subject, policy: None, params, on_wrong: OnWrong::EndTheRun, entrant }
}

#[cfg(feature = "rivals")]
fn rivals<'d>(threads: usize) -> Vec<Competitor<'d>> {
    rivals::competitors(threads)
}

/// None in this build. The command line has said so to whoever asked for them.
#[cfg(not(feature = "rivals"))]
fn rivals<'d>(_threads: usize) -> Vec<Competitor<'d>> {
    Vec::new()
}

/// Plays what a function plays.
struct Player<P>(P);

impl<P: Fn(Slice) -> Result<Vec<Reading>, WrongAnswer>> Entrant for Player<P> {
    /// Nothing here is checked outside the samples.
    fn rehearse(&mut self) -> Result<(), WrongAnswer> {
        Ok(())
    }

    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, WrongAnswer> {
        (self.0)(slice)
    }
}
