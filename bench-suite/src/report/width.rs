//! The room that text has.

use std::io::stdout;

use terminal_size::{Width, terminal_size_of};

/// Without a terminal: text in files and pipes is read in editors and browsers, which fold it
/// themselves.
const ELSEWHERE: usize = 160;

/// Less than this makes words of one letter.
const LEAST: usize = 40;

/// The width of the terminal that standard output is, in characters.
pub(super) fn width() -> usize {
    let columns =
        terminal_size_of(stdout()).map_or(ELSEWHERE, |(Width(columns), _)| columns.into());
    columns.max(LEAST)
}
