//! Errors of the command line, each in one line: what is wrong, and what is accepted.

use std::error::Error as _;

use clap::CommandFactory;
use clap::error::{ContextKind, Error, ErrorKind};

use super::{Cli, commands_with};

/// Formats a clap error, which has several lines, as one line; `command` is the command in use.
pub(super) fn one_line(error: &Error, command: Option<&str>) -> String {
    let said = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let (option, value) = (said(ContextKind::InvalidArg), said(ContextKind::InvalidValue));
    match error.kind() {
        ErrorKind::UnknownArgument if option.starts_with('-') => {
            let like = said(ContextKind::SuggestedArg);
            // An option of another command is no misspelling.
            let like = match commands_with(&option).join(", ") {
                others if !others.is_empty() => format!(" (an option of {others})"),
                _ if like.is_empty() => like,
                _ => format!(", did you mean {like}?"),
            };
            let whose = command.map(|name| format!(" of {name}")).unwrap_or_default();
            format!("unknown option {option}{whose}{like}: expected one of {}", options(command))
        }
        ErrorKind::ArgumentConflict if !said(ContextKind::InvalidSubcommand).is_empty() => {
            let name = said(ContextKind::InvalidSubcommand);
            format!("options go after the command: bench-suite {name} --..")
        }
        ErrorKind::UnknownArgument => match command {
            Some(name) => format!("{name} takes no more arguments: {option}"),
            None => {
                format!("unknown command or argument {option}: commands are {}", commands())
            }
        },
        ErrorKind::InvalidSubcommand => {
            let name = said(ContextKind::InvalidSubcommand);
            format!("unknown command {name}: expected one of {}", commands())
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("{option} needs a value"),
        ErrorKind::InvalidValue => {
            let allowed = said(ContextKind::ValidValue);
            format!("{value:?} for {option}: expected one of {allowed}")
        }
        ErrorKind::MissingRequiredArgument => {
            let name = command.map(|name| format!("{name}: ")).unwrap_or_default();
            format!("{name}missing {option}")
        }
        ErrorKind::ValueValidation => {
            let reason = error.source().map(ToString::to_string).unwrap_or_default();
            format!("{value:?} for {option}: {reason}")
        }
        _ => {
            let text = error.to_string();
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    }
}

/// Lists the options of a command, or of the program without a command.
fn options(name: Option<&str>) -> String {
    let mut cli = Cli::command();
    cli.build();
    let command = name.and_then(|name| cli.find_subcommand(name)).unwrap_or(&cli);
    let shown = command.get_arguments().filter(|option| !option.is_hide_set());
    let options = shown.filter_map(|option| option.get_long());
    options.map(|name| format!("--{name}")).collect::<Vec<_>>().join(" ")
}

fn commands() -> String {
    let command = Cli::command();
    command.get_subcommands().map(clap::Command::get_name).collect::<Vec<_>>().join(" ")
}
