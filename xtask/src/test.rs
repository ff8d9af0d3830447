//! `cargo xtask test`: every test there is.

use std::process::ExitStatus;

use vmie_lab::Snapshot;

use crate::{Fallible, build_for_tests, everything, lab};

pub(crate) fn run_all(args: &[&str]) -> Fallible<()> {
    let with_lab = match args {
        [] => true,
        ["--no-lab"] => false,
        _ => return Err("usage: cargo xtask test [--no-lab]".into()),
    };
    let mut results: Vec<(&str, bool)> = Vec::new();
    if with_lab {
        // Before anything else: what cannot be installed should be known at once.
        crate::tools::ensure()?;
    }
    crate::tools::ensure_for_c()?;
    let workspace = everything("test").arg("--no-fail-fast").status()?;
    results.push(("workspace tests", workspace.success()));
    let mut snapshots = Vec::new();
    if with_lab {
        let lab = lab_tests(&mut snapshots);
        if let Err(error) = &lab {
            eprintln!("{error}");
        }
        let ok = lab.is_ok_and(|status| status.success());
        results.push(("tests on lab guests", ok));
        let live = lab::live_tests();
        if let Err(error) = &live {
            eprintln!("{error}");
        }
        let ok = live.is_ok_and(|status| status.success());
        results.push(("tests on running guests", ok));
    }
    let c = crate::capi::test(with_lab.then_some(&snapshots[..]));
    if let Err(error) = &c {
        eprintln!("{error}");
    }
    results.push(("tests of the C library", c.is_ok()));
    println!();
    for (what, ok) in &results {
        println!("{what}: {}", if *ok { "ok" } else { "FAILED" });
    }
    if !with_lab {
        println!("tests on lab guests and on running guests: LEFT OUT (--no-lab)");
    }
    if results.iter().all(|(_, ok)| *ok) {
        Ok(())
    } else {
        Err("tests failed".into())
    }
}

/// Builds the lab, hands out its snapshots, and compares vmie's answers with the truth. A guest that does not
/// start is a failure.
fn lab_tests(snapshots: &mut Vec<Snapshot>) -> Fallible<ExitStatus> {
    *snapshots = lab::build_standard()?;
    let all = [&snapshots[..], &lab::build_scenes()?].concat();
    build_for_tests()?;
    Ok(lab::guest_tests(&all)?.status()?)
}
