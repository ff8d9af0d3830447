//! What `xref` takes.

use clap::Args;
use vmie::Prot;

use crate::addr::RangeExpr;
use crate::args::{
    BitsArg, EachArgs, EverywhereArgs, FilterArgs, MoreArgs, SearchArgs, SourceArgs, SpaceArgs,
    parse_perm, several,
};

#[derive(Args, Clone, Debug)]
pub(crate) struct XrefArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) more: MoreArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    #[command(flatten)]
    pub(crate) everywhere: EachArgs,

    /// References to an address, or to any of a range; may be given several times
    #[arg(long, value_name = "ADDR|RANGE", required_unless_present_any = ["str", "all"])]
    pub(crate) to: Vec<RangeExpr>,

    /// References to every place where this text stands (UTF-8); may be given several times
    #[arg(long, value_name = "TEXT", conflicts_with = "to")]
    pub(crate) str: Vec<String>,

    /// All references to where something is mapped, by target
    #[arg(long, conflicts_with_all = ["to", "str", "all_processes"])]
    pub(crate) all: bool,

    /// Only references from these addresses
    #[arg(long, value_name = "RANGE")]
    pub(crate) range: Option<RangeExpr>,

    /// Only code in regions with at least these protections: letters of rwx, and u for user mode
    #[arg(long, value_name = "PERM", default_value = "x", value_parser = parse_perm)]
    pub(crate) perm: Prot,

    /// How wide code is
    #[arg(long, value_name = "BITS", default_value = "auto")]
    pub(crate) bits: BitsArg,

    /// Only instructions at which a decode of the bytes before arrives: fewer false ones
    #[arg(long)]
    pub(crate) linear: bool,
}

several!(XrefArgs, source);

impl XrefArgs {
    /// Where to search, for a search of one space.
    pub(super) fn search(&self) -> SearchArgs {
        SearchArgs {
            source: self.source.clone(),
            space: self.space.clone(),
            everywhere: EverywhereArgs {
                all_processes: false,
            },
            filter: FilterArgs {
                range: self.range.clone(),
                perm: Some(self.perm),
            },
        }
    }
}
