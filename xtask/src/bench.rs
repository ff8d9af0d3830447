//! `cargo xtask bench`: the table of BENCHMARKS.md, every figure from one run.

use crate::{Fallible, cargo, target_dir};

pub(crate) fn run(args: &[&str]) -> Fallible<()> {
    let dir = target_dir().join("bench");
    crate::run(
        cargo()
            .args(["run", "--release", "--quiet", "-p", "vmie-bench", "--"])
            .arg(dir)
            .args(args),
    )
}
