//! `docs/reference/commands.md`: every verb with its options, made from the arguments themselves.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, ArgAction, Command};

use crate::cli::Cli;

/// The page. A test compares it with the one that is there; `SNAPSHOTS=overwrite` writes it.
fn page() -> String {
    let mut text = String::from(
        "<!-- Written by `cargo xtask reference` from the arguments of the command; changes here are lost. -->\n\n\
         # Commands\n\n\
         What each verb takes, as `vmie VERB --help` says it. Rows are described in [rows.md](rows.md).\n",
    );
    let mut command = Cli::shown();
    command.build();
    let (common, _): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().partition(|arg| arg.is_global_set());
    let common: Vec<String> = common.iter().map(|arg| arg.get_id().to_string()).collect();
    text.push_str("\n## Options of every verb\n");
    table(
        &mut text,
        command.get_arguments().filter(|arg| arg.is_global_set()),
    );
    for verb in command.get_subcommands() {
        section(&mut text, "vmie", verb, &common);
    }
    text
}

fn section(text: &mut String, before: &str, verb: &Command, common: &[String]) {
    if verb.get_name() == "help" {
        return;
    }
    let name = format!("{before} {}", verb.get_name());
    let _ = writeln!(text, "\n## {name}\n");
    if let Some(about) = verb.get_about() {
        let _ = writeln!(text, "{about}.\n");
    }
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    let _ = writeln!(text, "```\n{usage}\n```");
    let own = |arg: &&Arg| !common.iter().any(|id| arg.get_id() == id.as_str());
    table(text, verb.get_arguments().filter(own));
    for verb in verb.get_subcommands() {
        section(text, &name, verb, common);
    }
}

fn table<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let mut rows = String::new();
    for argument in arguments {
        if matches!(argument.get_action(), ArgAction::Help | ArgAction::Version)
            || argument.is_hide_set()
        {
            continue;
        }
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let mut help = help.replace('\n', " ").replace('|', "\\|");
        let values: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !values.is_empty() && argument.get_action().takes_values() {
            let _ = write!(help, ": {}", values.join(", "));
        }
        let usual = argument.get_default_values();
        if let (true, Some(usual)) = (argument.get_action().takes_values(), usual.first()) {
            let _ = write!(help, " [default: {}]", usual.to_string_lossy());
        }
        let shown = argument.to_string().replace('|', "\\|");
        let short = argument
            .get_short()
            .filter(|_| argument.get_long().is_some());
        let short = short.map_or_else(String::new, |short| format!("`-{short}`, "));
        let _ = writeln!(rows, "| {short}`{shown}` | {help} |");
    }
    if !rows.is_empty() {
        let _ = write!(text, "\n| | |\n|---|---|\n{rows}");
    }
}

#[test]
fn the_page_of_commands_is_what_they_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/commands.md");
    let page = page();
    if std::env::var_os("SNAPSHOTS").is_some_and(|how| how == "overwrite") {
        std::fs::write(&path, &page).expect("written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "docs/reference/commands.md is not what the arguments say: `cargo xtask reference`"
    );
}
