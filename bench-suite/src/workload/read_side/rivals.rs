//! The read protection of rivals. If a library has two ways, a sample runs both in turn, and the
//! faster one counts.

use std::sync::atomic::{AtomicPtr, Ordering};

use super::scheme::Scheme;
use super::{enter_leave, subject};
use crate::measure::{Metric, NoReadings, Reading, Slice};
use crate::workload::rivals::{as_kovan_has_it, version};
use crate::workload::{Params, Subject};

/// Returns all rivals.
pub(super) fn subjects<'d>(threads: usize) -> Vec<Subject<'d>> {
    let rival = |name, ways: &'static [Way]| {
        let mut params = Params::new();
        params.insert("version".into(), version(name).into());
        subject(name, params, move |slice| fastest(ways, threads, slice))
    };
    vec![
        rival(
            "crossbeam-epoch",
            &[
                |threads, slice| enter_leave::run(&EpochHandle::default(), threads, slice),
                |threads, slice| enter_leave::run(&EpochPin, threads, slice),
            ],
        ),
        rival(
            "seize",
            &[
                |threads, slice| enter_leave::run(&Seize::default(), threads, slice),
                |threads, slice| enter_leave::run(&SeizeOwned::default(), threads, slice),
            ],
        ),
        rival("haphazard", &[|threads, slice| enter_leave::run(&Haphazard, threads, slice)]),
        rival("kovan", &[|threads, slice| enter_leave::run(&Kovan, threads, slice)]),
        rival("sdd", &[|threads, slice| enter_leave::run(&Sdd, threads, slice)]),
    ]
}

/// Takes a sample with a number of threads.
type Way = fn(usize, Slice) -> Result<Vec<Reading>, NoReadings>;

fn fastest(ways: &[Way], threads: usize, slice: Slice) -> Result<Vec<Reading>, NoReadings> {
    let slice = slice.part(ways.len() as u32);
    let cost = |readings: &Vec<Reading>| {
        let cost = readings.iter().find(|reading| reading.metric == Metric::NsPerOp);
        cost.map_or(f64::INFINITY, |cost| cost.value)
    };
    let played = ways.iter().map(|way| way(threads, slice)).collect::<Result<Vec<_>, _>>()?;
    let best = played.into_iter().min_by(|one, other| cost(one).total_cmp(&cost(other)));
    Ok(best.unwrap_or_default())
}

/// Each thread keeps a handle of a collector.
#[derive(Default)]
struct EpochHandle(crossbeam_epoch::Collector);

impl Scheme for EpochHandle {
    type Local<'s> = crossbeam_epoch::LocalHandle;

    fn local(&self) -> Self::Local<'_> {
        self.0.register()
    }

    #[inline]
    fn read<T>(&self, local: &mut Self::Local<'_>, place: &AtomicPtr<T>) -> *mut T {
        let _guard = local.pin();
        // ORDERING: as for a reader that follows the pointer; the same for all schemes.
        place.load(Ordering::Acquire)
    }
}

/// The global collector, looked up for each read.
struct EpochPin;

impl Scheme for EpochPin {
    type Local<'s> = ();

    fn local(&self) {}

    #[inline]
    fn read<T>(&self, (): &mut (), place: &AtomicPtr<T>) -> *mut T {
        let _guard = crossbeam_epoch::pin();
        // ORDERING: as for a reader that follows the pointer; the same for all schemes.
        place.load(Ordering::Acquire)
    }
}

/// A guard for the current thread, for each read.
#[derive(Default)]
struct Seize(seize::Collector);

impl Scheme for Seize {
    type Local<'s> = ();

    fn local(&self) {}

    #[inline]
    fn read<T>(&self, (): &mut (), place: &AtomicPtr<T>) -> *mut T {
        use seize::Guard as _;
        // ORDERING: as for a reader that follows the pointer; the same for all schemes.
        self.0.enter().protect(place, Ordering::Acquire)
    }
}

/// An owned guard that each thread keeps, and refreshes for each read.
#[derive(Default)]
struct SeizeOwned(seize::Collector);

impl Scheme for SeizeOwned {
    type Local<'s> = seize::OwnedGuard<'s>;

    fn local(&self) -> Self::Local<'_> {
        self.0.enter_owned()
    }

    #[inline]
    fn read<T>(&self, local: &mut Self::Local<'_>, place: &AtomicPtr<T>) -> *mut T {
        use seize::Guard as _;
        local.refresh();
        // ORDERING: as for a reader that follows the pointer; the same for all schemes.
        local.protect(place, Ordering::Acquire)
    }
}

/// One hazard pointer for each thread, reused for each read.
struct Haphazard;

impl Scheme for Haphazard {
    type Local<'s> = haphazard::HazardPointer<'static>;

    fn local(&self) -> Self::Local<'_> {
        haphazard::HazardPointer::new()
    }

    #[inline]
    fn read<T>(&self, local: &mut Self::Local<'_>, place: &AtomicPtr<T>) -> *mut T {
        let found = local.protect_ptr(place).map(|(found, _)| found.as_ptr());
        local.reset_protection();
        found.unwrap_or_default()
    }
}

/// The global collector, with a guard for each read.
struct Kovan;

impl Scheme for Kovan {
    type Local<'s> = ();

    fn local(&self) {}

    #[inline]
    fn read<T>(&self, (): &mut (), place: &AtomicPtr<T>) -> *mut T {
        let guard = kovan::pin();
        // ORDERING: as for a reader that follows the pointer; the same for all schemes. Nobody
        // follows it here.
        as_kovan_has_it(place).load(Ordering::Acquire, &guard).as_raw()
    }
}

/// A guard for each read.
struct Sdd;

impl Scheme for Sdd {
    type Local<'s> = ();

    fn local(&self) {}

    #[inline]
    fn read<T>(&self, (): &mut (), place: &AtomicPtr<T>) -> *mut T {
        let _guard = sdd::Guard::new();
        // ORDERING: as for a reader that follows the pointer; the same for all schemes.
        place.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::measure::WrongAnswer;

    #[test]
    fn the_faster_way_counts() {
        let way: Way = |_, _| Ok(vec![Reading::new(enter_leave::CASE, Metric::NsPerOp, 2.0)]);
        let slow: Way = |_, _| Ok(vec![Reading::new(enter_leave::CASE, Metric::NsPerOp, 3.0)]);
        let slice = Slice::new(Duration::from_millis(1), None);
        assert_eq!(fastest(&[slow, way], 1, slice).unwrap()[0].value, 2.0);
        let wrong: Way = |_, _| Err(WrongAnswer("wrong".into()).into());
        assert!(fastest(&[way, wrong], 1, slice).is_err());
    }

    #[test]
    fn every_rival_finds_the_pointer() {
        let slice = Slice::new(Duration::from_millis(4), None);
        let all = subjects(2);
        let names: Vec<_> = all.iter().map(|rival| rival.name).collect();
        assert_eq!(names, ["crossbeam-epoch", "seize", "haphazard", "kovan", "sdd"]);
        for mut rival in all {
            let readings = rival.sampler.sample(slice).unwrap();
            assert!(readings.iter().any(|reading| reading.metric == Metric::NsPerOp));
        }
    }
}
