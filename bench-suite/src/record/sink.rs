//! Where records go.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::Record;

/// A file that records are appended to, or nothing.
#[derive(Debug)]
pub(crate) struct Sink {
    file: Option<File>,
}

impl Sink {
    /// Opens a file for appending; it is created if there is none.
    ///
    /// # Errors
    ///
    /// One line that names the file and says why it can't be written.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, String> {
        let Some(path) = path else { return Ok(Self { file: None }) };
        match OpenOptions::new().append(true).create(true).open(path) {
            Ok(file) => Ok(Self { file: Some(file) }),
            Err(error) => Err(format!("--json {}: {error}", path.display())),
        }
    }

    /// Appends records, one a line, in one write: lines of programs that append to the same
    /// file at the same time do not end up inside each other.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut lines = Vec::new();
        for record in records {
            serde_json::to_writer(&mut lines, record)?;
            lines.push(b'\n');
        }
        file.write_all(&lines)
    }
}

#[cfg(test)]
mod tests {
    use super::super::specimen;
    use super::*;
    use crate::measure::Metric;

    #[test]
    fn records_are_appended_one_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let record = specimen::of("update", "immediate", Metric::OpsPerS, &[1.0]);
        for _ in 0..2 {
            let mut sink = Sink::open(Some(&path)).unwrap();
            sink.append(&[record.clone(), record.clone()]).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 4);
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["unit"], "1/s");
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = Sink::open(Some(Path::new("/nowhere/at/all"))).unwrap_err();
        assert!(error.starts_with("--json /nowhere/at/all: "), "{error}");
    }
}
