//! Parsers of option values. The error of each says what it accepts.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use qptrie::Hints;

use crate::data::DataName;

/// Parses a time budget of at most a day.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    within(text, 1..=86_400, "a whole number of seconds")
}

/// Parses a warm-up of at most a minute, in seconds that may have a fraction.
pub(super) fn warm_up(text: &str) -> Result<Duration, String> {
    within(text, 0.0..=60.0, "a number of seconds").map(Duration::from_secs_f64)
}

/// Parses a number of threads.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    within(text, 1..=1024, "a number")
}

/// Parses a number of rounds.
pub(super) fn rounds(text: &str) -> Result<usize, String> {
    within(text, 1..=1000, "a number")
}

/// Parses the size of an object.
pub(super) fn size(text: &str) -> Result<usize, String> {
    within(text, 16..=4096, "a number of bytes")
}

/// Parses the size of an object that begins with a stamp of 8 bytes.
pub(super) fn stamped_size(text: &str) -> Result<usize, String> {
    within(text, 8..=4096, "a number of bytes")
}

/// Parses the size of a value in a hash map, which consists of words of 8 bytes.
pub(super) fn value_size(text: &str) -> Result<usize, String> {
    let what = "a multiple of 8";
    let size: usize = within(text, 8..=4096, what)?;
    match size.is_multiple_of(8) {
        true => Ok(size),
        false => Err(format!("expected {what} from 8 to 4096")),
    }
}

/// Parses a number of signals per second.
#[cfg(target_os = "linux")]
pub(super) fn rate(text: &str) -> Result<u32, String> {
    within(text, 1..=50_000, "a number")
}

/// Parses the number of a phase of torture.
#[cfg(target_os = "linux")]
pub(super) fn phase(text: &str) -> Result<u64, String> {
    within(text, 0..=5_000_000, "a number")
}

/// Parses the name of a fault, in a build with the feature `broken`.
#[cfg(feature = "broken")]
pub(super) fn fault(text: &str) -> Result<memalloc::broken::Fault, String> {
    let all = memalloc::broken::Fault::ALL;
    all.iter().copied().find(|fault| fault.to_string() == text).ok_or_else(|| {
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        format!("allowed are {}", names.join(", "))
    })
}

/// Parses a difference in percent.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    within(text, 0.0..=1000.0, "a number")
}

/// Parses a seed, which may be any number.
pub(super) fn seed(text: &str) -> Result<u64, String> {
    within(text, 0..=u64::MAX, "a number")
}

/// Parses the setting of a trie's hints.
pub(super) fn hints(text: &str) -> Result<Hints, String> {
    match text {
        "off" => Ok(Hints::Off),
        "on" => Ok(Hints::On),
        _ => Err("expected off or on".into()),
    }
}

/// Parses `yes` or `no`.
pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("expected yes or no".into()),
    }
}

/// Parses a whole number; the workload checks its range.
pub(super) fn whole(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a whole number".into())
}

/// Parses a number; the workload checks its range.
pub(super) fn real(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| "expected a number".into())
}

/// Sets of keys separated by commas; the path of a file extends to the end of the list.
#[derive(Clone, Debug)]
pub(super) struct DataNames(pub(super) Vec<DataName>);

impl FromStr for DataNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut names, mut rest) = (Vec::new(), Some(text));
        while let Some(text) = rest {
            let (name, others) = match text.split_once(',') {
                Some((name, others)) if !name.starts_with("file:") => (name, Some(others)),
                _ => (text, None),
            };
            names.push(name.parse()?);
            rest = others;
        }
        Ok(Self(names))
    }
}

fn within<N: FromStr + PartialOrd + Display>(
    text: &str,
    range: RangeInclusive<N>,
    what: &str,
) -> Result<N, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("expected {what} from {} to {}", range.start(), range.end()))
}
