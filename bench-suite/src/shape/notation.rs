//! Lists with weights in one word: `64:3,256` for sizes, `6:0,2:0.5` for threads.

use std::fmt;
use std::str::FromStr;

use memalloc::ClassTable;
use serde::{Deserialize, Serialize};

/// The smallest size: an object begins with a stamp of 8 bytes.
const LEAST_SIZE: usize = 8;
const MOST_SIZE: usize = 4096;

/// The most different sizes.
const MOST_SIZES: usize = 64;

/// The most threads.
const MOST_THREADS: usize = 1000;

/// Sizes of objects and their weights: `64:3,256` means three objects of 64 bytes for each one of
/// 256.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct SizeWeights(Vec<(usize, f64)>);

impl SizeWeights {
    /// Returns the sizes with their weights, which are above zero.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, f64)> {
        self.0.iter().copied()
    }

    /// Returns the sizes of `objects` objects, in the proportions of the weights, well mixed.
    pub(crate) fn deal(&self, objects: usize) -> impl Iterator<Item = usize> {
        let whole: f64 = self.iter().map(|(_, weight)| weight).sum();
        let mut owed = vec![0.0; self.0.len()];
        (0..objects).map(move |_| {
            for (owed, (_, weight)) in owed.iter_mut().zip(&self.0) {
                *owed += weight / whole;
            }
            let most = (0..owed.len()).max_by(|&one, &two| owed[one].total_cmp(&owed[two]));
            let most = most.unwrap_or(0);
            owed[most] -= 1.0;
            self.0[most].0
        })
    }

    /// Returns the mean size of the classes of the objects.
    pub(crate) fn mean_class(&self) -> f64 {
        let classes = ClassTable::default();
        let class = |size: usize| {
            let sizes = classes.classes().iter().map(|class| class.size);
            sizes.filter(|&class| class >= size).min().unwrap_or(size) as f64
        };
        let whole: f64 = self.iter().map(|(_, weight)| weight).sum();
        self.iter().map(|(size, weight)| class(size) * weight).sum::<f64>() / whole
    }
}

impl FromStr for SizeWeights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = || {
            format!(
                "expected sizes from {LEAST_SIZE} to {MOST_SIZE} bytes with weights above 0, at \
                 most {MOST_SIZES} of them, as in 64:3,256"
            )
        };
        let one = |part: &str| {
            let (size, weight) = part.split_once(':').unwrap_or((part, "1"));
            let size = size.trim().parse().ok();
            let size = size.filter(|size| (LEAST_SIZE..=MOST_SIZE).contains(size))?;
            let weight: f64 = weight.trim().parse().ok()?;
            (weight > 0.0 && weight <= 1e12).then_some((size, weight))
        };
        let sizes: Option<Vec<_>> = text.split(',').map(one).collect();
        let sizes = sizes.filter(|sizes| sizes.len() <= MOST_SIZES);
        sizes.map(Self).ok_or_else(allowed)
    }
}

impl fmt::Display for SizeWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.0.iter().map(|&(size, weight)| (size, weight, weight == 1.0)))
    }
}

/// Threads in groups, with the share of updates in their operations: `6:0,2:0.5` means six threads
/// that only look up, and two that update in half of their operations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ThreadGroups(Vec<(usize, f64)>);

impl ThreadGroups {
    /// Returns the share of updates of each thread.
    pub(crate) fn shares(&self) -> Vec<f64> {
        self.0.iter().flat_map(|&(count, share)| std::iter::repeat_n(share, count)).collect()
    }

    /// Returns the number of threads.
    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|(count, _)| count).sum()
    }

    /// Returns the same threads with their shares changed by `change` and clamped to 0 to 1.
    pub(crate) fn with_shares(&self, change: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().map(|&(count, share)| (count, change(share).clamp(0.0, 1.0))).collect())
    }
}

impl FromStr for ThreadGroups {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |part: &str| {
            let (count, share) = part.split_once(':').unwrap_or((part, "0.5"));
            let count: usize = count.trim().parse().ok()?;
            let share: f64 = share.trim().parse().ok()?;
            (count > 0 && (0.0..=1.0).contains(&share)).then_some((count, share))
        };
        let groups: Option<Vec<_>> = text.split(',').map(one).collect();
        let fits = |groups: &Vec<(usize, f64)>| {
            let count = groups.iter().fold(0_usize, |sum, (count, _)| sum.saturating_add(*count));
            count <= MOST_THREADS && groups.iter().any(|&(_, share)| share > 0.0)
        };
        groups.filter(fits).map(Self).ok_or_else(|| {
            format!(
                "expected 1 to {MOST_THREADS} threads with shares of updates from 0 to 1, not all \
                 of them 0, as in 6:0,2:0.5"
            )
        })
    }
}

impl fmt::Display for ThreadGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.0.iter().map(|&(count, share)| (count, share, false)))
    }
}

/// Formats pairs as in `64:3,256`; the second number is omitted if `is_usual`.
fn list(
    f: &mut fmt::Formatter<'_>,
    parts: impl Iterator<Item = (usize, f64, bool)>,
) -> fmt::Result {
    for (place, (first, second, is_usual)) in parts.enumerate() {
        let comma = if place > 0 { "," } else { "" };
        match is_usual {
            true => write!(f, "{comma}{first}")?,
            false => write!(f, "{comma}{first}:{second}")?,
        }
    }
    Ok(())
}

macro_rules! as_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse().map_err(|error| format!("\"{text}\": {error}"))
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}

as_text!(SizeWeights);
as_text!(ThreadGroups);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_are_written() {
        for text in ["64", "64:3,256", "8:0.5,4096:2"] {
            assert_eq!(text.parse::<SizeWeights>().unwrap().to_string(), text);
        }
        for text in ["1:1", "6:0,2:0.5"] {
            assert_eq!(text.parse::<ThreadGroups>().unwrap().to_string(), text);
        }
        assert_eq!("6:0,2:0.5".parse::<ThreadGroups>().unwrap().count(), 8);
        assert_eq!("2:0.25".parse::<ThreadGroups>().unwrap().shares(), [0.25, 0.25]);
    }

    #[test]
    fn the_error_for_an_invalid_list_shows_a_valid_one() {
        for text in ["", "7", "4097", "64:0", "64:-1", "64:x", "64,,64", "64:nan", "64:inf"] {
            assert!(text.parse::<SizeWeights>().unwrap_err().contains("64:3,256"), "{text}");
        }
        for text in ["", "0", "1001", "2:1.5", "2:-1", "2:0", "x", "2:nan"] {
            assert!(text.parse::<ThreadGroups>().unwrap_err().contains("6:0,2:0.5"), "{text}");
        }
    }

    #[test]
    fn objects_are_dealt_in_the_proportions_of_the_weights() {
        let sizes: SizeWeights = "64:3,256".parse().unwrap();
        let dealt: Vec<usize> = sizes.deal(400).collect();
        assert_eq!(dealt.iter().filter(|&&size| size == 64).count(), 300);
        assert!(dealt.chunks(4).all(|four| four.contains(&256)), "well mixed");
        assert_eq!(sizes.mean_class(), 112.0);
        assert_eq!(
            "65".parse::<SizeWeights>().unwrap().mean_class(),
            96.0,
            "the size of its class"
        );
    }
}
