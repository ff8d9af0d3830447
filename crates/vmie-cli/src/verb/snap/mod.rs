//! `vmie snap`: snapshots of memory, kept and compared.

mod args;
mod diff;
mod dump;
mod series;
mod take;
mod watch;

use crate::exit::{Done, Result};
use crate::options::Options;
pub(super) use args::SnapArgs;

pub(super) fn run(args: &SnapArgs, options: &Options) -> Result<Done> {
    match args {
        SnapArgs::Take(args) => take::run(args, options),
        SnapArgs::Diff(args) => diff::run(args, options),
        SnapArgs::Watch(args) => watch::run(args, options),
        SnapArgs::Series(args) => series::run(args, options),
    }
}
