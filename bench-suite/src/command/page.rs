//! Where a report is written: in one go, and never in the place of something else.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::{Failure, print_aside};
use crate::cli::RunOptions;
use crate::record::Run;
use crate::report;

/// The name of a report where none is given, in the current directory.
const USUAL: &str = "bench-suite-report.html";

/// So much of a file tells whether it is a report.
const HEAD: u64 = 1024;

/// A place for a report.
#[derive(Debug)]
pub(super) struct PagePath(PathBuf);

impl PagePath {
    /// The usual place.
    pub(super) fn usual() -> Self {
        Self(USUAL.into())
    }

    /// The place that options ask for; `None` where there is to be no report.
    ///
    /// # Errors
    ///
    /// As [`checked`](Self::checked).
    pub(super) fn wanted(options: &RunOptions) -> Result<Option<Self>, String> {
        match &options.html {
            Some(path) => Self::checked(path).map(Some),
            None => Ok(options.has_usual_page.then(Self::usual)),
        }
    }

    /// A place that was asked for.
    ///
    /// # Errors
    ///
    /// One line that says why no report can be written there.
    pub(super) fn checked(path: &Path) -> Result<Self, String> {
        let page = Self(path.to_owned());
        page.is_free()?;
        let directory = page.directory();
        match fs::metadata(directory) {
            Ok(kind) if kind.is_dir() => Ok(page),
            Ok(_) => Err(page.complain("its directory is none")),
            Err(error) => Err(page.complain(error)),
        }
    }

    /// Writes the report of some runs, in the place of an older report if there is one. Returns a line
    /// that says where it is.
    ///
    /// # Errors
    ///
    /// One line that says why there is no report.
    pub(super) fn write(&self, runs: &[Run]) -> Result<String, String> {
        let replaces = self.is_free()?;
        self.write_whole(&report::page(runs)).map_err(|error| self.complain(error))?;
        let path = fs::canonicalize(&self.0).unwrap_or_else(|_| self.0.clone());
        let older = if replaces { " (in the place of an older one)" } else { "" };
        Ok(format!("Report: {}{older}\n", path.display()))
    }

    /// Writes the report of a run and says where it is. What was measured has been shown: a page that
    /// can't be written is no failure of the run.
    pub(super) fn show(
        &self,
        run: Run,
        say: fn(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self.write(&[run]) {
            Ok(line) => say(&line),
            Err(line) => print_aside(&format!("No report: {line}\n")),
        }
    }

    fn complain(&self, error: impl std::fmt::Display) -> String {
        format!("--html {}: {error}", self.0.display())
    }

    fn directory(&self) -> &Path {
        match self.0.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    /// Whether an older report is there; an error where something else is.
    fn is_free(&self) -> Result<bool, String> {
        let kind = match fs::metadata(&self.0) {
            Ok(kind) => kind,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.complain(error)),
        };
        if !kind.is_file() {
            return Err(self.complain("allowed is a regular file"));
        }
        let mut head = String::new();
        let read = File::open(&self.0).map(|file| file.take(HEAD).read_to_string(&mut head));
        match read {
            Ok(_) if kind.len() == 0 || head.contains(report::GENERATOR) => Ok(true),
            Ok(_) => Err(self.complain("there is another file in its place: name a new one")),
            Err(error) => Err(self.complain(error)),
        }
    }

    /// All of it appears at once, or nothing.
    fn write_whole(&self, page: &str) -> io::Result<()> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".bench-suite-").suffix(".html");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // Those of an ordinary file: a report is no secret.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let mut file = builder.tempfile_in(self.directory())?;
        file.write_all(page.as_bytes())?;
        file.persist(&self.0)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Metric;
    use crate::record::specimen;

    fn runs() -> Vec<Run> {
        let record = specimen::of("update", "immediate", Metric::OpsPerS, &[1e6]);
        vec![Run { header: record.run.clone(), records: vec![record], end: None }]
    }

    #[test]
    fn a_report_takes_the_place_of_an_older_report_and_of_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page.html");
        let page = PagePath::checked(&path).unwrap();
        assert!(!page.write(&runs()).unwrap().contains("older"));
        assert!(page.write(&runs()).unwrap().contains("in the place of an older one"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
        fs::write(&path, "<html>a letter</html>").unwrap();
        assert!(PagePath::checked(&path).unwrap_err().contains("another file in its place"));
        assert!(page.write(&runs()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "<html>a letter</html>");
    }

    #[test]
    fn a_place_where_nothing_can_be_written_is_refused_before() {
        let directory = tempfile::tempdir().unwrap();
        let error = |path: &Path| PagePath::checked(path).unwrap_err();
        assert!(error(directory.path()).contains("regular file"));
        assert!(error(&directory.path().join("no/such/page")).contains("No such file"));
        if cfg!(target_os = "linux") {
            assert!(error(Path::new("/dev/null")).contains("regular file"));
        }
    }
}
