//! Hands the compiler's version and the state of the sources to the records that the suite
//! writes. What can't be found out is left out, and the record says "unknown".

use std::path::Path;
use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    pass_on("BENCH_RUSTC", first_line(&rustc, &["--version"]));
    pass_on("BENCH_GIT", first_line("git", &["rev-parse", "--short=12", "HEAD"]));
    let changes = output("git", &["status", "--porcelain"]);
    pass_on("BENCH_GIT_DIRTY", changes.map(|changes| (!changes.is_empty()).to_string()));

    // A commit moves the log of HEAD, an edit one of the sources. A path that does not exist
    // would have Cargo run this script again every time.
    let log = first_line("git", &["rev-parse", "--git-path", "logs/HEAD"]);
    let sources = ["build.rs", "src", "data", "../memalloc/src", "../qptrie/src", "../Cargo.lock"];
    for path in sources.into_iter().chain(log.as_deref()) {
        if Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

fn pass_on(name: &str, value: Option<String>) {
    if let Some(value) = value {
        println!("cargo::rustc-env={name}={value}");
    }
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let line = output(program, arguments)?.lines().next()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
