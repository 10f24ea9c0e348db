//! Options of the commands that read records.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::values;

/// The options of `cmp`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CmpOptions {
    /// Records to compare against, as --json writes them
    #[arg(value_name = "OLD")]
    pub(crate) old: PathBuf,

    /// Records to compare
    #[arg(value_name = "NEW")]
    pub(crate) new: PathBuf,

    /// Smaller differences are none
    #[arg(long, value_name = "PERCENT", default_value = "3", value_parser = values::percent, allow_negative_numbers = true)]
    pub(crate) threshold: f64,
}

/// The options of `export`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExportOptions {
    /// csv: a line for each sample; md: a Markdown table with a line for each measurement
    #[arg(value_name = "FORMAT")]
    pub(crate) format: Format,

    /// Records, as --json writes them
    #[arg(value_name = "RECORDS", required = true)]
    pub(crate) records: Vec<PathBuf>,
}

/// The options of `report`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReportOptions {
    /// The page, one file that has all in itself
    #[arg(long, value_name = "FILE")]
    pub(crate) html: PathBuf,

    /// Records, as --json writes them
    #[arg(value_name = "RECORDS", required = true)]
    pub(crate) records: Vec<PathBuf>,
}

/// The form of exported records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Comma-separated values.
    Csv,
    /// Markdown.
    Md,
}
