//! `vmie scan --yara` beside `vmie scan -s`: two engines that share nothing, asked for the same bytes.

use std::fs;
use std::path::Path;

use serde_json::Value;
use vmie::{Gva, Memory as _};
use vmie_lab::{ImageFormat, Snapshot};

use crate::command::run_bare;
use crate::objects::objects;
use crate::support::{raw, snapshots, space};

/// Functions of the programs, and how many bytes are taken of each.
const FUNCTIONS: [&str; 3] = ["lab_mix", "lab_advance", "lab_find"];
const LEN: usize = 24;

/// The same bytes as signatures in a file and as rules in another, of all programs.
fn write(snapshot: &Snapshot, dir: &Path) -> [String; 2] {
    let (mut signatures, mut rules) = (String::new(), String::new());
    let programs = snapshot.programs().expect("readable");
    for (number, program) in objects(&programs).enumerate() {
        let root = snapshot.root_of(program.pid).expect("a busy program");
        let space = space(snapshot, raw(snapshot), root);
        let mut strings = String::new();
        for function in FUNCTIONS {
            let mut code = [0; LEN];
            space
                .read(Gva(program.symbols[function]), &mut code)
                .expect("it runs at every tick");
            let mut hex: Vec<String> = code.iter().map(|byte| format!("{byte:02X}")).collect();
            hex[LEN / 2] = "??".to_owned();
            let hex = hex.join(" ");
            signatures += &format!("p{number}_{function} = \"{hex}\"\n");
            strings += &format!("  ${function} = {{ {hex} }}\n");
        }
        rules += &format!("rule p{number} {{ strings:\n{strings} condition: any of them }}\n");
    }
    assert!(rules.contains("rule p2 "), "static, static-PIE, dynamic");
    let path = |name: &str| dir.join(name).display().to_string();
    fs::write(path("sigs.toml"), signatures).expect("writes");
    fs::write(path("rules.yar"), rules).expect("writes");
    [path("sigs.toml"), path("rules.yar")]
}

/// What a row says, whichever engine it is from.
fn plain(row: &Value) -> (String, String, String) {
    let sig = match row["rule"].as_str() {
        Some(rule) => format!(
            "{rule}_{}",
            row["sig"].as_str().expect("text").trim_start_matches('$')
        ),
        None => row["sig"].as_str().expect("text").to_owned(),
    };
    (row["pid"].to_string(), row["va"].to_string(), sig)
}

#[test]
fn rules_find_what_signatures_find() {
    for snapshot in snapshots() {
        let dir =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("rules-{}", snapshot.variant));
        fs::create_dir_all(&dir).expect("a directory");
        let [signatures, rules] = write(&snapshot, &dir);
        let image = snapshot.image(ImageFormat::Raw).expect("a raw image");
        let pid = snapshot.current.pid.to_string();
        let large = snapshot.machine.ram > 1 << 30;
        let mut spaces = vec![vec!["--pid", &pid], vec!["--all-processes"]];
        // The kernel maps all of physical memory.
        if !large {
            spaces.extend([vec!["--phys"], vec!["--all-processes", "--kernel"]]);
        }
        for space in spaces {
            let name = format!("{}: {space:?}", snapshot.variant);
            let run = |what: [&str; 2]| {
                let (rows, status) =
                    run_bare(&snapshot, image, "scan", &[&what[..], &space].concat());
                assert_eq!(status, 0, "{name}");
                let mut rows: Vec<_> = rows.iter().map(plain).collect();
                rows.sort();
                rows
            };
            let found = run(["--yara", &rules]);
            assert!(found.len() >= FUNCTIONS.len(), "{name}");
            assert_eq!(found, run(["-f", &signatures]), "{name}");
        }
        fs::remove_dir_all(&dir).expect("removes");
    }
}
