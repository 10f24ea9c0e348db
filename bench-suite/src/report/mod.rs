//! Everything that the user reads. It is made from records, so records of other runs are shown in
//! the same form.

mod advice;
mod batches;
mod export;
mod figures;
mod health;
mod html;
mod kernel;
mod kernel_maps;
mod labels;
mod layout;
mod listing;
mod paragraph;
mod progress;
mod rows;
mod run_comparison;
mod tables;
#[cfg(test)]
mod tests;
mod verdict;
mod width;

pub(crate) use advice::{
    Advice, Axis, Choice, Flip, Judgement, Limits, Measured, Opinion, advice, correctness, derived,
    judge, search, without_measuring,
};
pub(crate) use batches::slower_in_batches;
pub(crate) use export::{csv, markdown};
pub(crate) use health::{health, part, takes_longer};
pub(crate) use html::{GENERATOR, page};
pub(crate) use kernel::beside_the_kernel;
pub(crate) use kernel_maps::{beside_htab_mem, beside_map_perf};
pub(crate) use listing::{Listing, listing};
pub(crate) use progress::Progress;
pub(crate) use run_comparison::RunComparison;
pub(crate) use tables::{Against, preamble, tables};
pub(crate) use verdict::verdict;
