//! `vmie completions SHELL`: a completion script on standard output.

use std::io::Write as _;

use clap::Args;
use clap_complete::Shell;

use crate::exit::{Done, Result, Stop};
use crate::whole::Whole;

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, whole: &Whole) -> Result<Done> {
    // Into memory first: clap_complete panics when a write fails, and a closed pipe is no bug.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut (whole.command)(), "vmie", &mut script);
    std::io::stdout()
        .write_all(&script)
        .map_err(|error| Stop::writing(&error))?;
    Ok(Done::FOUND)
}
