//! Words for generated keys: pronounceable, of different lengths, some far more frequent than
//! others.

/// The beginnings of syllables.
const ONSETS: [&str; 24] = [
    "s", "m", "t", "c", "r", "b", "p", "l", "d", "n", "f", "g", "h", "st", "tr", "w", "k", "v",
    "j", "ch", "pl", "br", "sh", "z",
];

/// The vowels of syllables.
const NUCLEI: [&str; 10] = ["e", "a", "o", "i", "u", "ea", "oo", "ai", "y", "io"];

/// The ends of syllables, most of them empty.
const CODAS: [&str; 12] = ["", "", "", "", "n", "r", "s", "t", "l", "x", "ck", "nd"];

/// A vocabulary, the most frequent words first.
#[derive(Debug)]
pub(super) struct Words {
    words: Vec<String>,
}

impl Words {
    /// Generates `count` words, not all of them different.
    pub(super) fn new(count: usize, rng: &mut fastrand::Rng) -> Self {
        Self { words: (0..count).map(|_| word(rng)).collect() }
    }

    /// Returns a random word. The first ones are the most frequent: half of all draws fall on the
    /// first eighth of the vocabulary.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> &str {
        &self.words[skewed(self.words.len(), rng)]
    }
}

/// Returns a random place below `len`, low ones more often: half of all are below an eighth of it.
pub(super) fn skewed(len: usize, rng: &mut fastrand::Rng) -> usize {
    let part = rng.f64();
    (part * part * part * len as f64) as usize
}

/// Generates a word of one, two or three syllables.
fn word(rng: &mut fastrand::Rng) -> String {
    let syllables = [1, 2, 2, 2, 3][rng.usize(..5)];
    let mut word = String::new();
    for _ in 0..syllables {
        word.push_str(ONSETS[skewed(ONSETS.len(), rng)]);
        word.push_str(NUCLEI[skewed(NUCLEI.len(), rng)]);
        word.push_str(CODAS[rng.usize(..CODAS.len())]);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_draws_fall_on_the_first_eighth() {
        let mut rng = fastrand::Rng::with_seed(1);
        let low = (0..10_000).filter(|_| skewed(800, &mut rng) < 100).count();
        assert!((4_500..5_500).contains(&low), "{low}");
        assert!((0..10_000).all(|_| skewed(3, &mut rng) < 3));
    }
}
