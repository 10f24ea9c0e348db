//! The commands with their choices, in a few lines each.

use super::width::width;

/// A command.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Its name.
    pub(crate) command: &'static str,
    /// The usual duration, in seconds.
    pub(crate) seconds: u64,
    /// Each option with the values that are measured without it.
    pub(crate) choices: Vec<(&'static str, Vec<String>)>,
}

/// All commands, each with the values of its options below.
pub(crate) fn listing(commands: &[Listing]) -> String {
    let mut text = String::new();
    for Listing { command, seconds, choices } in commands {
        text.push_str(&format!("{command}: about {seconds} s\n"));
        for (option, values) in choices.iter().filter(|(_, values)| !values.is_empty()) {
            text.push_str(&hanging(&format!("  {option:<10} "), values, width()));
        }
        text.push('\n');
    }
    text + "The time is that of --duration where it is not given. -h behind a command lists all its options.\n"
}

/// Values behind a label, in lines that begin below the first value.
fn hanging(label: &str, values: &[String], width: usize) -> String {
    let (mut text, mut used) = (label.to_owned(), label.len());
    for (place, value) in values.iter().enumerate() {
        let comma = if place + 1 < values.len() { "," } else { "" };
        let len = value.chars().count() + comma.len();
        if place > 0 {
            let fits = used + 1 + len <= width;
            let indent = " ".repeat(label.len());
            text.push_str(if fits { " " } else { "\n" });
            text.push_str(if fits { "" } else { &indent });
            used = if fits { used + 1 } else { label.len() };
        }
        text.push_str(value);
        text.push_str(comma);
        used += len;
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fold_below_the_first() {
        let values: Vec<String> = (0..20).map(|number| format!("value-{number}")).collect();
        let text = hanging("  --option ", &values, 40);
        assert!(text.lines().count() > 4 && text.lines().all(|line| line.len() <= 40), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("           value-")), "{text}");
    }
}
