//! The bench `alloc`: allocating and freeing, without a reader that would hold anything up.
//!
//! An operation is one allocation and one free. `hot-pair` frees each object at once; `batch-64`
//! allocates 64, then frees them, oldest first; `producer-consumer` frees on another thread. A
//! stamp is written into the first eight bytes of each object and compared before it is freed:
//! nobody allocates to leave an object untouched, and an object that was handed out twice shows.
//!
//! `memalloc` frees as its policy says: at once, or after a grace period (`free_rcu`). Other
//! allocators have no policy: they free at once, and give their readers no promise at all.

mod belt;
mod hand;
mod passing;
#[cfg(feature = "rivals")]
mod rivals;
mod source;

use std::alloc::Layout;

use memalloc::{
    AfterRcuGp, AfterTasksTraceGp, FreeAfterRcuGp, Immediate, MemAlloc, PolicyKind, ReusePolicy,
};

use super::{Competitor, Contest, OnWrong, Params, Selection, threads_in_words};
use crate::measure::{
    Entrant, Gate, HeldBytes, Metric, Reading, Shift, Slice, Team, Worker, WrongAnswer,
};
use hand::Hand;
use source::{Source, SystemMalloc};

/// The name of the bench.
pub(crate) const BENCH: &str = "alloc";

/// The cases, in the order in which they run.
pub(crate) const CASES: &[&str] = &[HOT_PAIR, BATCH_64, PRODUCER_CONSUMER];

/// Frees each object at once.
const HOT_PAIR: &str = "hot-pair";
/// Allocates 64 objects, then frees them.
const BATCH_64: &str = "batch-64";
/// Frees on another thread, so that it needs two.
pub(crate) const PRODUCER_CONSUMER: &str = "producer-consumer";

/// Allocations between two looks at the clock.
const STRIDE: usize = 64;

/// The contests of the bench, for objects of these sizes.
pub(crate) fn contests<'d>(selection: &Selection, sizes: &[usize]) -> Vec<Contest<'d>> {
    let mut contests = Vec::new();
    for &case in CASES.iter().filter(|case| selection.wants(case)) {
        let numbers = match case {
            PRODUCER_CONSUMER => selection.threads_in_pairs(),
            _ => selection.threads.clone(),
        };
        for &size in sizes {
            for &threads in &numbers {
                contests.push(contest(Setting { case, size, threads }, selection));
            }
        }
    }
    contests
}

fn contest<'d>(setting: Setting, selection: &Selection) -> Contest<'d> {
    let mut competitors: Vec<Competitor<'d>> = Vec::new();
    for &policy in &selection.policies {
        competitors.extend(match policy {
            PolicyKind::Immediate => Some(memalloc_under::<Immediate>(setting)),
            PolicyKind::AfterRcuGp => Some(memalloc_under::<AfterRcuGp>(setting)),
            PolicyKind::FreeAfterRcuGp => Some(memalloc_under::<FreeAfterRcuGp>(setting)),
            PolicyKind::AfterTasksTraceGp => Some(memalloc_under::<AfterTasksTraceGp>(setting)),
            _ => None,
        });
    }
    competitors.push(setting.rival(SystemMalloc::NAME, source::system_version(), SystemMalloc));
    if selection.rivals {
        competitors.extend(rivals(setting));
    }
    let Setting { case, size, threads } = setting;
    Contest {
        bench: BENCH,
        title: format!("{case}, {size} bytes, {}", threads_in_words(threads)),
        keys: None,
        threads,
        share: 1.0,
        competitors,
    }
}

#[cfg(feature = "rivals")]
fn rivals<'d>(setting: Setting) -> Vec<Competitor<'d>> {
    rivals::competitors(setting)
}

/// None in this build. The command line has said so to whoever asked for them.
#[cfg(not(feature = "rivals"))]
fn rivals<'d>(_setting: Setting) -> Vec<Competitor<'d>> {
    Vec::new()
}

fn memalloc_under<'d, P: ReusePolicy>(setting: Setting) -> Competitor<'d> {
    setting.competitor("memalloc", Some(P::KIND), || {
        MemAlloc::<P>::new()
            .map_err(|error| WrongAnswer(format!("building an allocator failed: {error}")))
    })
}

#[derive(Clone, Copy, Debug)]
struct Setting {
    case: &'static str,
    size: usize,
    threads: usize,
}

