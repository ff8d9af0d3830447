//! Answers about a guest: what the verbs have in common that ask one view of all processes, or of one.

use clap::Args;

use crate::args::{MoreArgs, NarrowArgs, SourceArgs, several};
use crate::exit::{Done, Result};
use crate::options::Options;
use crate::output::{Row, SpaceKind};

/// What all of them take; those that take nothing else have these for their arguments.
#[derive(Args, Clone, Debug)]
pub(crate) struct AnswerArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) more: MoreArgs,
    #[command(flatten)]
    pub(crate) narrow: NarrowArgs,
}

several!(AnswerArgs, source);

/// Prints a row for each of the items, or says in a note why there are `none`. `complete` is whether the view missed nothing.
pub(crate) fn print<T, R: Row>(
    options: &Options,
    complete: bool,
    items: impl IntoIterator<Item = T>,
    row: impl Fn(T) -> R,
    none: &str,
) -> Result<Done> {
    let mut sink = options.sink::<R>(SpaceKind::Virtual);
    for item in items {
        if sink.row(&row(item))?.is_break() {
            break;
        }
    }
    let found = sink.rows() > 0;
    if !found {
        options.reporter.note(none);
    }
    sink.finish(None)?;
    Ok(Done { found, complete })
}
