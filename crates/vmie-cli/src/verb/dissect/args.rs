//! What `dissect` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::addr::{RangeExpr, parse_len};
use crate::args::{BitsArg, SourceArgs, SpaceArgs};

#[derive(Args, Debug)]
pub(crate) struct DissectArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,

    /// The object: where it begins, or A..B (B excluded), A..+LEN, or a name
    #[arg(value_name = "ADDR|RANGE")]
    pub(crate) what: RangeExpr,

    /// How long the object is, where only its address is given, up to 64 KiB [default: 128]
    #[arg(long, value_name = "LEN", value_parser = parse_len)]
    pub(crate) len: Option<u64>,

    /// Compare all objects whose first word is that of this one (its virtual table), in memory that can
    /// be written
    #[arg(long)]
    pub(crate) like: bool,

    /// Look for those in an index that `refs --save` has written
    #[arg(
        long,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        requires = "like"
    )]
    pub(crate) index: Option<PathBuf>,

    /// How wide pointers are
    #[arg(long, value_name = "BITS", default_value = "auto")]
    pub(crate) bits: BitsArg,

    /// Print this instead of rows
    #[arg(long = "as", value_name = "FORM")]
    pub(crate) form: Option<DissectForm>,
}

/// What is printed instead of rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum DissectForm {
    /// A structure in C, with padding and comments
    C,
}
