//! `cargo xtask lab damage`: what overwritten pages of a guest's memory cost.
//!
//! The work is done by an example of the crate `vmie-lab`, in one process and as fast as the machine
//! allows: ten thousand pages are overwritten one by one. It is not part of the lab's own code, of
//! which every change makes snapshots anew.

use vmie_lab::STANDARD;

use crate::{Fallible, cargo, run as run_command};

/// Kernels of whose memory a part of all pages is overwritten: one of each series.
const SPREAD: [&str; 2] = ["pc-6.1", "q35-6.12"];

/// Runs `cargo xtask lab damage ARGS`.
pub(crate) fn run(args: &[&str]) -> Fallible<()> {
    let from = args.iter().position(|arg| arg.starts_with("--"));
    let (variants, options) = args.split_at(from.unwrap_or(args.len()));
    let (pages, spread): (&[&str], &[&str]) = match variants {
        [] => (&STANDARD, &SPREAD),
        named => (named, named),
    };
    let jobs = pages.iter().map(|variant| ("pages", variant));
    let jobs = jobs.chain(spread.iter().map(|variant| ("spread", variant)));
    let mut failed = Vec::new();
    for (how, variant) in jobs {
        let mut command = cargo();
        command
            .args(["run", "--quiet", "--release", "-p", "vmie-lab"])
            .args(["--features", "guests", "--example", "damage", "--"])
            .args([how, variant])
            .args(options);
        if run_command(&mut command).is_err() {
            failed.push(format!("{how} {variant}"));
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("damage costs too much: {}", failed.join(", ")).into()),
    }
}
