//! Data sets: the keys of the ordered maps.
//!
//! Knows the sources of keys and the orders of their use; not what they are used for. A data set is
//! loaded before anything runs, so an unusable file costs no time.
//!
//! - the keys of a set are distinct and ascend by their bytes; the place of a key in that
//!   order is its number.
//! - a set has at least [`MIN_KEYS`] keys, each of 1 to [`MAX_KEY_LEN`] bytes.
//! - the same name, seed and source give the same keys in the same orders.

mod absent;
mod domains;
mod keys;
mod lines;
mod paths;
mod random;
mod symbols;
mod words;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::OnceLock;

pub(crate) use keys::{Keys, Stream};

/// The fewest keys of a data set.
pub(crate) const MIN_KEYS: usize = 64;

/// The longest key, in bytes: a map stores a key, its value and their header in one object of at
/// most 4096 bytes.
pub(crate) const MAX_KEY_LEN: usize = 4000;

/// A data set, as named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DataName {
    /// The names of the running kernel's symbols, or the list bundled with the suite.
    Symbols,
    /// Keys of random length and random bytes.
    Random,
    /// Generated file paths.
    Paths,
    /// Generated domain names.
    Domains,
    /// The lines of a file.
    File(PathBuf),
}

impl fmt::Display for DataName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbols => f.write_str("symbols"),
            Self::Random => f.write_str("random"),
            Self::Paths => f.write_str("paths"),
            Self::Domains => f.write_str("domains"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl FromStr for DataName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            None if name == "symbols" => Ok(Self::Symbols),
            None if name == "random" => Ok(Self::Random),
            None if name == "paths" => Ok(Self::Paths),
            None if name == "domains" => Ok(Self::Domains),
            _ => Err(format!(
                "unknown data set \"{name}\": expected symbols, random, paths, domains, file:PATH"
            )),
        }
    }
}

/// Keys, with the two orders in which the workloads use them.
#[derive(Debug)]
pub(crate) struct DataSet {
    /// The name on the command line.
    pub(crate) name: DataName,
    /// The source of the keys, as text.
    pub(crate) source: String,
    /// The keys, ascending.
    pub(crate) keys: Keys,
    /// A random order for filling a map. It differs from the order of the queries: otherwise the
    /// leaf of each query would be next to that of the previous one, and already in the cache.
    pub(crate) arrivals: Stream,
    /// Another random order, for queries and updates.
    pub(crate) queries: Stream,
    /// The seed of the random changes that turn keys of the set into absent keys.
    seed: u64,
    absent: OnceLock<Stream>,
    packed: OnceLock<Vec<u8>>,
}

impl DataSet {
    /// Loads the keys and shuffles them with `seed`.
    ///
    /// # Errors
    ///
    /// One line that says what is wrong with a file, and what is expected.
    pub(crate) fn load(name: &DataName, seed: u64) -> Result<Self, String> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (keys, source) = match name {
            DataName::Symbols => symbols::load(),
            DataName::Random => (random::generate(&mut rng), format!("seed {seed}")),
            DataName::Paths => (paths::generate(&mut rng), format!("made up, seed {seed}")),
            DataName::Domains => (domains::generate(&mut rng), format!("made up, seed {seed}")),
            DataName::File(path) => (lines::read(path)?, "one per line".into()),
        };
        Ok(Self::of(name, source, keys, seed))
    }

    fn of(name: &DataName, source: String, keys: Keys, seed: u64) -> Self {
        // A new generator, so that the orders do not depend on how the keys were made.
        let mut rng = fastrand::Rng::with_seed(!seed);
        let arrivals = keys.shuffled(&mut rng);
        let queries = keys.shuffled(&mut rng);
        let (name, absent, packed) = (name.clone(), OnceLock::new(), OnceLock::new());
        Self { name, source, keys, arrivals, queries, seed, absent, packed }
    }

    /// Serializes the keys, for [`DataSet::received`] in another process: faster than loading them
    /// again.
    pub(crate) fn packed(&self) -> &[u8] {
        self.packed.get_or_init(|| self.keys.pack())
    }

    /// Restores the set that another process has loaded by this name and seed, and packed.
    ///
    /// # Errors
    ///
    /// One line, if `packed` is not a set of keys.
    pub(crate) fn received(name: &DataName, seed: u64, packed: &[u8]) -> Result<Self, String> {
        let keys = Keys::unpack(packed).filter(|keys| keys.len() >= MIN_KEYS);
        let keys = keys.ok_or_else(|| format!("no keys of {name} on standard input"))?;
        Ok(Self::of(name, "received".into(), keys, seed))
    }

    /// Returns as many keys as are in the set that are not in it, in a random order; generated on
    /// first use. Each has the number of a key from which it differs in one byte.
    pub(crate) fn absent(&self) -> &Stream {
        self.absent.get_or_init(|| absent::like(&self.keys, &self.queries, self.seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_parsed_as_it_is_displayed() {
        for name in ["symbols", "random", "paths", "domains", "file:/some/where:else"] {
            assert_eq!(name.parse::<DataName>().unwrap().to_string(), name);
        }
        for name in ["", "symbol", "file:", "file", "random:1"] {
            let error = name.parse::<DataName>().unwrap_err();
            assert!(error.contains("symbols, random, paths, domains, file:PATH"), "{error}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_set_and_another_seed_another() {
        for name in [DataName::Random, DataName::Paths] {
            let load = |seed| DataSet::load(&name, seed).unwrap();
            let (one, again, other) = (load(1), load(1), load(2));
            assert!(one.keys.iter().eq(again.keys.iter()));
            assert!(one.queries.iter().eq(again.queries.iter()));
            assert!(one.absent().iter().eq(again.absent().iter()));
            assert!(!one.keys.iter().eq(other.keys.iter()));
            assert!(!one.queries.iter().eq(one.arrivals.iter()));
        }
    }

    #[test]
    fn a_received_set_equals_the_loaded_one() {
        let set = DataSet::load(&DataName::Random, 3).unwrap();
        let again = DataSet::received(&set.name, 3, set.packed()).unwrap();
        assert!(again.keys.iter().eq(set.keys.iter()));
        assert!(again.arrivals.iter().eq(set.arrivals.iter()));
        assert!(again.absent().iter().eq(set.absent().iter()));
        assert!(DataSet::received(&set.name, 3, b"").is_err());
    }

    #[test]
    fn every_stream_has_every_key_once_with_its_number() {
        let set = DataSet::load(&DataName::Random, 1).unwrap();
        for stream in [&set.arrivals, &set.queries] {
            let mut seen = vec![false; set.keys.len()];
            for (number, key) in stream.iter() {
                assert_eq!(key, set.keys.get(number as usize));
                assert!(!std::mem::replace(&mut seen[number as usize], true));
            }
            assert!(seen.into_iter().all(|seen| seen));
        }
    }
}
