//! Objects in the memory of a system: structures by the names of their members, lists and trees of them.
//!
//! Everything here takes its offsets from the system's own types and believes nothing that it reads: every pointer is
//! looked at before it is followed, every walk has a bound and sees loops, and what does not add up is a
//! [`Finding`](super::Finding).

mod findings;
mod list;
mod maple;
mod plan;
mod pointer;
mod xarray;

pub use findings::{Budget, Findings};
pub use list::ring;
pub use maple::{Entry, MaplePlan};
pub use plan::{Part, Plan, Planner, Slot};
pub use pointer::{BadLink, link, read_text, until_nul};
pub use xarray::XarrayPlan;
