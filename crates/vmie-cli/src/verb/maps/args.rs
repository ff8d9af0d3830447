//! What `maps` takes.

use clap::Args;

use crate::args::{EachArgs, FilterArgs, MoreArgs, SourceArgs, SpaceArgs, several};

#[derive(Args, Clone, Debug)]
pub(crate) struct MapsArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) more: MoreArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    #[command(flatten)]
    pub(crate) everywhere: EachArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    /// A row per physically contiguous extent, with its frame and page size
    #[arg(long)]
    pub(crate) extents: bool,

    /// A row for each mapping that the process has arranged, with or without pages, as in
    /// /proc/PID/maps
    #[arg(long, conflicts_with_all = ["extents", "phys", "cr3", "kernel"])]
    pub(crate) vmas: bool,
}

several!(MapsArgs, source);
