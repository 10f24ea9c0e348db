//! Options of the commands that read records.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values;

/// The options of `cmp`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CmpOptions {
    /// Baseline records, written by --json
    #[arg(value_name = "OLD")]
    pub(crate) old: PathBuf,

    /// Records to compare with the baseline
    #[arg(value_name = "NEW")]
    pub(crate) new: PathBuf,

    /// Ignore differences up to this size
    #[arg(long, value_name = "PERCENT", default_value = "3", value_parser = values::percent, allow_negative_numbers = true)]
    pub(crate) threshold: f64,
}

/// The options of `export`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExportOptions {
    /// csv: one line per sample; md: a Markdown table with one line per measurement
    #[arg(value_name = "FORMAT")]
    pub(crate) format: Format,

    /// Records, written by --json
    #[arg(value_name = "RECORDS", required = true)]
    pub(crate) records: Vec<PathBuf>,
}

/// The options of `report`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportOptions {
    /// The page to write: one self-contained file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: PathBuf,

    /// Records, written by --json
    #[arg(value_name = "RECORDS", required = true)]
    pub(crate) records: Vec<PathBuf>,
}

/// The format of exported records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Comma-separated values.
    Csv,
    /// Markdown.
    Md,
}
