//! The width of text.

use std::io::stdout;

use terminal_size::{Width, terminal_size_of};

/// The width without a terminal: editors and browsers, which show files and pipes, wrap lines
/// themselves.
const ELSEWHERE: usize = 160;

/// The least width: in a narrower table words break into single letters.
const LEAST: usize = 40;

/// Returns the width of the terminal on standard output, in characters.
pub(super) fn width() -> usize {
    let columns =
        terminal_size_of(stdout()).map_or(ELSEWHERE, |(Width(columns), _)| columns.into());
    columns.max(LEAST)
}
