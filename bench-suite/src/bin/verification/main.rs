//! `docs/verification.md`: the claims that the models hold up, the mutations that show that the
//! models can fail, and the orderings of the sources that fall to them.
//!
//! `records` is what the models append to a file, `comments` and `orderings` what the sources say,
//! `report` the document.

mod comments;
mod orderings;
mod records;
mod report;

use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run"] => run(),
        ["write", file] => write(Path::new(file)),
        ["check", file] => check(Path::new(file)),
        _ => {
            let given = arguments.join(" ");
            eprintln!(
                "verification: unknown arguments \"{given}\": allowed are run (run the models and \
                 write docs/verification.md), write FILE (from the records in it) and check FILE \
                 (compare with them, and check that no mutation survived)"
            );
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("verification: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every model, and writes the document.
fn run() -> Result<(), String> {
    // Without waiting for the models.
    orderings::check(&orderings::all())?;
    let records = tempfile::NamedTempFile::new().map_err(|error| format!("records: {error}"))?;
    let mut loom = Command::new("cargo");
    loom.arg("loom").current_dir(comments::root()).env("MODEL_RECORDS", records.path());
    // The document has the bounds of `cargo loom`.
    loom.env_remove("LOOM_DEEPER");
    let status = loom.status().map_err(|error| format!("cargo loom: {error}"))?;
    if !status.success() {
        return Err(format!("cargo loom: {status}"));
    }
    write(records.path())
}

fn write(file: &Path) -> Result<(), String> {
    let (records, orderings) = (checked(file)?, orderings::all());
    report::write(&records, &orderings)?;
    orderings::check_names(&orderings, &records)
}

fn check(file: &Path) -> Result<(), String> {
    let (records, orderings) = (checked(file)?, orderings::all());
    orderings::check(&orderings)?;
    orderings::check_names(&orderings, &records)?;
    report::compare(&records, &orderings)
}

fn checked(file: &Path) -> Result<Vec<records::Record>, String> {
    let records = records::read(file)?;
    records::check(&records)?;
    Ok(records)
}
