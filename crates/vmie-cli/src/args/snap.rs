//! What `vmie snap` takes.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::{FilterArgs, SourceArgs, SpaceArgs};

/// What to do with moments of memory.
#[derive(Subcommand, Debug)]
pub(crate) enum SnapArgs {
    /// Keep what a space maps now in a file
    Take(Box<SnapTakeArgs>),
    /// Compare a moment with another, or with now
    Diff(Box<SnapDiffArgs>),
}

#[derive(Args, Debug)]
pub(crate) struct SnapTakeArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    /// Write the snapshot to this file, which appears when it is whole
    #[arg(short = 'O', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,

    /// How to compress it
    #[arg(long, value_name = "METHOD", default_value = "lz4")]
    pub(crate) compress: Compress,
}

/// How snapshots are compressed, as typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Compress {
    /// Not at all
    None,
    /// Quickly
    Lz4,
    /// Well
    Zstd,
}

#[derive(Args, Debug)]
pub(crate) struct SnapDiffArgs {
    /// The earlier moment: a snapshot, or an image (then the space is the same in both)
    #[arg(value_name = "BEFORE", value_hint = ValueHint::FilePath)]
    pub(crate) before: PathBuf,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    /// A row per region or page with changed bytes, instead of one per run of them
    #[arg(long, value_name = "WHAT")]
    pub(crate) group_by: Option<GroupBy>,

    /// Show the bytes of both sides, changes highlighted
    #[arg(long)]
    pub(crate) hexdump: bool,
}

/// What changes are summed up by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum GroupBy {
    /// Regions as they are now
    Region,
    /// Pages of 4 KiB
    Page,
}
