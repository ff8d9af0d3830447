//! `cargo xtask bench`: all benchmarks of the workspace.

use crate::{Fallible, cargo};

pub(crate) fn run(args: &[&str]) -> Fallible<()> {
    crate::run(cargo().args(["bench", "--workspace"]).args(args))
}
