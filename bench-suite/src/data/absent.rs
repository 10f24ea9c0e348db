//! Keys that are not in a set. Lookups that end at the first byte would be trivial, so each key
//! differs from an existing one in a single byte, at a random place.

use super::{Keys, Stream};

/// Returns, for each key of a stream, a key that is not in `keys`: a copy with one byte changed, to
/// another byte of that key or of its neighbours in the stream, so that the bytes are realistic.
pub(super) fn like(keys: &Keys, stream: &Stream, seed: u64) -> Stream {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x4D15);
    let mut absent = Stream::with_room_of(stream);
    let mut other: &[u8] = stream.get(stream.len() - 1).1;
    for (number, key) in stream.iter() {
        let mut changed = key.to_vec();
        for attempt in 0.. {
            let place = rng.usize(..key.len());
            // If the keys leave no room in their own alphabet, any byte is used.
            let byte = match attempt {
                0..8 => other[rng.usize(..other.len())],
                _ => rng.u8(..),
            };
            let before = std::mem::replace(&mut changed[place], byte);
            if !keys.has(&changed) {
                break;
            }
            changed[place] = before;
            if attempt == 64 {
                // Every byte is taken at every place: no free key is that short.
                changed.push(0);
            }
        }
        absent.push(number, &changed);
        other = key;
    }
    absent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differing(one: &[u8], other: &[u8]) -> usize {
        one.iter().zip(other).filter(|(one, other)| one != other).count()
    }

    #[test]
    fn each_key_differs_from_an_existing_key_in_one_byte_and_none_exists() {
        let words = (0..500).map(|number| format!("key/{number}"));
        let keys = Keys::ascending(words);
        let stream = keys.shuffled(&mut fastrand::Rng::with_seed(1));
        let absent = like(&keys, &stream, 1);
        assert_eq!(absent.len(), keys.len());
        for (number, key) in absent.iter() {
            assert!(!keys.has(key));
            assert_eq!(differing(key, keys.get(number as usize)), 1);
        }
    }

    #[test]
    fn keys_that_leave_no_room_are_lengthened() {
        let keys = Keys::ascending((0..=255).map(|byte| [byte]));
        let stream = keys.shuffled(&mut fastrand::Rng::with_seed(1));
        assert!(like(&keys, &stream, 1).iter().all(|(_, key)| !keys.has(key)));
    }
}
