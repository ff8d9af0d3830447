//! `scan --yara` as its users see it.
#![cfg(feature = "yara")]

use std::fs::{self, File};

use serde_json::{Value, json};
use vmie_synth::guest::{Flags, Machine, PageSize, Paging, Space};
use vmie_synth::write::{self, Elf};

use crate::support::{Run, check_document, for_rows, in_space, rows};

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x7f00_0000_0000;

const RULES: &str = r#"
rule Across : border demo {
    meta:
        author = "nobody"
        level = 3
        sure = true
    strings:
        $text = "across the border"
        $hex = { DE AD [2-4] BE EF }
        $wide = "wide" wide fullword
    condition:
        all of them
}
rule Counted { strings: $a = "twice" $ = "two of a kind" condition: #a == 2 and any of them }
private rule Hidden { strings: $a = "twice" condition: $a }
rule Bare { condition: Hidden }
rule Absent { strings: $a = "not in the image" condition: $a }
rule Number { strings: $a = "twice" condition: for any i in (1..#a): (uint32(@a[i] + 5) == 0x11223344) }
"#;

struct Guest {
    dir: tempfile::TempDir,
    cr3: String,
}

impl Guest {
    /// Four pages whose frames lie apart and in falling order, in two regions, and a page that is absent.
    fn new() -> Self {
        let mut machine = Machine::new(0..4 << 20);
        let space = Space::new(&mut machine, Paging::FourLevel);
        let mut frames: Vec<u64> = (0..9).map(|_| machine.frames.alloc()).collect();
        frames.sort_unstable();
        frames.reverse();
        let flags = [Flags::CODE, Flags::CODE, Flags::DATA, Flags::DATA];
        for (page, flags) in flags.into_iter().enumerate() {
            let (va, frame) = (CODE + 0x1000 * page as u64, frames[2 * page]);
            space.map(&mut machine, va, frame, PageSize::Size4K, flags);
        }
        space.map(&mut machine, DATA, frames[8], PageSize::Size4K, Flags::DATA);
        let mut put = |at: u64, bytes: &[u8]| space.write(&mut machine, at, bytes);
        put(CODE + 0xff8, b"across the border");
        put(CODE + 0x1ffd, b"\xde\xad\x01\x02\x03\xbe\xef");
        put(CODE + 0x2ffb, b" \0w\0i\0d\0e\0.\0");
        put(CODE + 0x3100, b"twice\x44\x33\x22\x11");
        put(CODE + 0x3200, b"twice");
        put(DATA, b"not in the image");
        machine.phys.make_absent(frames[8]..frames[8] + 0x1000);
        let dir = tempfile::tempdir().expect("a directory");
        let ranges = machine.phys.ranges().to_vec();
        let mut source =
            |gpa: u64, buf: &mut [u8]| machine.phys.read(gpa, buf).map_err(std::io::Error::other);
        let mut file = File::create(dir.path().join("guest.elf")).expect("a file");
        write::elf(&mut file, &ranges, &mut source, &Elf::default()).expect("writes");
        fs::write(dir.path().join("demo.yar"), RULES).expect("writes");
        let cr3 = format!("{:#x}", space.root());
        Self { dir, cr3 }
    }

    fn run(&self, space: &[&str], args: &[&str]) -> Run {
        let mut command = for_rows();
        command.current_dir(self.dir.path());
        command.args(["scan", "guest.elf"]).args(space).args(args);
        command.output().expect("runs").into()
    }

    fn scan(&self, args: &[&str]) -> Run {
        self.run(&["--cr3", &self.cr3, "--paging", "4level"], args)
    }
}

fn plain(row: &Value) -> (Value, &str, &str, Value) {
    let text = |key: &str| row[key].as_str().unwrap_or("-");
    (
        row["va"].clone(),
        text("rule"),
        text("sig"),
        row["len"].clone(),
    )
}

#[test]
fn strings_are_found_across_pages_and_regions() {
    let guest = Guest::new();
    let run = guest.scan(&["--yara", "demo.yar"]);
    assert_eq!(run.status, 0, "{}", run.err);
    let all = rows(&run);
    let found: Vec<_> = all.iter().map(plain).collect();
    let at = |offset: u64| json!(format!("{:#x}", CODE + offset));
    assert_eq!(
        found,
        [
            (Value::Null, "Bare", "-", Value::Null),
            (at(0xff8), "Across", "$text", json!(17)),
            (at(0x1ffd), "Across", "$hex", json!(7)),
            (at(0x2ffd), "Across", "$wide", json!(8)),
            (at(0x3100), "Counted", "$a", json!(5)),
            (at(0x3100), "Number", "$a", json!(5)),
            (at(0x3200), "Counted", "$a", json!(5)),
            (at(0x3200), "Number", "$a", json!(5)),
        ]
    );
    assert_eq!(all[1]["namespace"], "demo");
    assert_eq!(all[1]["tags"], json!(["border", "demo"]));
    let meta = json!({"author": "nobody", "level": 3, "sure": true});
    assert_eq!(all[1]["meta"], meta);
    assert!(
        run.err.contains("20 KiB mapped, 16 KiB read, 4 KiB absent"),
        "{}",
        run.err
    );
    assert_eq!(guest.scan(&["--yara", "demo.yar", "--strict"]).status, 3);
}

#[test]
fn filters_context_limits_and_formats_are_those_of_signatures() {
    let guest = Guest::new();
    // Without the pages that are only read, `Across` lacks a string.
    let run = guest.scan(&["--yara", "demo.yar", "--perm", "w"]);
    assert!(
        rows(&run).iter().all(|row| row["rule"] != "Across"),
        "{}",
        run.out
    );
    let run = guest.scan(&["--yara", "demo.yar", "--range", "0x403200..+0x100"]);
    assert_eq!(rows(&run).len(), 1, "{}", run.out);
    let run = guest.scan(&["--yara", "demo.yar", "--context", "4", "--limit", "2"]);
    let all = rows(&run);
    assert_eq!(all.len(), 2);
    assert!(all[0].get("context").is_none());
    let context = json!({"va": "0x400ff4", "bytes": "0000000061637276"});
    assert_eq!(all[1]["context"]["va"], context["va"]);
    assert_eq!(all[1]["context"]["bytes"], "000000006163726f");
    let run = guest.scan(&["--yara", "demo.yar", "-o", "csv"]);
    let header = run.out.lines().next().expect("a header");
    assert_eq!(header, "va,sig,rule,namespace,tags,meta,len");
    let run = guest.scan(&["--yara", "demo.yar", "-o", "json"]);
    let json: Value = serde_json::from_str(&run.out).expect("one document");
    check_document(&json);
    assert_eq!(json["schema"], "vmie.scan-yara/1");
    assert_eq!(json["coverage"]["absent"], 0x1000);
    // What was looked at is what a signature would have looked at.
    for args in [
        &[][..],
        &["--range", "0x401000..0x7f0000001000"],
        &["--perm", "w"],
    ] {
        let coverage = |what: [&str; 2]| {
            let run = guest.scan(&[&what[..], args, &["-o", "json"]].concat());
            let json: Value = serde_json::from_str(&run.out).expect("one document");
            json["coverage"].clone()
        };
        assert_eq!(
            coverage(["--yara", "demo.yar"]),
            coverage(["-s", "90 90 90"])
        );
    }
    // The same bytes in physical memory: what lies across pages does not lie together there.
    let run = guest.run(&["--phys"], &["--yara", "demo.yar", "-o", "table"]);
    assert_eq!(run.status, 0, "{}", run.err);
    assert!(
        run.out.contains("Counted") && !run.out.contains("Across"),
        "{}",
        run.out
    );
    assert!(run.out.contains("gpa"), "{}", run.out);
}

#[test]
fn a_string_without_end_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("zeros.yar");
    fs::write(
        &path,
        "rule z { strings: $a = { 00 00 00 00 } condition: $a }",
    )
    .expect("writes");
    let path = path.display().to_string();
    let run = in_space("scan", &["--yara", &path, "--limit", "3", "--strict"]);
    assert_eq!(rows(&run).len(), 3);
    let said = "$a of z is there more than 10000 times: the rest is neither shown nor counted";
    assert!(run.err.contains(said), "{}", run.err);
    assert_eq!(run.status, 3);
}

#[test]
fn nothing_nowhere_and_mistakes_are_told_apart() {
    let guest = Guest::new();
    let write = |name: &str, text: &str| {
        fs::write(guest.dir.path().join(name), text).expect("writes");
    };
    write(
        "none.yar",
        "rule none { strings: $a = \"nowhere at all\" condition: $a }",
    );
    let run = guest.scan(&["--yara", "none.yar"]);
    assert_eq!((run.status, &*run.out), (1, ""), "{}", run.err);
    // All of it is absent: not an answer, also for rules without strings.
    let run = guest.scan(&["--yara", "demo.yar", "--range", "0x7f0000000000..+0x1000"]);
    assert_eq!((run.status, &*run.out), (2, ""), "{}", run.err);
    write(
        "bad.yar",
        "rule a {\n condition: $x }\nrule b { condition: y }",
    );
    write(
        "module.yar",
        "import \"magic\"\nrule c { condition: magic.type() == \"\" }",
    );
    let run = guest.scan(&["--yara", "bad.yar", "--yara", "module.yar"]);
    assert_eq!((run.status, &*run.out), (2, ""), "{}", run.err);
    for said in [
        "4 mistakes in the rules",
        "bad.yar:2:13: error",
        "bad.yar:3:21: error",
        "module.yar:1:1: error: unknown import magic",
        "module.yar:2:21: error",
        "rules without this module; vmie has",
        "nothing for `magic`",
        "-d NAME=VALUE",
    ] {
        assert!(run.err.contains(said), "{said}: {}", run.err);
    }
    for args in [
        &["--yara", "demo.yar", "-s", "90"][..],
        &["--yara", "demo.yar", "-f", "x.toml"],
        &["--yara", "missing.yar"],
    ] {
        let run = guest.scan(args);
        assert_eq!((run.status, &*run.out), (2, ""), "{args:?}: {}", run.err);
    }
}

/// A rule that does not compile does not stop those that do.
#[test]
fn what_does_not_compile_is_left_out_and_missing() {
    let guest = Guest::new();
    let write = |name: &str, text: &str| {
        let path = guest.dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("writes");
    };
    write(
        "rules/bad.yar",
        "rule Bad { condition: filename matches /twice/ }",
    );
    write(
        "rules/good.yar",
        "rule Good { strings: $a = \"twice\" condition: $a }",
    );
    let names = |run: &Run| -> Vec<String> {
        let name = |row: &Value| row["rule"].as_str().unwrap_or("-").to_owned();
        rows(run).iter().map(name).collect()
    };
    let range = ["--yara", "rules", "--range", "0x400000..+0x4000"];
    let run = guest.scan(&range);
    assert_eq!(
        (run.status, names(&run)),
        (0, vec!["Good".to_owned(); 2]),
        "{}",
        run.err
    );
    for said in [
        "warning: 1 mistake in the rules: what does not compile is left out, 1 rule left",
        "rules/bad.yar:1:23: error: unknown identifier \"filename\"",
        "-d NAME=VALUE, if the identifier is an external variable",
    ] {
        assert!(run.err.contains(said), "{said}: {}", run.err);
    }
    let run = guest.scan(&[&range[..], &["--strict"]].concat());
    assert_eq!((run.status, names(&run).len()), (3, 2), "{}", run.err);
    let defined = [&range[..], &["--strict", "-d", "filename=twice"]].concat();
    let run = guest.scan(&defined);
    assert_eq!(run.status, 0, "{}", run.err);
    assert_eq!(names(&run), ["Bad", "Good", "Good"], "{}", run.err);
    assert!(!run.err.contains("warning"), "{}", run.err);
    // Of each type that yara has.
    write(
        "typed.yar",
        "rule t { condition: i == -7 and f < 1.6 and b and s == \"0x10\" }",
    );
    let typed = [
        "--yara",
        "typed.yar",
        "-d",
        "i=-7",
        "-d",
        "f=1.5",
        "-d",
        "b=true",
        "-d",
        "s=0x10",
    ];
    let run = guest.scan(&typed);
    assert_eq!(names(&run), ["t"], "{}", run.err);
    // Nothing is left, or nothing can be said.
    for args in [
        &["--yara", "typed.yar"][..],
        &["--yara", "rules/bad.yar"],
        &["--yara", "rules", "-d", "filename"],
        &["--yara", "rules", "-d", "a=1", "-d", "a=2"],
        &["-s", "90", "-d", "a=1"],
    ] {
        let run = guest.scan(args);
        assert_eq!((run.status, &*run.out), (2, ""), "{args:?}: {}", run.err);
    }
}

#[test]
fn hashes_are_of_memory_and_rules_can_speak() {
    let guest = Guest::new();
    // `twice` at 0x403100, by md5sum.
    let rule = "import \"hash\" import \"console\" rule h { condition: console.log(\"here \", hash.md5(0x403100, 5)) and \
                hash.md5(0x403100, 5) == \"acab8a08d87398bb78bcb3aa85d07336\" }";
    fs::write(guest.dir.path().join("hash.yar"), rule).expect("writes");
    let run = guest.scan(&["--yara", "hash.yar"]);
    assert!(run.err.contains("note: rules say: here "), "{}", run.err);
    assert_eq!(run.status, 0, "{}", run.err);
}
