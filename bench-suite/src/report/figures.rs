//! Formats numbers: three digits, and a unit of the right size.

use crate::measure::{Comparison, Interval, Metric, Summary, Verdict};

/// A factor and the name of its unit.
type Scale = (f64, &'static str);

const SPEED: &[Scale] = &[(1e9, "G/s"), (1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")];
const TIME: &[Scale] = &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];
const MEMORY: &[Scale] =
    &[(1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")];
const BYTES: &[Scale] = &[(1.0, "B")];
const COUNT: &[Scale] = &[(1.0, "")];

fn scale(metric: Metric, value: f64) -> Scale {
    let scales = match metric {
        Metric::OpsPerS | Metric::LookupsPerS | Metric::UpdatesPerS | Metric::SignalsPerS => SPEED,
        Metric::NsPerOp
        | Metric::GpLatencyNs
        | Metric::AllocLatencyNs
        | Metric::FreeLatencyNs
        | Metric::UpdateLatencyNs
        | Metric::UpdateGroupP50Ns
        | Metric::UpdateGroupP99Ns
        | Metric::UpdateGroupMaxNs
        | Metric::UpdateP50Ns
        | Metric::UpdateP99Ns => TIME,
        Metric::MemAvgBytes | Metric::MemPeakBytes => MEMORY,
        Metric::BytesPerEntry | Metric::OverheadBytesPerEntry => BYTES,
        Metric::CpuShare
        | Metric::FalseNegatives
        | Metric::Lost
        | Metric::Duplicated
        | Metric::WouldBlockShare
        | Metric::RefusedShare
        | Metric::WrongAnswers
        | Metric::TableShare
        | Metric::AllocatorShare
        | Metric::GracePeriodShare
        | Metric::RetriesPerLookup => COUNT,
    };
    let fits = scales.iter().find(|(factor, _)| value.abs() >= *factor);
    *fits.or(scales.last()).unwrap_or(&(1.0, ""))
}

/// Formats a value, as in "3.91 M/s".
pub(super) fn value(metric: Metric, value: f64) -> String {
    let (factor, unit) = scale(metric, value);
    format!("{} {unit}", digits(value / factor)).trim_end().to_owned()
}

/// Formats the median and the middle half, as in "3.91 (3.80..4.02) M/s"; the median alone if they
/// look the same.
pub(super) fn spread(metric: Metric, summary: &Summary) -> String {
    let (factor, unit) = scale(metric, summary.median);
    let [low, median, high] =
        [summary.low, summary.median, summary.high].map(|value| digits(value / factor));
    if low == high {
        return value(metric, summary.median);
    }
    format!("{median} ({low}..{high}) {unit}").trim_end().to_owned()
}

/// Formats the median ratio and its interval, as in "1.18 (1.15..1.21)", or the reason why there is
/// none.
pub(super) fn ratio(comparison: &Comparison) -> String {
    let Interval { low, high } = comparison.interval;
    let (low, high) = (digits(low), digits(high));
    match comparison.verdict {
        Verdict::Differ if low == high => low,
        Verdict::Differ => format!("{} ({low}..{high})", digits(comparison.ratio)),
        Verdict::NoDifference => "no difference".into(),
        Verdict::NotToldApart => format!("not told apart ({low}..{high})"),
        Verdict::TooFewRounds => "too few rounds".into(),
    }
}

/// Formats a ratio and its interval, as in "1.18 (1.15..1.21)", under every verdict.
pub(super) fn ratio_and_interval(comparison: &Comparison) -> String {
    let Interval { low, high } = comparison.interval;
    format!("{} ({}..{})", digits(comparison.ratio), digits(low), digits(high))
}

/// Formats a factor, as in "× 1.18".
pub(super) fn factor(ratio: f64) -> String {
    format!("× {}", digits(ratio))
}

/// Formats an interval, as in "1.15 to 1.21".
pub(super) fn interval(Interval { low, high }: &Interval) -> String {
    format!("{} to {}", digits(*low), digits(*high))
}

/// Formats how far apart two values are, as in "1.18 times", whichever is the larger.
pub(super) fn times(ratio: f64) -> String {
    format!("{} times", digits(ratio.max(ratio.recip())))
}

/// Groups digits by three, as in "121,015".
pub(super) fn grouped(number: &str) -> String {
    let mut grouped = String::new();
    for (place, digit) in number.chars().enumerate() {
        if place > 0 && (number.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Formats a number with three digits, with more if the integer part has more, and zero as "0".
pub(super) fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size < 0.001 => format!("{value:.1e}"),
        size if size < 0.0995 => format!("{value:.3}"),
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Placed;

    #[test]
    fn numbers_have_three_digits_and_a_unit_of_the_right_size() {
        assert_eq!(value(Metric::OpsPerS, 3_914_000.0), "3.91 M/s");
        assert_eq!(value(Metric::OpsPerS, 489e6), "489 M/s");
        assert_eq!(value(Metric::NsPerOp, 8.13), "8.13 ns");
        assert_eq!(value(Metric::MemPeakBytes, 18_035_507.0), "17.2 MiB");
        assert_eq!(value(Metric::BytesPerEntry, 1055.4), "1055 B");
        assert_eq!(value(Metric::RetriesPerLookup, 0.0), "0");
        assert_eq!(value(Metric::RetriesPerLookup, 0.000_25), "2.5e-4");
    }

    #[test]
    fn a_spread_is_in_the_unit_of_its_median() {
        let summary = Summary::of(&[0.9e6, 1.0e6, 1.1e6, 1.2e6, 1.3e6]).unwrap();
        assert_eq!(spread(Metric::OpsPerS, &summary), "1.10 (1.00..1.20) M/s");
        let same = Summary::of(&[56.0, 56.0]).unwrap();
        assert_eq!(spread(Metric::BytesPerEntry, &same), "56.0 B");
    }

    #[test]
    fn a_ratio_is_shown_only_if_there_is_a_difference() {
        let of = |base: &[f64], other: &[f64]| {
            let (base, other) = (Placed::anywhere(base), Placed::anywhere(other));
            ratio(&Comparison::of(base, other).unwrap())
        };
        assert_eq!(of(&[2.0; 7], &[3.0; 7]), "1.50");
        assert_eq!(of(&[2.0; 7], &[2.0; 7]), "no difference");
        let other = [1.4, 1.3, 1.2, 1.1, 1.0, 0.9, 0.8];
        assert_eq!(of(&[1.0; 7], &other), "not told apart (0.90..1.30)");
        assert_eq!(of(&[2.0; 6], &[3.0; 6]), "too few rounds");
    }

    #[test]
    fn long_numbers_are_grouped_by_three() {
        assert_eq!(["7", "999", "1000", "121015"].map(grouped), ["7", "999", "1,000", "121,015"]);
    }
}
