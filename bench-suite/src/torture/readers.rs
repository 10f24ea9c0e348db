//! Readers of objects: in sections of both flavours, nested, sleeping, and with guards that are
//! dropped on another thread.

use std::sync::{Mutex, PoisonError};
use std::thread::{sleep, yield_now};
use std::time::Duration;

use memalloc::ReusePolicy;
use memalloc::rcu::{Domain, OwnedTraceGuard, TraceGuard};

use super::objects::{Found, Objects, Protection, SLOTS, Section};
use super::verdict::Count;

/// The number of sections of one activity.
const SECTIONS: u64 = 200;

/// The largest number of guards on their way to another thread.
const MAX_SENT: usize = 16;

/// The guards on their way to another thread.
#[derive(Debug, Default)]
pub(super) struct SentGuards<'d>(Mutex<Vec<SentGuard<'d>>>);

/// The guard of a section that may sleep, and the object found in the section.
#[derive(Debug)]
struct SentGuard<'d> {
    found: Option<Found>,
    _guard: AnyTraceGuard<'d>,
}

#[derive(Debug)]
enum AnyTraceGuard<'d> {
    Borrowed { _guard: TraceGuard<'d> },
    Owned { _guard: OwnedTraceGuard },
}

/// Reads in RCU sections: some nested, some pinned through a `LocalReader`, some with delays.
pub(super) fn read<P: ReusePolicy>(
    objects: &Objects<'_, P>,
    domain: &Domain,
    random: &mut fastrand::Rng,
) {
    let protection = objects.protection(Section::Rcu);
    let local = domain.local();
    let mut reads = 0;
    for _ in 0..SECTIONS {
        let slot = random.usize(..SLOTS);
        let (outer, own) = match random.bool() {
            true => (Some(domain.pin()), None),
            false => (None, Some(local.pin())),
        };
        let Some(found) = objects.find(slot) else { continue };
        match random.u8(..) {
            0 => yield_now(),
            1..16 => {
                // The outer guard ends first: the section lasts until the last guard ends.
                let inner = (domain.pin(), domain.pin());
                drop(outer);
                objects.check(found, protection);
                if own.is_none() {
                    drop(inner.0);
                    objects.check(found, protection);
                }
                reads += 1;
                continue;
            }
            16..48 => (0..random.u32(..500)).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
        objects.check(found, protection);
        reads += 1;
    }
    objects.count_reads(reads);
}

/// Reads in sections that may sleep, some of them overlapping.
pub(super) fn read_trace<P: ReusePolicy>(
    objects: &Objects<'_, P>,
    domain: &Domain,
    random: &mut fastrand::Rng,
) {
    let protection = objects.protection(Section::Trace);
    for _ in 0..SECTIONS / 4 {
        let outer = domain.pin_trace();
        let inner = random.bool().then(|| domain.pin_trace());
        if protection == Protection::Nothing {
            continue;
        }
        let Some(found) = objects.find(random.usize(..SLOTS)) else { continue };
        if random.u8(..) < 8 {
            yield_now();
        }
        drop(outer);
        if inner.is_some() {
            objects.check(found, protection);
            objects.count_reads(1);
        }
    }
}

/// Finds all objects in one section of either flavour, sleeps, and checks the objects.
pub(super) fn sleep_inside<P: ReusePolicy>(
    objects: &Objects<'_, P>,
    domain: &Domain,
    random: &mut fastrand::Rng,
) {
    let nap = Duration::from_micros(random.u64(100..6_000));
    let section = if random.bool() { Section::Rcu } else { Section::Trace };
    let protection = objects.protection(section);
    let _rcu = (section == Section::Rcu).then(|| domain.pin());
    let _trace = (section == Section::Trace).then(|| domain.pin_trace());
    if protection == Protection::Nothing {
        return sleep(nap);
    }
    let found: Vec<Found> = (0..SLOTS).filter_map(|slot| objects.find(slot)).collect();
    sleep(nap);
    found.iter().for_each(|&found| objects.check(found, protection));
    objects.count_reads(found.len() as u64);
}

impl<'d> SentGuards<'d> {
    /// Repeatedly begins a section and leaves its guard to any thread, or takes such a guard,
    /// checks the object and ends the section.
    pub(super) fn pass<P: ReusePolicy>(
        &self,
        objects: &Objects<'_, P>,
        domain: &'d Domain,
        random: &mut fastrand::Rng,
    ) {
        let protection = objects.protection(Section::Trace);
        for _ in 0..32 {
            if random.bool() {
                let guard = match random.bool() {
                    true => AnyTraceGuard::Borrowed { _guard: domain.pin_trace() },
                    false => AnyTraceGuard::Owned { _guard: domain.pin_trace_owned() },
                };
                let slot = random.usize(..SLOTS);
                let found =
                    if protection == Protection::Nothing { None } else { objects.find(slot) };
                let mut sent_guards = self.lock();
                if sent_guards.len() < MAX_SENT {
                    sent_guards.push(SentGuard { found, _guard: guard });
                }
                continue;
            }
            let taken = {
                let mut sent_guards = self.lock();
                let which = random.usize(..=sent_guards.len());
                (which < sent_guards.len()).then(|| sent_guards.swap_remove(which))
            };
            if let Some(SentGuard { found, .. }) = &taken {
                found.iter().for_each(|&found| objects.check(found, protection));
                objects.count_reads(u64::from(found.is_some()));
                objects.verdict().count(Count::HandedOver, 1);
            }
        }
    }

    /// Drops the guards that no thread has taken.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<SentGuard<'d>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
