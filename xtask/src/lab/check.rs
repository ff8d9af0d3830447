//! The tests that compare vmie's answers with what guests say.

use std::process::Command;

use vmie_lab::Snapshot;

use crate::{everything, target_dir};

/// Tests on guests are built for them only: without a guest they could only fail.
pub(super) const LAB_FEATURES: &str = "vmie-lab/guests,vmie-lab/live";

/// The command that runs the lab tests on these guests, with the `vmie` that has been built.
///
/// Nothing can be skipped unseen: a missing snapshot fails the tests, and `--test` fails when its
/// target is not built.
pub(crate) fn guest_tests(snapshots: &[Snapshot]) -> Command {
    let variants: Vec<&str> = snapshots
        .iter()
        .map(|snapshot| snapshot.variant.as_str())
        .collect();
    let mut command = everything("test");
    command
        .args(["--no-fail-fast", "--test", "guests", "--test", "linux"])
        .args(["--features", LAB_FEATURES])
        .env("VMIE_LAB", super::dir())
        .env("VMIE_LAB_VARIANTS", variants.join(","))
        .env("VMIE_BIN", target_dir().join("debug/vmie"));
    command
}
