//! Rows, envelope and CSV as scripts rely on them.

use serde_json::Value;

use crate::support::{
    BIG, CODE, DATA, LOST, SIG, SIG_AT, check_document, guest, in_space, rows, vmie,
};

/// A verb with arguments that make it answer something, its schema if that is not called as the verb, and keys of
/// its rows.
const VERBS: &[(&str, &[&str], &str, &[&str])] = &[
    ("maps", &[], "", &["va", "len", "prot", "user"]),
    (
        "maps",
        &["--extents"],
        "maps-extents",
        &["va", "gpa", "len", "page_size", "prot", "user"],
    ),
    (
        "vtop",
        &["0x401010", "0x1000"],
        "",
        &["va", "gpa", "page_size", "prot", "user", "steps"],
    ),
    ("read", &["0x7f0000000000..+0x3000"], "", &["va", "bytes"]),
    (
        "read",
        &["0x7f0000000000..+0x3000", "--as", "u64"],
        "read-u64",
        &["va", "bytes", "value"],
    ),
    (
        "read",
        &["0x401000..+64", "--as", "asm"],
        "read-asm",
        &["va", "bytes", "text"],
    ),
    ("scan", &["-s", SIG], "", &["va", "sig"]),
    ("find", &["--u8", "1.."], "", &["va", "type"]),
    ("strings", &[], "", &["va", "encoding", "text"]),
    (
        "xref",
        &["--to", "0x33630814"],
        "",
        &["va", "kind", "target", "len", "text", "linear"],
    ),
    ("refs", &["1..0x800000000000"], "", &["va", "value"]),
    (
        "dissect",
        &["0x7f0000000ff0..+0x20"],
        "",
        &[
            "offset",
            "len",
            "va",
            "kind",
            "value",
            "confidence",
            "evidence",
        ],
    ),
];

fn is_addr(value: &Value) -> bool {
    value.as_str().is_some_and(|text| {
        text.strip_prefix("0x").is_some_and(|digits| {
            let plain = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            !digits.is_empty()
                && digits.chars().all(plain)
                && (digits == "0" || !digits.starts_with('0'))
        })
    })
}

fn check_row(verb: &str, row: &Value, keys: &[&str]) {
    for &key in keys {
        let value = &row[key];
        let gap = row.get("gap").is_some();
        let unmapped = verb == "vtop" && row["gpa"].is_null();
        let ok = match key {
            "va" | "target" => is_addr(value),
            "kind" => value.is_string(),
            "linear" => value.is_boolean(),
            "gpa" => is_addr(value) || unmapped,
            "value" if verb == "dissect" => value.is_string(),
            "value" => is_addr(value) || gap,
            "evidence" => value.is_string(),
            "confidence" => value.as_u64().is_some_and(|sure| sure <= 100),
            "offset" | "len" => value.is_u64(),
            "page_size" => value.is_u64() || unmapped,
            "prot" => {
                unmapped
                    || value.as_str().is_some_and(|prot| {
                        prot.len() == 3
                            && prot
                                .chars()
                                .zip("rwx".chars())
                                .all(|(c, full)| c == full || c == '-')
                    })
            }
            "user" => value.is_boolean() || unmapped,
            "bytes" => value.as_str().is_some_and(|text| {
                text.len() % 2 == 0
                    && text.is_empty() == gap
                    && text.chars().all(|c| c.is_ascii_hexdigit())
            }),
            "text" => value.is_string() || gap,
            "sig" => value.is_string() || value.is_u64(),
            "type" | "encoding" => value.is_string(),
            "steps" => value.as_array().is_some_and(|steps| {
                steps.iter().all(|step| {
                    step["level"].is_u64() && is_addr(&step["gpa"]) && is_addr(&step["entry"])
                })
            }),
            _ => unreachable!("no rule for {key}"),
        };
        assert!(ok, "{verb}: `{key}` of {row}");
    }
}

#[test]
fn jsonl_is_the_default_when_piped() {
    for (verb, args, _, keys) in VERBS {
        let run = in_space(verb, args);
        assert_eq!(run.status, 0, "{}", run.err);
        let piped = rows(&run);
        assert!(!piped.is_empty());
        for row in &piped {
            check_row(verb, row, keys);
        }
        let asked = in_space(verb, &[*args, &["-o", "jsonl"]].concat());
        assert_eq!(asked.out, run.out);
    }
}

