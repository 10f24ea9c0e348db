//! The commands that read records: `cmp`, `export` and `report`.

use std::path::{Path, PathBuf};

use super::page::PagePath;
use super::{Failure, print};
use crate::cli::{CmpOptions, ExportOptions, Format, ReportOptions};
use crate::record::{Run, read};
use crate::report::{self, RunComparison};

/// Compares the records of two files.
pub(super) fn cmp(options: &CmpOptions) -> Result<(), Failure> {
    let [old, new] = [&options.old, &options.new].map(|path| read(path));
    let (old, new) = (old.map_err(Failure::Request)?, new.map_err(Failure::Request)?);
    let margin = 1.0 + options.threshold / 100.0;
    let comparison = RunComparison::of(&old, &new, margin).map_err(|error| {
        let [old, new] = [&options.old, &options.new].map(|path| path.display());
        Failure::Request(format!("records {old} and {new}: {error}"))
    })?;
    print(&comparison.text)?;
    match comparison.unjudged {
        _ if comparison.got_worse => Err(Failure::Worse),
        Some(reason) => Err(Failure::Request(reason)),
        None => Ok(()),
    }
}

/// Prints records in another format.
pub(super) fn export(options: &ExportOptions) -> Result<(), Failure> {
    let runs = read_all(&options.records)?;
    print(&match options.format {
        Format::Csv => report::csv(&runs).map_err(Failure::Run)?,
        Format::Md => report::markdown(&runs),
    })
}

/// Writes a page.
pub(super) fn report(options: &ReportOptions) -> Result<(), Failure> {
    let page = PagePath::checked(&options.html).map_err(Failure::Request)?;
    let runs = read_all(&options.records)?;
    print(&page.write(&runs).map_err(Failure::Run)?)
}

/// Reads the runs of all files.
fn read_all(paths: &[PathBuf]) -> Result<Vec<Run>, Failure> {
    let runs = paths.iter().map(|path: &PathBuf| read(Path::new(path)));
    let runs: Result<Vec<Vec<Run>>, String> = runs.collect();
    Ok(runs.map_err(Failure::Request)?.into_iter().flatten().collect())
}
