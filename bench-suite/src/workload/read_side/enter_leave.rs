//! `enter-leave`: a reader protects itself, loads one pointer and ends the protection, repeatedly.
//! The load is included because some schemes protect the loaded object and others the whole
//! section: only with a load do both do the same work. Every pointer is compared.

use std::sync::atomic::AtomicPtr;

use super::scheme::Scheme;
use crate::measure::{Gate, Metric, NoReadings, Reading, Slice, Team, Worker, WrongAnswer};

/// The name of the case.
pub(super) const CASE: &str = "enter-leave";

/// Reads between two reads of the clock.
const STRIDE: u64 = 256;

/// Runs readers on all threads.
pub(super) fn run<S: Scheme>(
    scheme: &S,
    threads: usize,
    slice: Slice,
) -> Result<Vec<Reading>, NoReadings> {
    let mut object = 0_u64;
    let object: *mut u64 = &mut object;
    let shown = Shown(AtomicPtr::new(object));
    let readers =
        (0..threads).map(|_| Reader { scheme, shown: &shown, object: object.addr(), wrong: 0 });
    let mut team: Team<_> = readers.collect();
    let throughput = team.run_for(slice, || {})?;
    let wrong: u64 = team.iter().map(|reader| reader.wrong).sum();
    if wrong > 0 {
        return Err(WrongAnswer(format!("{wrong} reads returned a wrong pointer")).into());
    }
    let each = threads as f64 * 1e9 / throughput.per_second(throughput.total()).max(1.0);
    let mut readings = vec![Reading::new(CASE, Metric::NsPerOp, each)];
    readings.extend(throughput.cpu_share(CASE));
    Ok(readings)
}

/// A pointer on a separate cache line, which no thread writes.
#[repr(align(128))]
struct Shown(AtomicPtr<u64>);

struct Reader<'r, S> {
    scheme: &'r S,
    shown: &'r Shown,
    /// The expected address.
    object: usize,
    wrong: u64,
}

impl<S: Scheme> Worker for Reader<'_, S> {
    fn work(&mut self, gate: &Gate) -> u64 {
        // Copies: as far as the compiler knows, a scheme's stores may alias the fields, which would
        // then be loaded again for each read.
        let (scheme, place, object) = (self.scheme, &self.shown.0, self.object);
        let mut local = scheme.local();
        let (mut done, mut wrong) = (0, 0);
        while done == 0 || gate.is_open() {
            for _ in 0..STRIDE {
                let found = scheme.read(&mut local, place);
                wrong += u64::from(found.addr() != object);
            }
            done += STRIDE;
        }
        self.wrong += wrong;
        done
    }
}

#[cfg(test)]
mod tests {
    use std::ptr::null_mut;
    use std::time::Duration;

    use super::*;

    /// Finds nothing.
    struct Blind;

    impl Scheme for Blind {
        type Local<'s> = ();

        fn local(&self) {}

        fn read<T>(&self, (): &mut (), _place: &AtomicPtr<T>) -> *mut T {
            null_mut()
        }
    }

    #[test]
    fn a_wrong_pointer_ends_the_run() {
        let slice = Slice::new(Duration::from_millis(1), None);
        let reason = run(&Blind, 1, slice).unwrap_err().to_string();
        assert!(reason.contains("wrong pointer"), "{reason}");
    }
}
