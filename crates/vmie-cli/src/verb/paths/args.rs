//! What `paths` takes.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::addr::{AddrExpr, RangeExpr, parse_len, parse_u64};
use crate::args::{INDEX, PointerArgs, SourceArgs, SpaceArgs};

#[derive(Args, Debug)]
pub(crate) struct PathsArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,

    /// Where paths lead
    #[arg(value_name = "ADDR")]
    pub(crate) target: AddrExpr,

    /// Paths begin in this range (A..B, A..+LEN), or in what has this name: a module, a region, a symbol
    #[arg(long, value_name = "RANGE")]
    pub(crate) from: Vec<RangeExpr>,

    /// Paths begin with this pointer: the value of a register
    #[arg(long, value_name = "ADDR")]
    pub(crate) from_value: Vec<AddrExpr>,

    /// The most pointers that are followed
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub(crate) depth: u32,

    /// The largest offset that is added to a pointer
    #[arg(long, value_name = "LEN", default_value = "0x400", value_parser = parse_len)]
    pub(crate) max_offset: u64,

    /// Pointers may lead so far behind where the path goes on (negative offsets)
    #[arg(long, value_name = "LEN", default_value = "0", value_parser = parse_len)]
    pub(crate) back: u64,

    /// Leave out paths that come to a place twice
    #[arg(long)]
    pub(crate) no_loops: bool,

    #[command(flatten)]
    pub(crate) pointer: PointerArgs,

    /// Keep the paths that can be followed in this image as well, from the same module and offset; may
    /// be given several times
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) also: Vec<PathBuf>,

    /// Where the path must lead in the first, second ... --also
    #[arg(long, value_name = "ADDR", requires = "also")]
    pub(crate) also_to: Vec<AddrExpr>,

    /// The process in the first, second ... --also, where its number differs
    #[arg(long, value_name = "N", requires = "also")]
    pub(crate) also_pid: Vec<u32>,

    /// The page-table root in the first, second ... --also
    #[arg(long, value_name = "GPA", requires = "also", conflicts_with = "also_pid", value_parser = parse_u64)]
    pub(crate) also_cr3: Vec<u64>,

    /// Ask an index that `refs --save` has written
    #[arg(
        long,
        help_heading = INDEX,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        conflicts_with_all = ["bits", "align"]
    )]
    pub(crate) index: Option<PathBuf>,

    /// Read all of memory once for each pointer of depth instead of building an index
    #[arg(long, help_heading = INDEX, conflicts_with = "index")]
    pub(crate) no_index: bool,
}
