//! Every engine finds the same, whether it is asked for by option or by environment.

use crate::support::{SIG, command, guest, in_space};

/// All that `--engine` takes.
const ENGINES: [&str; 7] = [
    "auto", "avx512", "avx2", "portable", "anchored", "dense", "naive",
];

/// Signatures of every kind: literal, masked, with jumps, without anchors.
const SIGNATURES: [&str; 8] = [
    "-s",
    SIG,
    "-s",
    "E8 [1-9] (00 | C3)",
    "-s",
    "~00 0? 0?",
    "-s",
    "00 00 00 00 E8 22",
];

#[test]
fn every_engine_finds_the_same() {
    let scan = |engine: &str| {
        let more = ["--engine", engine, "--range", "..0x800000000000", "-v"];
        in_space("scan", &[&SIGNATURES[..], &more].concat())
    };
    let judge = scan("naive");
    assert_eq!(judge.status, 0, "{}", judge.err);
    assert!(judge.out.lines().count() > 4, "{}", judge.out);
    for engine in ENGINES {
        let run = scan(engine);
        if run.status == 2 {
            // Not this machine.
            assert!(engine.starts_with("avx"), "{}", run.err);
            let said = format!("this machine cannot run the engine {engine}");
            assert!(run.err.contains(&said), "{}", run.err);
            assert!(run.err.contains("try: --engine"), "{}", run.err);
            continue;
        }
        assert_eq!(run.out, judge.out, "{engine}");
        assert!(
            engine == "auto" || run.err.contains(&format!("found by the engine {engine}")),
            "{engine}: {}",
            run.err
        );
    }
}

#[test]
fn the_environment_names_an_engine_and_the_option_wins() {
    let said = |value: &str, args: &[&str]| {
        let run = command()
            .args(["sig", "explain", "-v", "48 8B 05 90 90"])
            .args(args)
            .env("VMIE_ENGINE", value)
            .output()
            .expect("runs");
        (
            run.status.code(),
            String::from_utf8_lossy(&run.stderr).into_owned(),
        )
    };
    let (status, err) = said("dense", &[]);
    assert_eq!(status, Some(0));
    assert!(err.contains("engine dense"), "{err}");
    let (status, err) = said("dense", &["--engine", "portable"]);
    assert_eq!(status, Some(0));
    assert!(err.contains("engine portable"), "{err}");
    let (status, err) = said("fast", &[]);
    assert_eq!(status, Some(2));
    assert!(err.contains("there is no engine `fast`"), "{err}");
    // Other verbs do not care.
    let run = command()
        .args(["info", &guest().elf()])
        .env("VMIE_ENGINE", "fast")
        .output()
        .expect("runs");
    assert_eq!(run.status.code(), Some(0));
}
