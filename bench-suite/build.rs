//! Hands the compiler's version, the state of the sources and the versions of the rivals to the
//! records that the suite writes. If one of these is not available, the record says "unknown".

use std::path::Path;
use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    pass_on("BENCH_RUSTC", first_line(&rustc, &["--version"]));
    pass_on("BENCH_GIT", first_line("git", &["rev-parse", "--short=12", "HEAD"]));
    let changes = output("git", &["status", "--porcelain"]);
    pass_on("BENCH_GIT_DIRTY", changes.map(|changes| (!changes.is_empty()).to_string()));

    pass_on("BENCH_PROFILE", std::env::var("PROFILE").ok());
    pass_on("BENCH_TARGET", std::env::var("TARGET").ok());
    pass_on("BENCH_RIVALS", rivals());
    println!("cargo::rerun-if-env-changed=CXXFLAGS");
    let flags = std::env::var("CXXFLAGS").unwrap_or_default();
    if std::env::var_os("CARGO_FEATURE_RIVALS").is_some() && !flags.contains("-DNDEBUG") {
        println!(
            "cargo::warning=CXXFLAGS without -DNDEBUG builds snmalloc with its assertions: it \
             will look slower than it is"
        );
    }

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

/// The rivals' packages with their versions, from the lock file: "package=version ..".
fn rivals() -> Option<String> {
    let packages = [
        "libmimalloc-sys",
        "tikv-jemalloc-sys",
        "snmalloc-sys",
        "rpmalloc-sys",
        "crossbeam-epoch",
        "seize",
        "haphazard",
        "kovan",
        "sdd",
        "masstree",
        "crossbeam-skiplist",
        "scc",
        "papaya",
        "dashmap",
    ];
    let lock = std::fs::read_to_string("../Cargo.lock").unwrap_or_default();
    let quoted = |line: &str, key: &str| {
        Some(line.strip_prefix(key)?.trim_matches([' ', '=', '"']).to_owned())
    };
    let mut found = Vec::new();
    for package in lock.split("[[package]]") {
        let value = |key| package.lines().find_map(|line| quoted(line, key));
        if let (Some(name), Some(version)) = (value("name"), value("version"))
            && packages.contains(&name.as_str())
        {
            found.push(format!("{name}={version}"));
        }
    }
    Some(found.join(" "))
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
