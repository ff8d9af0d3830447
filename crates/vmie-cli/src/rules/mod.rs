//! YARA rules: from files to a scanner, and over a memory.
//!
//! The engine is the crate `boreal`. It sees memory as pieces, each a slice, and looks for the strings of
//! rules within each; then it evaluates the conditions once for all of them. So what matters is what a piece
//! is, see [`pieces`].

mod compile;
mod define;
mod includes;
mod mistakes;
mod pieces;

pub(crate) use compile::{MOST_MATCHES, Said, compile};
pub(crate) use pieces::{Bounds, Pieces};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the feature `yara` needs a 64-bit machine: its engine counts addresses in usize");
