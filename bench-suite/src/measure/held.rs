//! Memory held from the system, observed at intervals. Changes between two observations are missed.

use super::{Metric, Reading};

/// The average and peak of the observations.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeldBytes {
    sum: u64,
    looks: u64,
    peak: u64,
}

impl HeldBytes {
    /// Records the bytes held now.
    pub(crate) fn note(&mut self, bytes: u64) {
        self.sum += bytes;
        self.looks += 1;
        self.peak = self.peak.max(bytes);
    }

    /// Returns the average and the peak; empty without an observation.
    pub(crate) fn readings(&self, case: &'static str) -> Vec<Reading> {
        let peak = Reading::new(case, Metric::MemPeakBytes, self.peak as f64);
        self.average(case).map(|average| vec![average, peak]).unwrap_or_default()
    }

    /// Returns only the average, for benches that get the peak from the system.
    pub(crate) fn average(&self, case: &'static str) -> Option<Reading> {
        let average = (self.looks > 0).then(|| self.sum as f64 / self.looks as f64)?;
        Some(Reading::new(case, Metric::MemAvgBytes, average))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_and_peak_are_those_of_the_observations() {
        let mut held = HeldBytes::default();
        assert_eq!(held.readings("case"), []);
        for bytes in [100, 400, 100] {
            held.note(bytes);
        }
        let values: Vec<_> = held.readings("case").iter().map(|reading| reading.value).collect();
        assert_eq!(values, [200.0, 400.0]);
    }
}
