//! Words for keys that are made up: pronounceable, of uneven length, some of them far more
//! frequent than others.

/// How a syllable begins.
const ONSETS: [&str; 24] = [
    "s", "m", "t", "c", "r", "b", "p", "l", "d", "n", "f", "g", "h", "st", "tr", "w", "k", "v",
    "j", "ch", "pl", "br", "sh", "z",
];

/// What a syllable sounds like.
const NUCLEI: [&str; 10] = ["e", "a", "o", "i", "u", "ea", "oo", "ai", "y", "io"];

/// How a syllable ends; most end openly.
const CODAS: [&str; 12] = ["", "", "", "", "n", "r", "s", "t", "l", "x", "ck", "nd"];

/// A vocabulary, the most frequent words first.
#[derive(Debug)]
pub(super) struct Words {
    words: Vec<String>,
}

impl Words {
    /// So many words, not all of them different.
    pub(super) fn new(count: usize, rng: &mut fastrand::Rng) -> Self {
        Self { words: (0..count).map(|_| word(rng)).collect() }
    }

    /// One of the words. The first of them come most often: half of all draws fall on the first
    /// eighth of the vocabulary.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> &str {
        &self.words[skewed(self.words.len(), rng)]
    }
}

/// A place below `len`, the low ones more often: half of all fall below an eighth of it.
pub(super) fn skewed(len: usize, rng: &mut fastrand::Rng) -> usize {
    let part = rng.f64();
    (part * part * part * len as f64) as usize
}

/// One, two or three syllables.
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