#[test]
fn json_is_one_envelope_with_the_same_rows() {
    for (verb, args, schema, _) in VERBS {
        let run = in_space(verb, &[*args, &["-o", "json"]].concat());
        let json: Value = serde_json::from_str(&run.out).expect("one JSON document");
        let schema = if schema.is_empty() { verb } else { schema };
        check_document(&json);
        assert_eq!(json["schema"], format!("vmie.{schema}/1"));
        assert_eq!(json["results"], Value::Array(rows(&in_space(verb, args))));
        let coverage = &json["coverage"];
        let number = |key: &str| coverage[key].as_u64().expect("a number");
        assert_eq!(
            number("mapped"),
            number("read") + number("absent"),
            "{verb}"
        );
        for key in ["lost", "unmapped"] {
            number(key);
        }
    }
}

#[test]
fn an_envelope_without_rows_is_valid() {
    let run = in_space("scan", &["-s", "DE AD C0 DE 12 34 56 78", "-o", "json"]);
    assert_eq!(run.status, 1);
    let json: Value = serde_json::from_str(&run.out).expect("one JSON document");
    assert_eq!(json["results"], Value::Array(vec![]));
    assert!(json["coverage"]["read"].as_u64() > Some(0));
}

#[test]
fn csv_has_a_header_and_the_same_cells() {
    for (verb, args, _, keys) in VERBS {
        let run = in_space(verb, &[*args, &["-o", "csv"]].concat());
        let mut reader = csv::Reader::from_reader(run.out.as_bytes());
        let header = reader.headers().expect("a header").clone();
        for key in *keys {
            assert!(header.iter().any(|name| name == *key), "{verb}: {header:?}");
        }
        let records: Vec<_> = reader.records().map(|r| r.expect("a record")).collect();
        let rows = rows(&in_space(verb, args));
        assert_eq!(records.len(), rows.len());
        for (record, row) in records.iter().zip(&rows) {
            for (name, cell) in header.iter().zip(record) {
                let expected = match &row[name] {
                    Value::Null => String::new(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                assert_eq!(cell, expected, "{verb}: {name} of {row}");
            }
        }
    }
}

#[test]
fn info_row() {
    let guest = guest();
    let run = vmie(&["info", &guest.elf()]);
    let row = &rows(&run)[0];
    assert_eq!(row["format"], "elf");
    assert_eq!(
        row["size"],
        std::fs::metadata(guest.elf()).expect("exists").len()
    );
    assert_eq!(row["os"], Value::Null);
    let cpus = row["cpus"].as_array().expect("a list");
    assert_eq!(cpus[1]["cr3"], guest.cr3_arg());
    assert_eq!(cpus[1]["paging"], "4level");
    let ranges = row["ranges"].as_array().expect("a list");
    assert_eq!(ranges[0]["gpa"], "0x0");
    assert_eq!(ranges[0]["len"], guest.absent_gpa);
    assert!(is_addr(&ranges[1]["gpa"]));
}

#[test]
fn maps_lists_what_the_guest_maps() {
    let run = in_space("maps", &["--range", "0..0x800000000000"]);
    let seen: Vec<_> = rows(&run)
        .iter()
        .map(|row| {
            (
                row["va"].as_str().expect("text").to_owned(),
                row["len"].as_u64().expect("a number"),
                row["prot"].as_str().expect("text").to_owned(),
                row["user"].as_bool().expect("a flag"),
                row["absent"].as_u64().expect("a number"),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (format!("{CODE:#x}"), 0x2000, "r-x".to_owned(), true, 0),
            (format!("{DATA:#x}"), 0x3000, "rw-".to_owned(), true, 0x1000),
        ]
    );
    assert!(
        run.err.contains("page table absent") || run.err.contains("not in the image"),
        "{}",
        run.err
    );
    let kernel = rows(&in_space("maps", &["--range", &format!("{BIG:#x}..")]));
    assert_eq!(kernel[0]["len"], 2 << 20);
    assert_eq!(
        (&kernel[0]["prot"], &kernel[0]["user"]),
        (&"rw-".into(), &false.into())
    );
    let user_data = rows(&in_space("maps", &["--perm", "wu"]));
    assert_eq!(user_data.len(), 1);
}

#[test]
fn vtop_shows_frames_and_entries() {
    let guest = guest();
    let data = format!("{:#x}", DATA + 0x123);
    let big = format!("{:#x}", BIG + 0x12345);
    let hole = format!("{:#x}", DATA + 0x1008);
    let run = in_space("vtop", &[&data, &big, &hole, "0x800000000000"]);
    let rows = rows(&run);
    assert_eq!(rows[0]["gpa"], format!("{:#x}", guest.data_gpa + 0x123));
    assert_eq!(rows[0]["page_size"], 4096);
    assert_eq!(rows[0]["in_image"], true);
    let levels: Vec<_> = rows[0]["steps"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|step| step["level"].as_u64().expect("a number"))
        .collect();
    assert_eq!(levels, [4, 3, 2, 1]);
    assert_eq!(rows[1]["page_size"], 2 << 20);
    assert_eq!(rows[1]["steps"].as_array().map(Vec::len), Some(3));
    assert_eq!(rows[2]["gpa"], format!("{:#x}", guest.absent_gpa + 8));
    assert_eq!(rows[2]["in_image"], false);
    assert_eq!(rows[3]["gpa"], Value::Null);
    assert_eq!(rows[3]["cause"], "non-canonical");
}

#[test]
fn read_shows_bytes_and_holes() {
    let rows = rows(&in_space(
        "read",
        &[&format!("{:#x}..{:#x}", DATA + 0x8, DATA + 0x2018)],
    ));
    let text: String = rows
        .iter()
        .filter(|row| row.get("gap").is_none())
        .map(|row| row["bytes"].as_str().expect("text"))
        .collect();
    let gaps: Vec<_> = rows.iter().filter(|row| row.get("gap").is_some()).collect();
    assert_eq!(text.len() / 2, 0xff8 + 0x18);
    assert!(text.starts_with("5b33316d677565737400"), "{}", &text[..40]);
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0]["va"], format!("{:#x}", DATA + 0x1000));
    assert_eq!(
        (&gaps[0]["len"], &gaps[0]["bytes"]),
        (&0x1000.into(), &"".into())
    );
}

#[test]
fn read_words_instructions_and_raw() {
    let words = rows(&in_space(
        "read",
        &[&format!("{:#x}..+20", DATA + 0x20), "--as", "u64"],
    ));
    assert_eq!(words[0]["value"], "0x1122334400000001");
    assert_eq!(words[2]["len"], 4);
    assert_eq!(words[2].get("value"), None, "four bytes are no word");

    let code = rows(&in_space(
        "read",
        &[&format!("{CODE:#x}..+6"), "--as", "asm"],
    ));
    let text: Vec<_> = code
        .iter()
        .map(|row| row["text"].as_str().expect("text"))
        .collect();
    assert_eq!(text, ["push rbp", "mov rbp, rsp", "add rsp, 0x8"]);
    assert_eq!(
        code[2]["bytes"], "4883c408",
        "the last instruction is complete"
    );
    let old = rows(&in_space(
        "read",
        &[&format!("{CODE:#x}..+3"), "--as", "asm", "--bits", "32"],
    ));
    assert_eq!(old[1]["text"], "dec eax");

    let raw = in_space("read", &[&format!("{DATA:#x}..+18"), "--as", "raw"]);
    assert_eq!(
        (raw.status, raw.out.as_str()),
        (0, "hello, \x1b[31mguest\0")
    );
    let refused = in_space("read", &[&format!("{DATA:#x}..+0x3000"), "--as", "raw"]);
    assert_eq!((refused.status, refused.out.as_str()), (2, ""));
    assert!(refused.err.contains("--fill"), "{}", refused.err);
    let filled = in_space(
        "read",
        &[
            &format!("{DATA:#x}..+0x3000"),
            "--as",
            "raw",
            "--fill",
            "0x2e",
        ],
    );
    assert_eq!((filled.status, filled.out.len()), (0, 0x3000));
    assert_eq!(&filled.out[0x1000..0x2000], ".".repeat(0x1000));
    assert!(filled.out[0x2000..].starts_with("third page"));
}

#[test]
fn scan_numbers_and_names() {
    let file = guest().path("sigs.toml");
    std::fs::write(&file, "zeta = '\\x48\\x8B'\nalpha = \"55 48 89 E5\"\n").expect("writes");
    let file = file.display().to_string();
    let seen = rows(&in_space(
        "scan",
        &["-s", "FF FF FF FF FF FF", "-s", SIG, "-f", &file],
    ));
    let seen: Vec<_> = seen
        .iter()
        .map(|row| (row["va"].clone(), row["sig"].clone()))
        .collect();
    assert_eq!(
        seen,
        [
            (format!("{CODE:#x}").into(), "alpha".into()),
            (format!("{SIG_AT:#x}").into(), 1.into()),
            (format!("{SIG_AT:#x}").into(), "zeta".into()),
        ]
    );
}

#[test]
fn physical_rows_say_so() {
    let guest = guest();
    let elf = guest.elf();
    let maps = rows(&vmie(&["maps", &elf, "--phys"]));
    assert_eq!(maps[0]["va"], "0x0");
    assert!(maps.iter().all(|row| row["space"] == "phys"));
    let at = format!("{:#x}..+5", guest.data_gpa);
    let read = rows(&vmie(&["read", &elf, "--phys", &at]));
    assert_eq!(
        (&read[0]["bytes"], &read[0]["space"]),
        (&"68656c6c6f".into(), &"phys".into())
    );
    let csv = vmie(&["read", &elf, "--phys", &at, "-o", "csv"]).out;
    assert_eq!(csv.lines().next(), Some("va,bytes,len,gap,space"));
    let table = vmie(&["read", &elf, "--phys", &at, "-o", "table"]).out;
    assert!(table.trim_start().starts_with("gpa"), "{table}");
}

#[test]
fn every_format_gives_the_same_answers() {
    let guest = guest();
    let lime = guest.path("guest.lime").display().to_string();
    for (verb, args, _, _) in VERBS {
        let cr3 = guest.cr3_arg();
        // This format does not record the CPUs.
        let all = [&[*verb, &lime, "--cr3", &cr3, "--paging", "4level"], *args].concat();
        assert_eq!(vmie(&all).out, in_space(verb, args).out, "{verb}");
    }
}

#[test]
fn limit_stops_early() {
    for (verb, args, _, _) in VERBS {
        let all = rows(&in_space(verb, args));
        let one = rows(&in_space(verb, &[*args, &["--limit", "1"]].concat()));
        assert_eq!(one, all[..1], "{verb}");
    }
}

#[test]
fn threads_do_not_change_results() {
    let one = in_space("scan", &["-s", "00 00 00", "-j", "1", "--limit", "5000"]);
    let many = in_space("scan", &["-s", "00 00 00", "-j", "3", "--limit", "5000"]);
    assert_eq!(rows(&one).len(), 5000);
    assert_eq!(one.out, many.out);
}

#[test]
fn colour_only_where_it_is_wanted() {
    let args = ["-o", "table"];
    let esc = |run: &crate::support::Run| run.out.contains('\x1b');
    assert!(!esc(&in_space("maps", &args)), "not a terminal");
    assert!(esc(&in_space(
        "maps",
        &[&args[..], &["--color", "always"]].concat()
    )));
    assert!(!esc(&in_space(
        "maps",
        &[&args[..], &["--color", "never"]].concat()
    )));
    let at = format!("{DATA:#x}..+32");
    let read = in_space("read", &[&at, "-o", "table"]);
    assert!(read.out.contains("hello, .[31mgues"), "{}", read.out);
    let lost = format!("{LOST:#x}");
    for format in ["jsonl", "json", "csv"] {
        let run = in_space(
            "vtop",
            &[&lost, "0x401000", "-o", format, "--color", "always"],
        );
        assert!(!esc(&run), "{format} is data");
    }
}

#[test]
fn stderr_is_quiet_when_asked() {
    let range = format!("{DATA:#x}..+0x3000");
    let normal = in_space("read", &[&range]);
    assert!(normal.err.contains("coverage:"), "{}", normal.err);
    let quiet = in_space("read", &[&range, "-q"]);
    assert_eq!((quiet.err.as_str(), quiet.out), ("", normal.out));
    let error = in_space("read", &["0x1000..+1", "-q"]);
    assert!(error.err.starts_with("error:"), "{}", error.err);
}
