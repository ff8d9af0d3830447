//! Where to look: which spaces, and which regions of them.

use clap::Args;
use vmie::Prot;

use super::space::SPACE;
use super::{SourceArgs, SpaceArgs};
use crate::addr::RangeExpr;

/// Which regions to look at.
#[derive(Args, Clone, Debug)]
pub(crate) struct FilterArgs {
    /// Only these addresses
    #[arg(long, value_name = "RANGE")]
    pub(crate) range: Option<RangeExpr>,

    /// Only regions with at least these protections: letters of rwx, and u for user mode
    #[arg(long, value_name = "PERM", value_parser = parse_perm)]
    pub(crate) perm: Option<Prot>,
}

/// For what looks at many spaces at once.
#[derive(Args, Clone, Debug)]
pub(crate) struct EverywhereArgs {
    /// Every process that has memory, each physical frame looked at once; with --kernel, the kernel too
    #[arg(
        long,
        help_heading = SPACE,
        conflicts_with_all = ["pid", "process", "cr3", "phys", "paging"]
    )]
    pub(crate) all_processes: bool,
}

/// For what looks at many spaces one by one.
#[derive(Args, Clone, Debug)]
pub(crate) struct EachArgs {
    /// Every process that has memory, names looked up in each; with --kernel, the kernel too
    #[arg(
        long,
        help_heading = SPACE,
        conflicts_with_all = ["pid", "process", "cr3", "phys", "paging"]
    )]
    pub(crate) all_processes: bool,
}

/// For what processes have, one by one.
#[derive(Args, Clone, Debug)]
pub(crate) struct AllArgs {
    /// Every process that has memory; with --kernel, the kernel too
    #[arg(long, help_heading = SPACE, conflicts_with_all = ["pid", "process"])]
    pub(crate) all_processes: bool,
}

/// Where to search.
#[derive(Args, Clone, Debug)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    #[command(flatten)]
    pub(crate) everywhere: EverywhereArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

pub(crate) fn parse_perm(text: &str) -> Result<Prot, String> {
    Prot::parse(text)
        .filter(|&prot| prot != Prot::NONE)
        .ok_or_else(|| format!("`{text}` is not a set of r, w, x and u, such as rx"))
}

/// Protections as `--perm` takes them.
pub(crate) fn perm_letters(perm: Prot) -> String {
    let user = if perm.user() { "u" } else { "" };
    format!("{perm}{user}").replace('-', "")
}
