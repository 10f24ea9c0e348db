//! Formats the commands with their choices.

use super::width::width;

/// A command and its choices.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The name of the command.
    pub(crate) command: &'static str,
    /// The default duration, in seconds.
    pub(crate) seconds: u64,
    /// Each option with its default values.
    pub(crate) choices: Vec<(&'static str, Vec<String>)>,
}

/// Formats all commands, each followed by the values of its options.
pub(crate) fn listing(commands: &[Listing]) -> String {
    let options = commands.iter().flat_map(|command| &command.choices);
    let longest = options.map(|(option, _)| option.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Listing { command, seconds, choices } in commands {
        text.push_str(&format!("{command}: about {seconds} s\n"));
        for (option, values) in choices.iter().filter(|(_, values)| !values.is_empty()) {
            text.push_str(&hanging(&format!("  {option:<longest$}  "), values, width()));
        }
        text.push('\n');
    }
    text + "Times are the defaults of --duration. `bench-suite COMMAND -h` lists all options.\n"
}

/// Formats values behind a label; continuation lines begin below the first value.
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
    fn the_values_of_all_options_begin_in_one_column() {
        let listed = |command, option| Listing {
            command,
            seconds: 1,
            choices: vec![(option, vec!["value".to_owned()])],
        };
        let text = listing(&[listed("one", "--other-cpu-frees"), listed("two", "--case")]);
        let columns: Vec<_> = text.lines().filter_map(|line| line.find("value")).collect();
        assert!(columns.len() == 2 && columns[0] == columns[1], "{text}");
    }

    #[test]
    fn values_fold_below_the_first() {
        let values: Vec<String> = (0..20).map(|number| format!("value-{number}")).collect();
        let text = hanging("  --option ", &values, 40);
        assert!(text.lines().count() > 4 && text.lines().all(|line| line.len() <= 40), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("           value-")), "{text}");
    }
}
