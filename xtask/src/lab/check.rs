//! The tests that compare vmie's answers with what guests say.

use std::process::Command;

use vmie_lab::Snapshot;

use crate::{Fallible, everything, target_dir};

/// Tests on guests are built for them only: without a guest they could only fail.
pub(super) const LAB_FEATURES: &str = "vmie-lab/guests,vmie-lab/live,vmie-lab/volatility";

/// The command that runs the lab tests on these guests, with the `vmie` that has been built.
///
/// Nothing can be skipped unseen: a missing snapshot fails the tests, and `--test` fails when its
/// target is not built.
///
/// # Errors
///
/// When Volatility 3 is not there and cannot be installed.
pub(crate) fn guest_tests(snapshots: &[Snapshot]) -> Fallible<Command> {
    super::volatility::ensure()?;
    let variants: Vec<&str> = snapshots
        .iter()
        .map(|snapshot| snapshot.variant.as_str())
        .collect();
    let mut command = everything("test");
    command
        .args(["--no-fail-fast", "--test", "guests"])
        .args(["--test", "volatility"])
        .args(["--features", LAB_FEATURES])
        .env("VMIE_LAB", super::dir())
        .env("VMIE_LAB_VARIANTS", variants.join(","))
        .env("VMIE_BIN", target_dir().join("debug/vmie"));
    // Tests on scenes fail where there is none, and all others where there is nothing else.
    match snapshots.iter().filter(|snapshot| snapshot.scene).count() {
        0 => command.args(["--", "--skip", "scene::"]),
        scenes if scenes == snapshots.len() => command.args(["--", "scene::"]),
        _ => &mut command,
    };
    Ok(command)
}
