//! Readers of objects: of both flavours, nested, asleep, and with guards that end on another thread.

use std::sync::{Mutex, PoisonError};
use std::thread::{sleep, yield_now};
use std::time::Duration;

use memalloc::ReusePolicy;
use memalloc::rcu::{Domain, OwnedTraceGuard, TraceGuard};

use super::objects::{Found, Keeps, Objects, SLOTS, Section};
use super::verdict::Count;

/// Sections of one bout.
const SECTIONS: u64 = 200;

/// Guards that wait for somebody to take them over.
const MOST_PARCELS: usize = 16;

/// Sections on their way to another thread.
#[derive(Debug, Default)]
pub(super) struct Parcels<'d>(Mutex<Vec<Parcel<'d>>>);

/// A section that may sleep, and what was found in it.
#[derive(Debug)]
struct Parcel<'d> {
    found: Option<Found>,
    _guard: AnyTraceGuard<'d>,
}

#[derive(Debug)]
enum AnyTraceGuard<'d> {
    Borrowed { _guard: TraceGuard<'d> },
    Owned { _guard: OwnedTraceGuard },
}

/// Reads in sections of RCU, now and then nested, by a slot of its own, or while others run.
pub(super) fn read<P: ReusePolicy>(
    objects: &Objects<'_, P>,
    domain: &Domain,
    random: &mut fastrand::Rng,
) {
    let keeps = objects.keeps(Section::Rcu);
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
                // The outer guard ends first: the section lasts as long as one of them.
                let inner = (domain.pin(), domain.pin());
                drop(outer);
                objects.check(found, keeps);
                if own.is_none() {
                    drop(inner.0);
                    objects.check(found, keeps);
                }
                reads += 1;
                continue;
            }
            16..48 => (0..random.u32(..500)).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
        objects.check(found, keeps);
        reads += 1;
    }
    objects.count_reads(reads);
}

/// Reads in sections that may sleep, several at a time.
pub(super) fn read_trace<P: ReusePolicy>(
    objects: &Objects<'_, P>,
    domain: &Domain,
    random: &mut fastrand::Rng,
) {
    let keeps = objects.keeps(Section::Trace);
    for _ in 0..SECTIONS / 4 {
        let outer = domain.pin_trace();
        let inner = random.bool().then(|| domain.pin_trace());
        if keeps == Keeps::Nothing {
            continue;
        }
        let Some(found) = objects.find(random.usize(..SLOTS)) else { continue };
        if random.u8(..) < 8 {
            yield_now();
        }
        drop(outer);
        if inner.is_some() {
            objects.check(found, keeps);
            objects.count_reads(1);
        }
    }
}

/// Finds all objects in one section of either flavour, sleeps, and looks at them.
pub(super) fn sleep_inside<P: ReusePolicy>(
    objects: &Objects<'_, P>,
    domain: &Domain,
    random: &mut fastrand::Rng,
) {
    let nap = Duration::from_micros(random.u64(100..6_000));
    let section = if random.bool() { Section::Rcu } else { Section::Trace };
    let keeps = objects.keeps(section);
    let _rcu = (section == Section::Rcu).then(|| domain.pin());
    let _trace = (section == Section::Trace).then(|| domain.pin_trace());
    if keeps == Keeps::Nothing {
        return sleep(nap);
    }
    let found: Vec<Found> = (0..SLOTS).filter_map(|slot| objects.find(slot)).collect();
    sleep(nap);
    found.iter().for_each(|&found| objects.check(found, keeps));
    objects.count_reads(found.len() as u64);
}

impl<'d> Parcels<'d> {
    /// Begins a section for another thread, or ends one that another began.
    pub(super) fn pass<P: ReusePolicy>(
        &self,
        objects: &Objects<'_, P>,
        domain: &'d Domain,
        random: &mut fastrand::Rng,
    ) {
        let keeps = objects.keeps(Section::Trace);
        for _ in 0..32 {
            if random.bool() {
                let guard = match random.bool() {
                    true => AnyTraceGuard::Borrowed { _guard: domain.pin_trace() },
                    false => AnyTraceGuard::Owned { _guard: domain.pin_trace_owned() },
                };
                let slot = random.usize(..SLOTS);
                let found = if keeps == Keeps::Nothing { None } else { objects.find(slot) };
                let mut parcels = self.lock();
                if parcels.len() < MOST_PARCELS {
                    parcels.push(Parcel { found, _guard: guard });
                }
                continue;
            }
            let taken = {
                let mut parcels = self.lock();
                let which = random.usize(..=parcels.len());
                (which < parcels.len()).then(|| parcels.swap_remove(which))
            };
            if let Some(Parcel { found, .. }) = &taken {
                found.iter().for_each(|&found| objects.check(found, keeps));
                objects.count_reads(u64::from(found.is_some()));
                objects.verdict().count(Count::HandedOver, 1);
            }
        }
    }

    /// Ends all sections that nobody has taken over.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Parcel<'d>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
