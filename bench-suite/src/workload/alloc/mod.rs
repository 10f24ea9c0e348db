//! The bench `alloc`: allocating and freeing, without a reader that would hold anything up.
//!
//! An operation is one allocation and one free. `hot-pair` frees each object at once; `batch-64`
//! allocates 64, then frees them, oldest first. A stamp is written into the first eight bytes of
//! each object and compared before it is freed: nobody allocates to leave an object untouched,
//! and an object that was handed out twice shows.
//!
//! `memalloc` frees as its policy says: at once, or after a grace period (`free_rcu`). The
//! system's allocator has no policy: it frees at once, and gives its readers no promise at all.

mod objects;

use std::alloc::Layout;
use std::time::Duration;

use memalloc::{AfterRcuGp, Immediate, MemAlloc, PolicyKind, ReusePolicy};

use super::{Competitor, Contest, Params, Selection, threads_in_words};
use crate::measure::{Entrant, Gate, HeldBytes, Metric, Reading, Team, Worker, WrongAnswer};
use objects::{Hand, Source, SystemMalloc};

/// The name of the bench.
pub(crate) const BENCH: &str = "alloc";

/// The cases, in the order in which they run.
pub(crate) const CASES: &[&str] = &[HOT_PAIR, BATCH_64];

const HOT_PAIR: &str = "hot-pair";
const BATCH_64: &str = "batch-64";

/// Sizes of objects: one cache line, the largest whose caches are deep, one page.
const SIZES: [usize; 3] = [64, 256, 4096];

/// Allocations between two looks at the clock.
const STRIDE: usize = 64;

/// The contests of the bench.
pub(crate) fn contests<'d>(selection: &Selection) -> Vec<Contest<'d>> {
    let mut contests = Vec::new();
    for &case in CASES.iter().filter(|case| selection.wants(case)) {
        for size in SIZES {
            for &threads in &selection.threads {
                contests.push(contest(case, size, threads, selection));
            }
        }
    }
    contests
}

fn contest<'d>(
    case: &'static str,
    size: usize,
    threads: usize,
    selection: &Selection,
) -> Contest<'d> {
    let setting = Setting { case, size, threads };
    let mut competitors: Vec<Competitor<'d>> = Vec::new();
    for &policy in &selection.policies {
        competitors.extend(match policy {
            PolicyKind::Immediate => Some(memalloc_under::<Immediate>(setting)),
            PolicyKind::AfterRcuGp => Some(memalloc_under::<AfterRcuGp>(setting)),
            _ => None,
        });
    }
    competitors.push(setting.competitor(SystemMalloc::NAME, None, || Ok(SystemMalloc)));
    Contest {
        bench: BENCH,
        title: format!("{case}, {size} bytes, {}", threads_in_words(threads)),
        threads,
        share: 1.0,
        competitors,
    }
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
        Competitor { subject, policy, params, entrant }
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

    fn sample(&mut self, slice: Duration) -> Result<Vec<Reading>, WrongAnswer> {
        let source = (self.build)()?;
        let readings = match self.setting.case {
            HOT_PAIR => run::<S, 1>(self.setting, &source, slice),
            _ => run::<S, 64>(self.setting, &source, slice),
        }?;
        source.close()?;
        Ok(readings)
    }
}

/// Has each thread hold up to `N` objects.
fn run<S: Source, const N: usize>(
    Setting { case, size, threads }: Setting,
    source: &S,
    slice: Duration,
) -> Result<Vec<Reading>, WrongAnswer> {
    let layout = Layout::from_size_align(size, 16)
        .map_err(|error| WrongAnswer(format!("{size} bytes: {error}")))?;
    let mut users: Team<User<'_, S, N>> = (0..threads as u64)
        .map(|number| User { hand: Hand::new(source, layout), stamp: number << 48, fault: None })
        .collect();
    let mut held = HeldBytes::default();
    let shift = users.run_for(slice, || {
        if let Some(bytes) = source.held_bytes() {
            held.note(bytes);
        }
    });
    if let Some(fault) = users.iter_mut().find_map(|user| user.fault.take()) {
        return Err(fault);
    }
    let per_second = shift.per_second(shift.total());
    let mut readings = vec![
        Reading::new(case, Metric::OpsPerS, per_second),
        Reading::new(case, Metric::NsPerOp, threads as f64 * 1e9 / per_second),
    ];
    readings.extend(held.readings(case));
    readings.extend(shift.cpu_share(case));
    Ok(readings)
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
