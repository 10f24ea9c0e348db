//! The file of a report: written atomically, and never over a file that is not a report.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{Failure, print_aside};
use crate::cli::RunOptions;
use crate::record::Run;
use crate::report;

/// The default file name of a report, in the current directory.
const USUAL: &str = "bench-suite-report.html";

/// The number of leading bytes that identify a report.
const HEAD: u64 = 1024;

/// The path of a report.
#[derive(Debug)]
pub(super) struct PagePath {
    path: PathBuf,
    /// True if the user named it.
    is_named: bool,
}

impl PagePath {
    /// Returns the default path.
    pub(super) fn usual() -> Self {
        Self { path: USUAL.into(), is_named: false }
    }

    /// Returns the path that the options ask for; `None` if no report is wanted.
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

    /// Checks that a report can be written to `path`.
    ///
    /// # Errors
    ///
    /// One line that says why no report can be written there.
    pub(super) fn checked(path: &Path) -> Result<Self, String> {
        let page = Self { path: path.to_owned(), is_named: true };
        page.is_free()?;
        let directory = page.directory();
        match fs::metadata(directory) {
            Ok(kind) if kind.is_dir() => {}
            Ok(_) => return Err(page.complain("its parent is not a directory")),
            Err(error) => return Err(page.complain(error)),
        }
        page.temporary().map_err(|error| page.complain(error))?;
        Ok(page)
    }

    /// Writes the report of `runs`, replacing an older report. Returns a line that says where it
    /// is.
    ///
    /// # Errors
    ///
    /// One line that says why no report was written.
    pub(super) fn write(&self, runs: &[Run]) -> Result<String, String> {
        let replaces = self.is_free()?;
        self.write_whole(&report::page(runs)).map_err(|error| self.complain(error))?;
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let older = if replaces { " (replaced an older report)" } else { "" };
        Ok(format!("Report: {}{older}\n", path.display()))
    }

    /// Writes the report of a run and prints its path. The results have been shown already, so
    /// without the page the run fails only if the user named it.
    pub(super) fn show(
        &self,
        run: Run,
        say: fn(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self.write(&[run]) {
            Ok(line) => say(&line),
            Err(line) if self.is_named => Err(Failure::Run(format!("no report: {line}"))),
            Err(line) => print_aside(&format!("No report: {line}\n")),
        }
    }

    fn complain(&self, error: impl std::fmt::Display) -> String {
        let path = self.path.display();
        match self.is_named {
            true => format!("--html {path}: {error}"),
            false => format!("{path}: {error}; --html FILE names another place"),
        }
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    /// Returns whether an older report exists; an error if the path holds anything else.
    fn is_free(&self) -> Result<bool, String> {
        let kind = match fs::metadata(&self.path) {
            Ok(kind) => kind,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.complain(error)),
        };
        if !kind.is_file() {
            return Err(self.complain("expected a regular file"));
        }
        let mut head = String::new();
        let read = File::open(&self.path).map(|file| file.take(HEAD).read_to_string(&mut head));
        match read {
            Ok(_) if kind.len() == 0 || head.contains(report::GENERATOR) => Ok(true),
            Ok(_) => Err(self.complain("it exists and is not a report: choose another name")),
            Err(error) => Err(self.complain(error)),
        }
    }

    /// Writes the page through a temporary file, so that the whole page appears at once or not at
    /// all.
    fn write_whole(&self, page: &str) -> io::Result<()> {
        let mut file = self.temporary()?;
        // An error of the file itself does not name it: its name is temporary.
        file.as_file_mut().write_all(page.as_bytes())?;
        file.persist(&self.path)?;
        Ok(())
    }

    /// Creates an empty file beside the report, which is removed unless it is renamed.
    fn temporary(&self) -> io::Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".bench-suite-").suffix(".html");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // The permissions of an ordinary file instead of those of a temporary one.
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        // The error names the file, whose name is temporary.
        builder.tempfile_in(self.directory()).map_err(|error| error.kind().into())
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
    fn a_report_replaces_an_older_report_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page.html");
        let page = PagePath::checked(&path).unwrap();
        assert!(!page.write(&runs()).unwrap().contains("older"));
        assert!(page.write(&runs()).unwrap().contains("replaced an older report"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
        fs::write(&path, "<html>a letter</html>").unwrap();
        assert!(PagePath::checked(&path).unwrap_err().contains("not a report"));
        assert!(page.write(&runs()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "<html>a letter</html>");
    }

    #[test]
    fn a_named_page_that_cannot_be_written_in_the_end_fails_the_run_and_the_usual_one_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page.html");
        let named = PagePath::checked(&path).unwrap();
        let usual = PagePath { path: path.clone(), is_named: false };
        // The path was free before the run.
        fs::create_dir(&path).unwrap();
        let show = |page: &PagePath| page.show(runs().remove(0), |_| Ok(()));
        let Err(Failure::Run(line)) = show(&named) else { panic!("no failure") };
        assert!(line.contains("--html") && line.contains("regular file"), "{line}");
        assert!(show(&usual).is_ok());
    }

    #[test]
    fn an_unwritable_path_is_refused_before_the_run() {
        let directory = tempfile::tempdir().unwrap();
        let error = |path: &Path| PagePath::checked(path).unwrap_err();
        assert!(error(directory.path()).contains("regular file"));
        assert!(error(&directory.path().join("no/such/page")).contains("No such file"));
        // A folder where no file can be created.
        if cfg!(target_os = "linux") {
            let error = error(Path::new("/proc/self/page"));
            assert!(error.contains("--html") && !error.contains("bench-suite-"), "{error}");
        }
        if cfg!(target_os = "linux") {
            assert!(error(Path::new("/dev/null")).contains("regular file"));
        }
    }
}
