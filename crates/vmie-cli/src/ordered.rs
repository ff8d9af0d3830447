//! The order of the options in the help: a verb's own first, then those that several verbs have, the source's last.
//!
//! clap shows headings in the order in which it meets them, and the source is the first thing that is typed, so what belongs
//! to it would come first. Which arguments there are is not touched, nor the order of those without a name.

use clap::{Arg, Command};

use crate::args::SOURCE;

/// The command with its verbs' options in order.
pub(crate) fn ordered(command: Command) -> Command {
    let verbs: Vec<String> = command
        .get_subcommands()
        .map(|verb| verb.get_name().to_owned())
        .collect();
    verbs.into_iter().fold(command, |command, verb| {
        command.mut_subcommand(verb, |verb| {
            // Verbs of verbs (`snap take`) are what has options.
            if verb.has_subcommands() && verb.get_arguments().next().is_none() {
                return ordered(verb);
            }
            if verb.has_subcommands() {
                return verb;
            }
            again(&verb)
        })
    })
}

/// A verb made anew, with its arguments in another order.
fn again(verb: &Command) -> Command {
    let mut arguments: Vec<&Arg> = verb.get_arguments().collect();
    arguments.sort_by_key(|argument| match argument.get_help_heading() {
        _ if argument.is_positional() => 0,
        None => 1,
        Some(heading) if heading != SOURCE => 2,
        Some(_) => 3,
    });
    let mut made = Command::new(verb.get_name().to_owned())
        .args(arguments.into_iter().cloned())
        .groups(verb.get_groups().cloned());
    if let Some(about) = verb.get_about() {
        made = made.about(about.clone());
    }
    if let Some(about) = verb.get_long_about() {
        made = made.long_about(about.clone());
    }
    if let Some(help) = verb.get_after_help() {
        made = made.after_help(help.clone());
    }
    made
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn nothing_is_lost() {
        fn check(before: &Command, after: &Command) {
            let all = |command: &Command| {
                let mut all: Vec<String> = command
                    .get_arguments()
                    .map(|arg| format!("{arg:?}"))
                    .collect();
                all.sort_unstable();
                all
            };
            assert_eq!(all(before), all(after), "{}", before.get_name());
            let groups =
                |command: &Command| format!("{:?}", command.get_groups().collect::<Vec<_>>());
            assert_eq!(groups(before), groups(after), "{}", before.get_name());
            let positionals = |command: &Command| -> Vec<String> {
                let all = command.get_positionals();
                all.map(|arg| arg.get_id().to_string()).collect()
            };
            assert_eq!(
                positionals(before),
                positionals(after),
                "{}",
                before.get_name()
            );
            assert_eq!(
                before.get_subcommands().count(),
                after.get_subcommands().count()
            );
            for (before, after) in before.get_subcommands().zip(after.get_subcommands()) {
                check(before, after);
            }
        }
        check(&Cli::command(), &ordered(Cli::command()));
    }

    #[test]
    fn every_argument_is_described() {
        fn check(command: &Command) {
            for argument in command.get_arguments() {
                let help = argument
                    .get_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(
                    !help.trim().is_empty(),
                    "{} of {}",
                    argument.get_id(),
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
