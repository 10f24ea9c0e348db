//! Checks that the build is of the intended kind.

/// `cargo loom` asks for the model checker's build. A `RUSTFLAGS` in the environment would turn it
/// into an ordinary build, in which there is nothing to explore and every model passes.
#[test]
fn the_model_checkers_build_is_one() {
    assert_eq!(
        cfg!(loom),
        option_env!("EXPECT_LOOM").is_some(),
        "`cargo loom` sets compiler flags: unset RUSTFLAGS, and build.rustflags in your own \
         cargo configuration"
    );
}
