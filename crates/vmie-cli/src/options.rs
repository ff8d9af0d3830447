//! What to do, out of what was typed and where the output goes.
//!
//! The only place that asks whether a stream is a terminal or what the environment says. Verbs get
//! the decisions.

use std::ffi::OsStr;
use std::io::IsTerminal as _;

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum as _;

use crate::args::{GlobalArgs, When};
use crate::exit::{self, Done, Failure, Result, Stop};
use crate::output::{Format, Member, Output, Piece, Sink, SpaceKind};
use crate::report::{Level, Reporter};

/// The variable that says what results look like where `-o` does not.
const OUTPUT: &str = "VMIE_OUTPUT";

/// Decisions that hold for the whole run, and the way to standard error.
pub(crate) struct Options {
    /// What results look like.
    pub(crate) output: Output,
    /// What was typed.
    pub(crate) typed: GlobalArgs,
    /// Threads to use; 0 means one per CPU.
    pub(crate) threads: usize,
    /// Standard error.
    pub(crate) reporter: Reporter,
    /// Where it is one of several sources that is asked.
    member: Option<Member>,
}

impl Options {
    /// Decides.
    ///
    /// # Errors
    ///
    /// When the environment asks for a format that there is not.
    pub(crate) fn new(args: &GlobalArgs) -> std::result::Result<Self, Failure> {
        let terminal = std::io::stdout().is_terminal();
        let usual = usual_format(std::env::var_os(OUTPUT).as_deref())?;
        let format = args.output.unwrap_or(usual);
        let (stdout, stderr) = match args.color {
            // `choice` knows NO_COLOR, CLICOLOR, CLICOLOR_FORCE and TERM=dumb.
            When::Auto => (
                AutoStream::choice(&std::io::stdout()),
                AutoStream::choice(&std::io::stderr()),
            ),
            When::Always => (ColorChoice::AlwaysAnsi, ColorChoice::AlwaysAnsi),
            When::Never => (ColorChoice::Never, ColorChoice::Never),
        };
        let level = if args.quiet {
            Level::Quiet
        } else if args.verbose {
            Level::Verbose
        } else {
            Level::Normal
        };
        Ok(Self {
            output: Output {
                format,
                color: stdout != ColorChoice::Never,
                terminal,
                width: (terminal && !args.wide).then(terminal_width).flatten(),
                limit: args.limit,
            },
            typed: args.clone(),
            threads: args.threads.map_or(0, usize::from),
            reporter: Reporter::new(level, stderr),
            member: None,
        })
    }

    /// Where rows of a kind go.
    pub(crate) fn sink<R: vmie_rows::Row>(&self, space: SpaceKind) -> Sink<'_> {
        let sink = Sink::stdout(self.output, R::SHAPE, space, &self.reporter);
        sink.of_member(self.member.clone())
    }

    /// Tells the user of an error; the exit status.
    pub(crate) fn tell(&self, ended: &Result<Done>) -> u8 {
        match ended {
            Err(Stop::Failed(failure)) => self.reporter.failure(failure),
            Err(Stop::Interrupted(failure)) => self.reporter.warn_failure(failure),
            Ok(_) | Err(Stop::ClosedPipe | Stop::Told) => {}
        }
        exit::status(ended, self.typed.strict)
    }

    /// The same for a source of several.
    pub(crate) fn of_member(&self, member: Member, threads: usize) -> Self {
        Self {
            output: self.output,
            typed: self.typed.clone(),
            threads,
            reporter: self.reporter.of_source(member.name(), {
                let member = member.clone();
                // A reader of the results who has gone is seen by who writes them.
                move |lines| drop(member.push(Piece::Said(lines)))
            }),
            member: Some(member),
        }
    }
}

/// The format that a variable of the environment asks for; a table where it is not set, or empty.
fn usual_format(value: Option<&OsStr>) -> std::result::Result<Format, Failure> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(Format::Table);
    };
    let text = value.to_string_lossy();
    Format::from_str(&text, false).map_err(|_| {
        let all = Format::value_variants().iter();
        let names =
            all.filter_map(|format| Some(format.to_possible_value()?.get_name().to_owned()));
        Failure::new(format!("{OUTPUT} is `{text}`, which is no format"))
            .hint(format!("one of {}", names.collect::<Vec<_>>().join(", ")))
            .hint("-o FORMAT, which goes before it")
    })
}

/// How many columns the terminal has that shows the results.
fn terminal_width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(std::io::stdout())?;
    Some(usize::from(width.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_may_choose_a_format() {
        let format = |value: &str| usual_format(Some(OsStr::new(value)));
        assert_eq!(usual_format(None), Ok(Format::Table));
        assert_eq!(format(""), Ok(Format::Table));
        assert_eq!(format("jsonl"), Ok(Format::Jsonl));
        let failure = format("yaml").expect_err("no format");
        assert!(failure.hints[0].contains("csv"), "{failure:?}");
    }
}
