//! Fuzz targets: byte strings are read as scripts of operations, whose effects are compared with a
//! model. `cargo test` replays the corpora in `__fuzz__` and adds random scripts; see
//! docs/CONTRIBUTING.md for the coverage-guided form.
#![cfg(not(loom))]

mod allocator;
#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "allocator-api2")]
mod containers;
mod script;
