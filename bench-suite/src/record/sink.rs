//! The destination of records.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::line::Line;
#[cfg(target_os = "linux")]
use super::line::TortureTally;
use super::{Record, RunEnd, RunHeader};

/// A file to which records are appended, or standard output, or nothing.
#[derive(Debug)]
pub(crate) enum Sink {
    Nothing,
    StandardOutput,
    File(File),
}

impl Sink {
    /// Opens a file for appending; creates it if it is missing. `-` is standard output. A missing
    /// newline at the end of the file is added.
    ///
    /// # Errors
    ///
    /// One line with the file's name and the reason why it can't be written.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, String> {
        let Some(path) = path else { return Ok(Self::Nothing) };
        if path == Path::new("-") {
            return Ok(Self::StandardOutput);
        }
        let complain = |error: String| format!("--json {}: {error}", path.display());
        if fs::metadata(path).is_ok_and(|kind| !kind.is_file()) {
            // Opening a pipe would block until a reader appears.
            return Err(complain("expected a regular file, or - for standard output".into()));
        }
        open(path).map(Self::File).map_err(|error| complain(error.to_string()))
    }

    /// Returns whether records go to standard output, where text would go otherwise.
    pub(crate) fn is_standard_output(&self) -> bool {
        matches!(self, Self::StandardOutput)
    }

    /// Appends the header of a run, as [`append`](Self::append) does.
    pub(crate) fn begin(&mut self, header: &RunHeader) -> io::Result<()> {
        self.write(std::iter::once(Line::Run(header)))
    }

    /// Appends records, one per line, in one write: lines of programs that append to the same file
    /// concurrently are not mixed. If not all of them can be written, none is, and later records
    /// are dropped.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        self.write(records.iter().map(|record| Line::Record(Box::new(record.into()))))
    }

    /// Appends what torture has seen, as [`append`](Self::append) does.
    #[cfg(target_os = "linux")]
    pub(crate) fn torture(&mut self, tally: &TortureTally<'_>) -> io::Result<()> {
        self.write(std::iter::once(Line::Torture(tally)))
    }

    /// Appends the end of a run, as [`append`](Self::append) does.
    pub(crate) fn end(&mut self, end: &RunEnd) -> io::Result<()> {
        self.write(std::iter::once(Line::End(end)))
    }

    fn write<'r>(&mut self, all: impl Iterator<Item = Line<'r>>) -> io::Result<()> {
        if matches!(self, Self::Nothing) {
            return Ok(());
        }
        let mut lines = Vec::new();
        for line in all {
            line.write(&mut lines)?;
        }
        let written = match self {
            Self::Nothing => Ok(()),
            Self::StandardOutput => match io::stdout().lock().write_all(&lines) {
                // A closed pipe is not a failure.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    *self = Self::Nothing;
                    Ok(())
                }
                written => written,
            },
            Self::File(file) => append_whole(file, &lines),
        };
        if written.is_err() {
            *self = Self::Nothing;
        }
        written
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

/// Writes all lines; on failure cuts off the part that was written, unless another program has
/// appended since.
fn append_whole(file: &mut File, lines: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    let mut rest = lines;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let ours = before + (lines.len() - rest.len()) as u64;
                if file.metadata().is_ok_and(|now| now.len() == ours) {
                    // A file that can't grow may still be truncated.
                    let _ = file.set_len(before);
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{read, specimen};
    use super::*;
    use crate::measure::Metric;

    #[test]
    fn runs_are_appended_one_after_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        for _ in 0..2 {
            let record = specimen::of("update", "immediate", Metric::OpsPerS, &[1.0]);
            let mut sink = Sink::open(Some(&path)).unwrap();
            sink.begin(&record.run).unwrap();
            sink.append(&[record.clone(), record.clone()]).unwrap();
        }
        let runs = read(&path).unwrap();
        assert_eq!(runs.iter().map(|run| run.records.len()).collect::<Vec<_>>(), [2, 2]);
        assert!(runs[0].header.run != runs[1].header.run && runs[0].end.is_none());
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 6);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = Sink::open(Some(Path::new("/nowhere/at/all"))).unwrap_err();
        assert!(error.starts_with("--json /nowhere/at/all: "), "{error}");
    }
}
