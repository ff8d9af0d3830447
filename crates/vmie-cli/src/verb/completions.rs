//! `vmie completions SHELL`: a completion script on standard output.

use std::io::Write as _;

use clap::CommandFactory as _;

use crate::args::{Cli, CompletionsArgs};
use crate::exit::{Done, Result, Stop};

pub(super) fn run(args: &CompletionsArgs) -> Result<Done> {
    // Into memory first: clap_complete panics when a write fails, and a closed pipe is no bug.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vmie", &mut script);
    std::io::stdout()
        .write_all(&script)
        .map_err(|error| Stop::writing(&error))?;
    Ok(Done::FOUND)
}
