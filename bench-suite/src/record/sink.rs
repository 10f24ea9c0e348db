//! The destination of records.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::line::Line;
#[cfg(target_os = "linux")]
use super::line::TortureTally;
use super::{Record, RunEnd, RunHeader};

/// Writes the lines of a run. A run that measures nothing writes nothing.
#[derive(Debug)]
pub(crate) struct Sink {
    to: Destination,
    /// The header of a run that has measured nothing yet.
    header: Vec<u8>,
}

#[derive(Debug)]
enum Destination {
    Nothing,
    StandardOutput,
    /// A file that is opened for the first measurement.
    Path(PathBuf),
    File(File),
}

impl Sink {
    /// Checks that lines can be appended to a file, or to a file that does not exist yet. `-` is
    /// standard output. A missing newline at the end of the file will be added.
    ///
    /// # Errors
    ///
    /// One line with the file's name and the reason why it can't be written.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, String> {
        let to = match path {
            None => Destination::Nothing,
            Some(path) if path == Path::new("-") => Destination::StandardOutput,
            Some(path) => {
                let complain = |error| format!("--json {}: {error}", path.display());
                check(path).map_err(complain)?;
                Destination::Path(path.into())
            }
        };
        Ok(Self { to, header: Vec::new() })
    }

    /// Returns whether records go to standard output, where text would go otherwise.
    pub(crate) fn is_standard_output(&self) -> bool {
        matches!(self.to, Destination::StandardOutput)
    }

    /// Begins a run. Its header is written with its first measurement.
    pub(crate) fn begin(&mut self, header: &RunHeader) -> io::Result<()> {
        Ok(Line::Run(header).write(&mut self.header)?)
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

    /// Appends the end of a run, as [`append`](Self::append) does, if the run measured anything.
    pub(crate) fn end(&mut self, end: &RunEnd) -> io::Result<()> {
        let has_measured = self.header.is_empty();
        self.write(has_measured.then_some(Line::End(end)).into_iter())
    }

    fn write<'r>(&mut self, all: impl Iterator<Item = Line<'r>>) -> io::Result<()> {
        let mut lines = Vec::new();
        for line in all {
            line.write(&mut lines)?;
        }
        if lines.is_empty() {
            return Ok(());
        }
        lines.splice(..0, self.header.drain(..));
        let written = self.to.write(&lines);
        if written.is_err() {
            self.to = Destination::Nothing;
        }
        written
    }
}

impl Destination {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::StandardOutput => match io::stdout().lock().write_all(lines) {
                // A closed pipe is not a failure.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    *self = Self::Nothing;
                    Ok(())
                }
                written => written,
            },
            Self::Path(path) => {
                *self = Self::File(open(path)?);
                self.write(lines)
            }
            Self::File(file) => append_whole(file, lines),
        }
    }
}

/// Checks that lines can be appended to a path, without changing anything.
fn check(path: &Path) -> Result<(), String> {
    let is_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    match fs::metadata(path) {
        // Opening a pipe would block until a reader appears.
        Ok(kind) if !kind.is_file() => {
            Err("expected a regular file, or - for standard output".into())
        }
        Ok(_) => match OpenOptions::new().read(true).append(true).open(path) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_folder => {
            let folder = path.parent().filter(|folder| *folder != Path::new(""));
            match tempfile::tempfile_in(folder.unwrap_or(Path::new("."))) {
                Ok(_) => Ok(()),
                // Without the name of the temporary file.
                Err(error) => Err(match error.get_ref().and_then(|inner| inner.source()) {
                    Some(cause) => cause.to_string(),
                    None => error.to_string(),
                }),
            }
        }
        Err(error) => Err(error.to_string()),
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
    fn a_run_that_measures_nothing_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let record = specimen::of("update", "immediate", Metric::OpsPerS, &[1.0]);
        let mut sink = Sink::open(Some(&path)).unwrap();
        sink.begin(&record.run).unwrap();
        sink.append(&[]).unwrap();
        sink.end(&specimen::end(&[1.0])).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        sink.append(&[record]).unwrap();
        sink.end(&specimen::end(&[1.0])).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let kinds = text.lines().map(|line| line.split('"').nth(5).unwrap_or_default());
        assert_eq!(kinds.collect::<Vec<_>>(), ["run", "record", "end"]);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = Sink::open(Some(Path::new("/nowhere/at/all"))).unwrap_err();
        assert_eq!(error, "--json /nowhere/at/all: No such file or directory (os error 2)");
        let directory = tempfile::tempdir().unwrap();
        let folder = format!("{}/", directory.path().join("new").display());
        assert!(Sink::open(Some(Path::new(&folder))).is_err());
    }
}
