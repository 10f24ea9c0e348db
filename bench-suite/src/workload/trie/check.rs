//! Compares a map's answers with the expected ones.

use super::Value;
use super::map::{Before, OrderedMap, View};
use crate::data::{DataSet, Stream};
use crate::measure::WrongAnswer;

/// The faults that one thread found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Existing keys that were not found.
    missed: u64,
    first: Option<WrongAnswer>,
}

impl Findings {
    /// Checks the result of `doing` something with `key`.
    #[inline]
    pub(super) fn check(
        &mut self,
        doing: &str,
        key: &[u8],
        found: Option<u64>,
        right: Option<u64>,
    ) {
        if found != right {
            self.note(doing, key, found, right);
        }
    }

    #[cold]
    fn note(&mut self, doing: &str, key: &[u8], found: Option<u64>, right: Option<u64>) {
        self.missed += u64::from(found.is_none());
        self.first.get_or_insert_with(|| wrong(doing, key, found, right));
    }

    /// Checks the previous value that a write to `key` returned, if it returns one; a failed write
    /// is a fault, too.
    #[inline]
    pub(super) fn check_before(
        &mut self,
        doing: &str,
        key: &[u8],
        before: Result<Before, WrongAnswer>,
        right: Option<u64>,
    ) {
        match before {
            Ok(Before::Was(found)) => self.check(doing, key, found, right),
            Ok(Before::Untold) => {}
            Err(error) => {
                self.first.get_or_insert(error);
            }
        }
    }

    /// Records a fault that was found by other means.
    pub(super) fn keep(&mut self, wrong: WrongAnswer) {
        self.first.get_or_insert(wrong);
    }
}

/// Returns the number of missed keys, which is zero; any fault is an error.
pub(super) fn missed<'a>(
    findings: impl IntoIterator<Item = &'a Findings>,
) -> Result<f64, WrongAnswer> {
    let mut missed = 0;
    for one in findings {
        if let Some(WrongAnswer(first)) = &one.first {
            let more = one.missed;
            return Err(WrongAnswer(format!("{first} ({more} keys were missed by this thread)")));
        }
        missed += one.missed;
    }
    Ok(missed as f64)
}

/// Checks one answer.
pub(super) fn same(
    doing: &str,
    key: &[u8],
    found: Option<u64>,
    right: Option<u64>,
) -> Result<(), WrongAnswer> {
    if found == right { Ok(()) } else { Err(wrong(doing, key, found, right)) }
}

/// Checks the number of entries.
pub(super) fn len<V: Value>(map: &impl OrderedMap<V>, right: usize) -> Result<(), WrongAnswer> {
    match map.len() {
        len if len == right as u64 => Ok(()),
        len => Err(WrongAnswer(format!("the map reports {len} entries instead of {right}"))),
    }
}

/// Checks that a scan returns every key of the data set in order, and nothing else, each with the
/// value that `right` returns for its number. For a map without an order, checks that every key is
/// found; its length shows that there are no others.
pub(super) fn contents<V: Value, M: OrderedMap<V>>(
    map: &M,
    data: &DataSet,
    right: impl Fn(u32) -> u64,
) -> Result<(), WrongAnswer> {
    if !M::ORDERED {
        return lookups(map, &data.arrivals, |_, number| right(number));
    }
    let mut expected = (0..).zip(data.keys.iter());
    let mut verdict = Ok(());
    map.pin().scan(|key, value| {
        let (found, right) = match expected.next() {
            Some((number, next)) if next == key => (Some(value), Some(right(number))),
            _ => (Some(value), None),
        };
        if verdict.is_ok() {
            verdict = same("scanning", key, found, right);
        }
    });
    verdict?;
    match expected.next() {
        Some((_, key)) => Err(wrong("scanning", key, None, Some(0))),
        None => Ok(()),
    }
}

/// Checks that every key of a stream is found, with the value that `right` returns for its place in
/// the stream and its number.
pub(super) fn lookups<V: Value>(
    map: &impl OrderedMap<V>,
    stream: &Stream,
    right: impl Fn(usize, u32) -> u64,
) -> Result<(), WrongAnswer> {
    let view = map.pin();
    for (place, (number, key)) in stream.iter().enumerate() {
        same("looking up", key, view.get(key), Some(right(place, number)))?;
    }
    Ok(())
}

fn wrong(doing: &str, key: &[u8], found: Option<u64>, right: Option<u64>) -> WrongAnswer {
    let words = |value: Option<u64>| match value {
        Some(value) => format!("the value {value:#x}"),
        None => "nothing".into(),
    };
    let key = key.escape_ascii();
    let (found, right) = (words(found), words(right));
    WrongAnswer(format!("wrong answer: {doing} \"{key}\" found {found}, expected {right}"))
}
