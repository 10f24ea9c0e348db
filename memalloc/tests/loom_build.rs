//! Whether this is the build that it is meant to be.

/// `cargo loom` asks for the model checker's build; a `RUSTFLAGS` in the environment would turn
/// it into an ordinary one, in which there is nothing to explore and all is well.
#[test]
fn the_model_checkers_build_is_one() {
    assert_eq!(
        cfg!(loom),
        option_env!("EXPECT_LOOM").is_some(),
        "`cargo loom` sets compiler flags: unset RUSTFLAGS, and build.rustflags in your own \
         cargo configuration"
    );
}
