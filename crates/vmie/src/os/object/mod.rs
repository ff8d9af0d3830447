//! Objects in the memory of a system: structures by the names of their members, lists and trees of them.
//!
//! Everything here takes its offsets from the system's own types and believes nothing that it reads: every pointer is
//! looked at before it is followed, every walk has a bound and sees loops, and what does not add up is a
//! [`Finding`](super::Finding).

mod array;
mod chain;
mod error;
mod findings;
mod list;
mod maple;
mod percpu;
mod plan;
mod pointer;
mod reader;
mod route;
#[cfg(test)]
mod tests;
mod tree;
mod typed;
mod walks;
mod xarray;

pub use array::Words;
pub use chain::Chain;
pub use error::{Known, ObjectError, Why};
pub use findings::{Budget, Findings, Walk};
pub use list::ring;
pub use maple::{Entry, MaplePlan};
pub use plan::{Part, Plan, Planner, Slot};
pub use pointer::{BadLink, address, link, read_text, until_nul};
pub use reader::Objects;
pub use tree::Tree;
pub use typed::Object;
pub use xarray::{XarrayEntry, XarrayPlan};
