//! Turns of the samples of a round, as the process of one sample sees them.
//!
//! A machine can change its speed several times during a sample. So the samples of a round take
//! turns of some milliseconds, and meet about the same states of the machine. Before each turn, the
//! process of a sample asks for it over its standard output, and sleeps until the run grants it
//! over its standard input. The threads of all other samples sleep meanwhile.

use std::io::{self, Read as _, Write as _};

use super::WrongAnswer;

/// The line by which a sample asks for a turn.
pub(super) const REQUEST: &str = ".";

/// The byte by which it is granted.
pub(super) const GRANT: u8 = b'\n';

/// Asks for a turn, and waits for it.
pub(super) fn wait_for_turn() -> Result<(), WrongAnswer> {
    let wait = || {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{REQUEST}").and_then(|()| stdout.flush())?;
        io::stdin().lock().read_exact(&mut [0])
    };
    wait().map_err(|error| WrongAnswer(format!("there is no further turn: {error}")))
}
