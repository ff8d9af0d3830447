//! What to do, out of what was typed and where the output goes.
//!
//! The only place that asks whether a stream is a terminal or what the environment says. Verbs get
//! the decisions.

use std::io::IsTerminal as _;

use anstream::{AutoStream, ColorChoice};

use crate::args::{GlobalArgs, When};
use crate::output::{Format, Output, Sink, SpaceKind};
use crate::report::{Level, Reporter};

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
}

impl Options {
    /// Decides.
    pub(crate) fn new(args: &GlobalArgs) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let format = args.output.unwrap_or(if terminal {
            Format::Table
        } else {
            Format::Jsonl
        });
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
        Self {
            output: Output {
                format,
                color: stdout != ColorChoice::Never,
                terminal,
                limit: args.limit,
            },
            typed: args.clone(),
            threads: args.threads.map_or(0, usize::from),
            reporter: Reporter::new(level, stderr),
        }
    }

    /// Where rows of a kind go.
    pub(crate) fn sink<R: vmie_rows::Row>(&self, space: SpaceKind) -> Sink<'_> {
        Sink::stdout(self.output, R::SHAPE, space, &self.reporter)
    }
}
