//! What every verb takes.

use clap::{Args, ValueEnum};

use crate::output::Format;

/// Heading in the help.
const GLOBAL: &str = "Global options";

/// What every verb takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct GlobalArgs {
    /// Shape of the results [default: table; VMIE_OUTPUT sets another]
    #[arg(short, long, global = true, help_heading = GLOBAL, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,

    /// Leave long cells of tables as they are; on a terminal they are cut to its width otherwise
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) wide: bool,

    /// Threads to use [default: one per CPU]
    #[arg(short = 'j', long, global = true, help_heading = GLOBAL, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,

    /// Stop after N rows
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,

    /// Exit with status 3 when a part could not be looked at
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) strict: bool,

    /// When to use colour
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,

    /// Print errors only: no warnings, notes, progress or coverage
    #[arg(short, long, global = true, help_heading = GLOBAL, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print more details on standard error
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(crate) verbose: bool,
}

/// When to use colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}