impl Setting {
    fn competitor<'d, S: Source + 'd>(
        self,
        subject: &'static str,
        policy: Option<PolicyKind>,
        build: impl Fn() -> Result<S, WrongAnswer> + 'd,
    ) -> Competitor<'d> {
        let mut params = Params::new();
        params.insert("size".into(), self.size.into());
        let entrant = Box::new(Player { setting: self, build });
        Competitor { subject, policy, params, on_wrong: OnWrong::EndTheRun, entrant }
    }

    /// An allocator that is there once for the whole process.
    fn rival<'d, S: Source + Copy + 'd>(
        self,
        subject: &'static str,
        version: String,
        source: S,
    ) -> Competitor<'d> {
        let mut competitor = self.competitor(subject, None, move || Ok(source));
        competitor.params.insert("version".into(), version.into());
        competitor
    }
}

/// Runs a case with an allocator of its own each time.
struct Player<B> {
    setting: Setting,
    build: B,
}

impl<S: Source, B: Fn() -> Result<S, WrongAnswer>> Entrant for Player<B> {
    /// Nothing here is checked outside the samples.
    fn rehearse(&mut self) -> Result<(), WrongAnswer> {
        Ok(())
    }

    fn sample(&mut self, slice: Slice) -> Result<Vec<Reading>, WrongAnswer> {
        let size = self.setting.size;
        let layout = Layout::from_size_align(size, 16)
            .map_err(|error| WrongAnswer(format!("{size} bytes: {error}")))?;
        let before = passing::resident_before();
        let source = (self.build)()?;
        let readings = match self.setting.case {
            HOT_PAIR => run::<S, 1>(self.setting, layout, &source, slice),
            BATCH_64 => run::<S, 64>(self.setting, layout, &source, slice),
            _ => passing::run(self.setting, layout, &source, slice, before),
        }?;
        source.close()?;
        Ok(readings)
    }
}

/// Has each thread hold up to `N` objects.
fn run<S: Source, const N: usize>(
    setting: Setting,
    layout: Layout,
    source: &S,
    slice: Slice,
) -> Result<Vec<Reading>, WrongAnswer> {
    let mut users: Team<User<'_, S, N>> = (0..setting.threads as u64)
        .map(|number| User { hand: Hand::new(source, layout), stamp: number << 48, fault: None })
        .collect();
    let mut held = HeldBytes::default();
    let shift = users.run_for(slice, || {
        if let Some(bytes) = source.held_bytes() {
            held.note(bytes);
        }
    })?;
    if let Some(fault) = users.iter_mut().find_map(|user| user.fault.take()) {
        return Err(fault);
    }
    let mut readings = readings(setting, &shift);
    readings.extend(held.readings(setting.case));
    Ok(readings)
}

/// Speed and cost of what all threads did.
fn readings(Setting { case, threads, .. }: Setting, shift: &Shift) -> Vec<Reading> {
    let per_second = shift.per_second(shift.total());
    let mut readings = vec![
        Reading::new(case, Metric::OpsPerS, per_second),
        Reading::new(case, Metric::NsPerOp, threads as f64 * 1e9 / per_second.max(1.0)),
    ];
    readings.extend(shift.cpu_share(case));
    readings
}

/// One thread that allocates and frees.
struct User<'s, S: Source, const N: usize> {
    hand: Hand<'s, S, N>,
    /// The next stamp; the threads' stamps are far apart.
    stamp: u64,
    fault: Option<WrongAnswer>,
}

impl<S: Source, const N: usize> Worker for User<'_, S, N> {
    fn work(&mut self, gate: &Gate) -> u64 {
        self.hand.enter();
        let mut done = 0;
        loop {
            for _ in 0..STRIDE / N {
                let served = self.hand.fill(self.stamp);
                let intact = self.hand.empty(self.stamp);
                if served < N || intact < N {
                    self.fault.get_or_insert_with(|| fault(N, served, intact));
                }
                self.stamp += N as u64;
            }
            done += STRIDE as u64;
            if !gate.is_open() || self.fault.is_some() {
                return done;
            }
        }
    }
}

#[cold]
fn fault(wanted: usize, served: usize, intact: usize) -> WrongAnswer {
    WrongAnswer(if served < wanted {
        format!("{served} of {wanted} allocations were served")
    } else {
        format!("of {served} objects {intact} still had what had been written into them")
    })
}
