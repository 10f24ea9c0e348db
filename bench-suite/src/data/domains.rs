//! Domain names: a million short keys, with the frequent endings at the end, where an order by
//! bytes does not group them.
//!
//! They are generated, so nothing needs to be downloaded. Their shape is that of lists of popular
//! sites: some 14 bytes per name, half of them below `com`, a few with an additional label.

use std::collections::HashSet;

use super::Keys;
use super::words::Words;

/// The number of names.
const COUNT: usize = 1_000_000;

/// Endings, and how many of a thousand names have them.
const ENDINGS: [(&str, usize); 32] = [
    ("com", 480),
    ("org", 65),
    ("net", 50),
    ("ru", 45),
    ("de", 40),
    ("co.uk", 28),
    ("jp", 24),
    ("fr", 20),
    ("it", 20),
    ("com.br", 20),
    ("in", 18),
    ("nl", 16),
    ("pl", 16),
    ("ir", 14),
    ("info", 12),
    ("cn", 12),
    ("io", 12),
    ("es", 11),
    ("com.au", 11),
    ("co", 10),
    ("cz", 9),
    ("ca", 9),
    ("edu", 8),
    ("ua", 8),
    ("eu", 8),
    ("co.jp", 7),
    ("ch", 6),
    ("se", 6),
    ("xyz", 5),
    ("online", 4),
    ("gov", 3),
    ("app", 3),
];

/// Labels in front of a name.
const SUBDOMAINS: [&str; 8] = ["blog", "shop", "m", "en", "news", "api", "mail", "forum"];

/// Generates distinct names.
pub(super) fn generate(rng: &mut fastrand::Rng) -> Keys {
    let words = Words::new(20_000, rng);
    let endings: Vec<&str> =
        ENDINGS.iter().flat_map(|&(ending, weight)| std::iter::repeat_n(ending, weight)).collect();
    let mut names = HashSet::with_capacity(COUNT);
    while names.len() < COUNT {
        let mut name = String::with_capacity(24);
        if rng.usize(..100) < 4 {
            name.push_str(SUBDOMAINS[rng.usize(..SUBDOMAINS.len())]);
            name.push('.');
        }
        name.push_str(words.draw(rng));
        match rng.usize(..100) {
            0..30 => {}
            30..75 => name.push_str(words.draw(rng)),
            75..88 => {
                name.push('-');
                name.push_str(words.draw(rng));
            }
            88..94 => name.push_str(&rng.u16(1..=2030).to_string()),
            _ => {
                name.push_str(words.draw(rng));
                name.push_str(words.draw(rng));
            }
        }
        name.push('.');
        name.push_str(endings[rng.usize(..endings.len())]);
        names.insert(name);
    }
    Keys::ascending(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_shape_of_the_popular_ones() {
        let keys = generate(&mut fastrand::Rng::with_seed(1));
        assert_eq!(keys.len(), COUNT);
        let each = |total: usize| total as f64 / COUNT as f64;
        let bytes = each(keys.total_bytes());
        assert!((12.5..16.5).contains(&bytes), "{bytes} bytes");
        let com = each(keys.iter().filter(|name| name.ends_with(b".com")).count());
        assert!((0.4..0.6).contains(&com), "{com} of them below com");
        let labels = each(keys.iter().flatten().filter(|&&byte| byte == b'.').count());
        assert!((1.0..1.3).contains(&labels), "{labels} dots");
    }
}
