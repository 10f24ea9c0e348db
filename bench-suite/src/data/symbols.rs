//! Names of symbols: real strings, short, many of them with long common beginnings.

use std::fs;
use std::io::Read;

use flate2::read::DeflateDecoder;

use super::Keys;

/// Where the running kernel lists its symbols.
const KALLSYMS: &str = "/proc/kallsyms";

/// With fewer names the kernel's list is not taken: results of different machines would mean
/// different things.
const ENOUGH: usize = 100_000;

/// Names in ascending order, see `data/README.md`.
static BUNDLED: &[u8] = include_bytes!("../../data/names.z");

/// The kernel's names where they can be read, the bundled ones elsewhere; and which of the two.
pub(super) fn load() -> (Keys, String) {
    if let Ok(listing) = fs::read(KALLSYMS) {
        let keys = Keys::ascending(names_of(&listing));
        if keys.len() >= ENOUGH {
            return (keys, KALLSYMS.into());
        }
    }
    (bundled(), "the bundled list".into())
}

/// The names in a kernel's listing: the third word of each line.
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
/// name before it, the number of bytes that follow, and these.
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
    fn a_listing_gives_its_third_words() {
        let listing = b"0000000000000000 T _stext\nffffffffc0000000 t helper\t[module]\n\nbroken\n";
        assert_eq!(names_of(listing).collect::<Vec<_>>(), [&b"_stext"[..], b"helper"]);
    }
}
