//! Checks that this is the build that was asked for. `cargo loom` and `cargo shuttle` set compiler
//! flags. A `RUSTFLAGS` in the environment would turn either into an ordinary build, which explores
//! nothing and passes.

/// The explanation of a failure.
const UNSET: &str = "the command sets compiler flags: unset RUSTFLAGS, and build.rustflags in your \
                     own cargo configuration";

#[test]
fn cargo_loom_builds_with_the_model_checker() {
    assert_eq!(cfg!(loom), option_env!("EXPECT_LOOM").is_some(), "{UNSET}");
}

#[test]
fn cargo_shuttle_builds_with_its_schedulers() {
    assert_eq!(cfg!(shuttle), option_env!("EXPECT_SHUTTLE").is_some(), "{UNSET}");
}
