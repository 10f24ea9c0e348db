//! File paths: long keys that all begin with the same byte, and have most bytes in common with the
//! previous one.
//!
//! They are generated, so that results of different machines are comparable. Their shape is that of
//! `/usr` of an ordinary Linux system: some 70 bytes and seven names per path, 57 bytes in common
//! with the previous path; a few directories with thousands of files, and thousands with a few.

use std::collections::HashSet;

use super::Keys;
use super::words::{Words, skewed};

/// The number of paths.
const COUNT: usize = 80_000;

/// The longest path, in bytes: some ordered maps do not support longer keys.
const LONGEST: usize = 255;

/// The top directories.
const ROOTS: [&str; 12] = [
    "/usr/share/doc",
    "/usr/lib/python3/dist-packages",
    "/usr/share",
    "/usr/include",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/share/locale",
    "/usr/lib",
    "/home/user/projects",
    "/usr/src",
    "/var/lib",
    "/usr/bin",
    "/etc",
];

/// The extensions of files, the most frequent first.
const EXTENSIONS: [&str; 20] = [
    ".py", ".gz", "", ".h", ".pyc", ".png", ".html", ".yaml", ".mo", ".json", ".js", ".so", ".xml",
    ".txt", ".rs", ".conf", ".md", ".svg", ".0", ".service",
];

/// A directory, and the usual stem and extension of its files.
struct Directory {
    path: String,
    stem: String,
    extension: &'static str,
    depth: u8,
}

/// Generates distinct paths.
pub(super) fn generate(rng: &mut fastrand::Rng) -> Keys {
    let words = Words::new(3000, rng);
    let mut directories: Vec<Directory> =
        ROOTS.iter().map(|root| Directory::new((*root).into(), 0, &words, rng)).collect();
    // The directory of each file so far: a directory with many files gets more of them.
    let mut homes: Vec<u32> = (0..directories.len() as u32).collect();
    let mut paths = HashSet::new();
    while paths.len() < COUNT {
        let home = homes[rng.usize(..homes.len())] as usize;
        // Every sixth name is that of a directory: in the same directory or, more often, next to a
        // recently created one, as packages come with whole trees.
        if rng.usize(..100) < 17 {
            let above = match rng.usize(..10) {
                0..6 => directories.len() - 1 - skewed(directories.len().min(40), rng),
                _ => home,
            };
            let Directory { path, depth, .. } = &directories[above];
            if *depth < 9 && path.len() < LONGEST - 80 {
                let path = format!("{path}/{}", name(&words, &[0, 0, 0, 0, 1], rng));
                let directory = Directory::new(path, depth + 1, &words, rng);
                // It begins with some files, so that it does not stay empty.
                homes.extend([directories.len() as u32; 3]);
                directories.push(directory);
            }
            continue;
        }
        let path = directories[home].file(&words, rng);
        if path.len() <= LONGEST && paths.insert(path) {
            homes.push(home as u32);
        }
    }
    Keys::ascending(paths)
}

impl Directory {
    fn new(path: String, depth: u8, words: &Words, rng: &mut fastrand::Rng) -> Self {
        let stem = name(words, &[0, 1], rng);
        let extension = EXTENSIONS[skewed(EXTENSIONS.len(), rng)];
        Self { path, stem, extension, depth }
    }

    fn file(&self, words: &Words, rng: &mut fastrand::Rng) -> String {
        let Self { path, stem, extension, .. } = self;
        match rng.usize(..10) {
            // A family of files: the same stem, with a number or a word that distinguishes them.
            0 | 1 => format!("{path}/{stem}_{:03}{extension}", rng.usize(..1000)),
            2..5 => format!("{path}/{stem}-{}{extension}", words.draw(rng)),
            5..9 => format!("{path}/{}{extension}", name(words, &[0, 1, 2], rng)),
            _ => {
                let other = EXTENSIONS[skewed(EXTENSIONS.len(), rng)];
                format!("{path}/{}{other}", name(words, &[0, 1, 2], rng))
            }
        }
    }
}

/// Returns a word, followed by as many words as a random element of `more` says.
fn name(words: &Words, more: &[usize], rng: &mut fastrand::Rng) -> String {
    let mut name = words.draw(rng).to_owned();
    for _ in 0..more[rng.usize(..more.len())] {
        name.push(['-', '_', '.', '_'][rng.usize(..4)]);
        name.push_str(words.draw(rng));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_the_shape_of_a_real_system() {
        let keys = generate(&mut fastrand::Rng::with_seed(1));
        assert_eq!(keys.len(), COUNT);
        assert!(keys.iter().all(|path| path[0] == b'/' && path.len() <= LONGEST));
        let each = |total: usize| total as f64 / COUNT as f64;
        let bytes = each(keys.total_bytes());
        assert!((60.0..80.0).contains(&bytes), "{bytes} bytes");
        let names = each(keys.iter().flatten().filter(|&&byte| byte == b'/').count());
        assert!((6.0..9.0).contains(&names), "{names} names");
        let shared = |(one, next): (&[u8], &[u8])| {
            one.iter().zip(next).take_while(|(one, next)| one == next).count()
        };
        let shared = each(keys.iter().zip(keys.iter().skip(1)).map(shared).sum());
        assert!((48.0..66.0).contains(&shared), "{shared} bytes in common");
    }
}
