//! Checks that this is the build that was asked for.

/// `cargo loom` asks for the model checker's build. A `RUSTFLAGS` in the environment would turn it
/// into an ordinary build, which explores nothing and passes.
#[test]
fn cargo_loom_builds_with_the_model_checker() {
    assert_eq!(
        cfg!(loom),
        option_env!("EXPECT_LOOM").is_some(),
        "`cargo loom` sets compiler flags: unset RUSTFLAGS, and build.rustflags in your own \
         cargo configuration"
    );
}
