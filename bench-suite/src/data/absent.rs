//! Keys that are not there. A lookup that ends at the first byte shows nothing: each key differs
//! from one that is there in a single byte, at any place of it.

use super::{Keys, Stream};

/// For each key of a stream one that is not among the `keys`: the same with one byte more or less
/// changed, to another byte of that key or of its neighbours in the stream, so that the
/// bytes are such as occur.
pub(super) fn like(keys: &Keys, stream: &Stream, seed: u64) -> Stream {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x4D15);
    let mut absent = Stream::with_room_of(stream);
    let mut other: &[u8] = stream.get(stream.len() - 1).1;
    for (number, key) in stream.iter() {
        let mut changed = key.to_vec();
        for attempt in 0.. {
            let place = rng.usize(..key.len());
            // Where the keys leave no room in their own alphabet, any byte will do.
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
                // Every byte is taken at every place: nothing that short is free.
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
    fn each_differs_from_a_key_in_one_byte_and_none_is_there() {
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
    fn keys_that_leave_no_room_are_made_longer() {
        let keys = Keys::ascending((0..=255).map(|byte| [byte]));
        let stream = keys.shuffled(&mut fastrand::Rng::with_seed(1));
        assert!(like(&keys, &stream, 1).iter().all(|(_, key)| !keys.has(key)));
    }
}
