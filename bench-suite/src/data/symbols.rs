//! Names of symbols: short strings from real programs, many with long common prefixes.

use std::fs;
use std::io::Read;

use flate2::read::DeflateDecoder;

use super::Keys;

/// The list of the running kernel's symbols.
const KALLSYMS: &str = "/proc/kallsyms";

/// With fewer names the kernel's list is not used: results of different machines would not be
/// comparable.
const ENOUGH: usize = 100_000;

/// Names in ascending order, see `data/README.md`.
static BUNDLED: &[u8] = include_bytes!("../../data/names.z");

/// Returns the kernel's names if they can be read, else the bundled ones; and the source.
pub(super) fn load() -> (Keys, String) {
    if let Ok(listing) = fs::read(KALLSYMS) {
        let keys = Keys::ascending(names_of(&listing));
        if keys.len() >= ENOUGH {
            return (keys, KALLSYMS.into());
        }
    }
    (bundled(), "the bundled list".into())
}

/// Returns the names in a kernel's listing: the third word of each line.
fn names_of(listing: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = listing.split(|&byte| byte == b'\n');
    lines.filter_map(|line| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.nth(2)
    })
}

fn bundled() -> Keys {
    let mut records = Vec::new();
    let inflated = DeflateDecoder::new(BUNDLED).read_to_end(&mut records);
    inflated.expect("the bundled list is a deflate stream");
    Keys::ascending(unfold(&records))
}

/// Undoes the front coding: each record has the number of bytes that its name shares with the
/// previous name, the number of bytes that follow, and those bytes.
fn unfold(mut records: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    while let [shared, suffix_len, rest @ ..] = records {
        let (suffix, rest) = rest.split_at(usize::from(*suffix_len));
        let beginning = names.last().map_or(&[][..], |name| &name[..usize::from(*shared)]);
        names.push([beginning, suffix].concat());
        records = rest;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_list_has_at_least_100000_ascending_distinct_names() {
        let mut records = Vec::new();
        DeflateDecoder::new(BUNDLED).read_to_end(&mut records).unwrap();
        let names = unfold(&records);
        assert!(names.len() >= 100_000, "{} names", names.len());
        assert!(names.iter().all(|name| (1..=255).contains(&name.len())));
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(bundled().len(), names.len());
    }

    #[test]
    fn names_are_the_third_words_of_a_listing() {
        let listing = b"0000000000000000 T _stext\nffffffffc0000000 t helper\t[module]\n\nbroken\n";
        assert_eq!(names_of(listing).collect::<Vec<_>>(), [&b"_stext"[..], b"helper"]);
    }
}
