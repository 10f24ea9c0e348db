//! The build of the program.

use serde::{Deserialize, Serialize};

const UNKNOWN: &str = "unknown";

/// The properties of the program that a result may depend on. An unknown value is "unknown".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Build {
    /// The version of the suite.
    #[serde(default)]
    pub(crate) version: String,
    /// The Cargo profile: `release`, or `debug` for all that derive from `dev`.
    #[serde(default)]
    pub(crate) profile: String,
    /// The system and processor that it was compiled for.
    #[serde(default)]
    pub(crate) target: String,
    /// The compiler.
    pub(crate) rustc: String,
    /// The commit.
    pub(crate) git: String,
    /// True if the sources differed from the commit; `None` if unknown.
    pub(crate) dirty: Option<bool>,
    /// The enabled features of the suite.
    #[serde(default)]
    pub(crate) features: Vec<String>,
}

impl Build {
    /// Returns the build of this program.
    pub(crate) fn this() -> Self {
        let known = |name: Option<&str>| name.unwrap_or(UNKNOWN).to_owned();
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            profile: known(option_env!("BENCH_PROFILE")),
            target: known(option_env!("BENCH_TARGET")),
            rustc: known(option_env!("BENCH_RUSTC")),
            git: known(option_env!("BENCH_GIT")),
            dirty: option_env!("BENCH_GIT_DIRTY").and_then(|dirty| dirty.parse().ok()),
            features: [("rivals", cfg!(feature = "rivals")), ("broken", cfg!(feature = "broken"))]
                .into_iter()
                .filter(|(_, is_in)| *is_in)
                .map(|(name, _)| name.into())
                .collect(),
        }
    }
}
