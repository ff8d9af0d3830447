//! What several verbs take: where memory comes from, which memory is meant, how results look. What one verb takes
//! stands with the verb.
//!
//! Nothing here looks at a file or a terminal. [`options`](crate::options) and
//! [`space`](crate::space) turn what was typed into what to do.
//!
//! Headings in the help are set on each argument: a heading of a flattened group would spread to the arguments
//! behind it.

mod bits;
mod engine;
mod global;
mod pointers;
mod search;
mod source;
mod space;

pub(crate) use bits::BitsArg;
pub(crate) use engine::EngineArgs;
pub(crate) use global::{GlobalArgs, When};
pub(crate) use pointers::{INDEX, PointerArgs, parse_align};
pub(crate) use search::{
    AllArgs, EachArgs, EverywhereArgs, FilterArgs, SearchArgs, parse_perm, perm_letters,
};
pub(crate) use source::{LayersArgs, MoreArgs, SOURCE, Several, SourceArgs, several};
pub(crate) use space::{NarrowArgs, OwnerArgs, Paging, SpaceArgs};
