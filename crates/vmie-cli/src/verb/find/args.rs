//! What `find` takes; to keep what it found, too, and to look at it again.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueHint};

use crate::args::{MoreArgs, SearchArgs, parse_align, several};

/// Headings in the help.
const AGAIN: &str = "Search again";
const WHAT: &str = "What to find";

/// What to look for: at least one value, text or sequence of bytes.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args([
    "u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "str", "utf16", "bytes",
    "refine",
]))]
pub(crate) struct FindArgs {
    #[command(flatten)]
    pub(crate) search: SearchArgs,
    #[command(flatten)]
    pub(crate) more: MoreArgs,

    /// Numbers of 8 bits: V, A..B (B excluded), A..=B
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) u8: Vec<String>,
    /// As --u8, signed
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) i8: Vec<String>,
    /// As --u8, of 16 bits, little-endian
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) u16: Vec<String>,
    /// As --u16, signed
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) i16: Vec<String>,
    /// As --u8, of 32 bits, little-endian
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) u32: Vec<String>,
    /// As --u32, signed
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) i32: Vec<String>,
    /// As --u8, of 64 bits, little-endian
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) u64: Vec<String>,
    /// As --u64, signed
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) i64: Vec<String>,

    /// Floats of 32 bits, equal as typed; V~T for those at most T off, A..B, A..=B
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) f32: Vec<String>,
    /// As --f32, of 64 bits
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) f64: Vec<String>,

    /// Text, in UTF-8 (which for English text is ASCII)
    #[arg(long, help_heading = WHAT, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) str: Vec<String>,

    /// Text, in UTF-16 with the low byte first, as Windows has it
    #[arg(long, help_heading = WHAT, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) utf16: Vec<String>,

    /// Bytes in hexadecimal, such as '4d 5a 90'
    #[arg(long, help_heading = WHAT, value_name = "HEX")]
    pub(crate) bytes: Vec<String>,

    /// Upper and lower case of texts are the same
    #[arg(short, long)]
    pub(crate) ignore_case: bool,

    /// Only at addresses that are multiples of N, a power of two
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_align)]
    pub(crate) align: u64,

    #[command(flatten)]
    pub(crate) again: RefineArgs,
}

several!(FindArgs, search.source);

#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("relation").multiple(true).args([
    "changed", "unchanged", "increased", "decreased", "eq", "ne", "increased_by", "decreased_by",
]))]
pub(crate) struct RefineArgs {
    /// Write all that is found to FILE, for --refine; --limit bounds the rows only
    #[arg(long, help_heading = AGAIN, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) save: Option<PathBuf>,

    /// Look again at what --save has written, and keep what is as asked now
    #[arg(
        long,
        help_heading = AGAIN,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        requires = "relation",
        conflicts_with_all = [
            "u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "str", "utf16",
            "bytes", "ignore_case", "align", "range", "perm",
        ]
    )]
    pub(crate) refine: Option<PathBuf>,

    /// With --refine: what is not as it was
    #[arg(long, help_heading = AGAIN, requires = "refine")]
    pub(crate) changed: bool,

    /// With --refine: what is as it was
    #[arg(
        long,
        help_heading = AGAIN,
        requires = "refine",
        conflicts_with_all = ["changed", "increased", "decreased", "increased_by", "decreased_by"]
    )]
    pub(crate) unchanged: bool,

    /// With --refine: numbers that are more than they were
    #[arg(
        long,
        help_heading = AGAIN,
        requires = "refine",
        conflicts_with_all = ["decreased", "decreased_by"]
    )]
    pub(crate) increased: bool,

    /// With --refine: numbers that are less than they were
    #[arg(long, help_heading = AGAIN, requires = "refine", conflicts_with = "increased_by")]
    pub(crate) decreased: bool,

    /// With --refine: numbers as when they are searched for, text or bytes that begin so
    #[arg(long, help_heading = AGAIN, requires = "refine", value_name = "V", allow_hyphen_values = true)]
    pub(crate) eq: Option<String>,

    /// With --refine: all that --eq would leave out
    #[arg(long, help_heading = AGAIN, requires = "refine", value_name = "V", allow_hyphen_values = true)]
    pub(crate) ne: Option<String>,

    /// With --refine: numbers that are more by this: V, A..B, A..=B, of floats V~T
    #[arg(long, help_heading = AGAIN, requires = "refine", value_name = "V", allow_hyphen_values = true)]
    pub(crate) increased_by: Option<String>,

    /// With --refine: numbers that are less by this
    #[arg(
        long,
        help_heading = AGAIN,
        requires = "refine",
        value_name = "V",
        allow_hyphen_values = true,
        conflicts_with = "increased_by"
    )]
    pub(crate) decreased_by: Option<String>,
}
