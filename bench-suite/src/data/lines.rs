//! Keys from a file, one per line.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use super::{Keys, MAX_KEY_LEN, MIN_KEYS};

/// Reads the distinct lines of a file. Empty lines are skipped; a key may have any bytes except the
/// line feed.
pub(super) fn read(path: &Path) -> Result<Keys, String> {
    let shown = path.display();
    let complain = |error: String| format!("data file {shown}: {error}");
    let kind = fs::metadata(path).map_err(|error| complain(error.to_string()))?;
    if !kind.is_file() {
        // A pipe may never end, or block forever.
        return Err(complain("expected a regular file".into()));
    }
    // One byte above the limit is enough to detect a larger file.
    let mut text = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(Keys::MAX_BYTES as u64 + 1).read_to_end(&mut text));
    read.map_err(|error| complain(error.to_string()))?;
    keys_of(&text).map_err(complain)
}

fn keys_of(text: &[u8]) -> Result<Keys, String> {
    if text.len() > Keys::MAX_BYTES {
        return Err(format!("larger than the limit of {} bytes", Keys::MAX_BYTES));
    }
    let mut keys = HashSet::new();
    for (place, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_KEY_LEN {
            let (number, len) = (place + 1, line.len());
            return Err(format!(
                "line {number} has {len} bytes: expected keys of 1 to {MAX_KEY_LEN} bytes"
            ));
        }
        if !line.is_empty() {
            keys.insert(line);
        }
    }
    if keys.len() < MIN_KEYS {
        let found = keys.len();
        return Err(format!(
            "{found} distinct lines: expected at least {MIN_KEYS}, one key per line"
        ));
    }
    Ok(Keys::ascending(keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(count: usize) -> Vec<u8> {
        (0..count).flat_map(|n| format!("key {n}\n").into_bytes()).collect()
    }

    #[test]
    fn each_distinct_line_is_a_key_without_its_line_end() {
        let mut text = numbered(MIN_KEYS);
        text.extend_from_slice(b"key 1\r\n\nkey 1\nlast without an end");
        let keys = keys_of(&text).unwrap();
        assert_eq!(keys.len(), MIN_KEYS + 1);
        assert!(keys.iter().any(|key| key == b"last without an end"));
        assert!(keys.iter().all(|key| !key.is_empty() && !key.contains(&b'\r')));
    }

    #[test]
    fn the_error_for_an_unusable_file_says_why() {
        assert!(keys_of(b"").unwrap_err().contains("at least 64"));
        assert!(keys_of(&numbered(MIN_KEYS - 1)).unwrap_err().starts_with("63 distinct"));
        let mut text = numbered(MIN_KEYS);
        text.extend_from_slice(&[b'x'; 4001]);
        let error = keys_of(&text).unwrap_err();
        assert!(error.contains("line 65 has 4001 bytes") && error.contains("4000"), "{error}");
    }
}
