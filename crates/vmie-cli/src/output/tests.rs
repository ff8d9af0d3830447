//! Sinks, over a buffer instead of standard output.

use anstream::ColorChoice;
use vmie_rows::{Hex, HistoryRow, Row as _};

use super::table::CHUNK_ROWS;
use super::*;
use crate::report::Level;

/// A row that has a column of each sort: sizes, a list, one that tables do not show, the guest's text.
fn line(va: u64, text: &str) -> HistoryRow {
    HistoryRow {
        va: Hex(va),
        len: 0x20_1000,
        prot: prot(vmie::Prot::RWX),
        changed: vec![va & 0xf],
        modified: 0x20_1000,
        appeared: 0,
        disappeared: 1,
        protection: 7,
        region: Some(text.to_owned()),
    }
}

fn output(format: Format) -> Output {
    Output {
        format,
        color: false,
        terminal: false,
        width: None,
        limit: None,
    }
}

fn written(output: Output, space: SpaceKind, rows: &[HistoryRow]) -> String {
    let reporter = Reporter::new(Level::Quiet, ColorChoice::Never);
    let mut out = Vec::new();
    let mut sink = Sink::new(
        output,
        HistoryRow::SHAPE,
        space,
        &reporter,
        Box::new(&mut out),
    )
    .named(true);
    for row in rows {
        if sink.row(row).expect("a Vec takes every byte").is_break() {
            break;
        }
    }
    sink.finish(None).expect("a Vec takes every byte");
    String::from_utf8(out).expect("UTF-8")
}

fn lines() -> [HistoryRow; 3] {
    [
        line(1, "plain"),
        line(0xffff_0000, "quote \" comma , line\nbreak"),
        line(16, "\x1b[31m red \u{9b}"),
    ]
}

#[test]
fn every_format() {
    let of = |format| written(output(format), SpaceKind::Virtual, &lines());
    assert_eq!(
        of(Format::Table),
        "        va       len  prot  changed  modified  appeared  disappeared  region\n       \
         0x1  2052 KiB  rwx   1           2 MiB       0 B          1 B  plain\n\
         0xffff0000  2052 KiB  rwx   .           2 MiB       0 B          1 B  \
         quote \" comma , line\\nbreak\n      \
         0x10  2052 KiB  rwx   .           2 MiB       0 B          1 B  \\x1b[31m red \\x9b\n"
    );
    let rows: Vec<serde_json::Value> = of(Format::Jsonl)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(rows[2]["region"], "\x1b[31m red \u{9b}");
    let json: serde_json::Value = serde_json::from_str(&of(Format::Json)).expect("JSON");
    assert_eq!(json["results"], serde_json::Value::Array(rows));
    assert_eq!(json["schema"], "vmie.snap-series/1");
    assert!(json["coverage"].is_null());
    assert_eq!(
        of(Format::Csv),
        "va,len,prot,changed,modified,appeared,disappeared,protection,region\n\
         0x1,2101248,rwx,[1],2101248,0,1,7,plain\n\
         0xffff0000,2101248,rwx,[0],2101248,0,1,7,\"quote \"\" comma , line\nbreak\"\n\
         0x10,2101248,rwx,[0],2101248,0,1,7,\u{1b}[31m red \u{9b}\n"
    );
}

#[test]
fn no_format_but_csv_lets_control_characters_through() {
    for format in [Format::Table, Format::Jsonl, Format::Json] {
        let text = written(output(format), SpaceKind::Virtual, &lines());
        assert!(
            text.chars()
                .all(|c| c == '\n' || crate::escape::is_plain(c)),
            "{text:?}"
        );
    }
    let terminal = Output {
        terminal: true,
        ..output(Format::Csv)
    };
    assert!(!written(terminal, SpaceKind::Virtual, &lines()).contains('\x1b'));
}

#[test]
fn without_rows() {
    let of = |format| written(output(format), SpaceKind::Virtual, &[]);
    assert_eq!(of(Format::Table), "");
    assert_eq!(of(Format::Jsonl), "");
    assert_eq!(
        of(Format::Json),
        "{\"schema\": \"vmie.snap-series/1\", \"results\": [], \"coverage\": null}\n"
    );
    assert_eq!(
        of(Format::Csv),
        "va,len,prot,changed,modified,appeared,disappeared,protection,region\n"
    );
}

#[test]
fn physical_rows_are_marked() {
    let of = |format| written(output(format), SpaceKind::Physical, &lines()[..1]);
    assert_eq!(
        of(Format::Table),
        "gpa       len  prot  changed  modified  appeared  disappeared  region\n\
         0x1  2052 KiB  rwx   1           2 MiB       0 B          1 B  plain\n"
    );
    assert_eq!(
        of(Format::Jsonl),
        "{\"va\":\"0x1\",\"len\":2101248,\"prot\":\"rwx\",\"changed\":[1],\"modified\":2101248,\
         \"appeared\":0,\"disappeared\":1,\"protection\":7,\"region\":\"plain\",\"space\":\"phys\"}\n"
    );
    assert_eq!(
        of(Format::Csv),
        "va,len,prot,changed,modified,appeared,disappeared,protection,region,space\n\
         0x1,2101248,rwx,[1],2101248,0,1,7,plain,phys\n"
    );
}

#[test]
fn long_tables_keep_their_columns_and_have_one_heading() {
    let rows: Vec<HistoryRow> = (0..3 * CHUNK_ROWS as u64)
        .map(|n| line(if n == 0 { u64::MAX } else { n }, "region!"))
        .collect();
    let text = written(output(Format::Table), SpaceKind::Virtual, &rows);
    assert_eq!(text.lines().count(), rows.len() + 1);
    assert_eq!(text.matches("region\n").count(), 1);
    assert!(text.lines().skip(1).all(|line| line.ends_with("  region!")));
    let width = text.lines().nth(1).map(str::len);
    assert!(text.lines().skip(1).all(|line| Some(line.len()) == width));
}

#[test]
fn limit_and_colour() {
    let limited = Output {
        limit: Some(2),
        ..output(Format::Jsonl)
    };
    assert_eq!(
        written(limited, SpaceKind::Virtual, &lines())
            .lines()
            .count(),
        2
    );
    let coloured = Output {
        color: true,
        ..output(Format::Table)
    };
    let text = written(coloured, SpaceKind::Virtual, &lines());
    assert!(text.contains("\x1b["), "{text:?}");
    assert!(
        !text.contains("\x1b[31m"),
        "the guest's own colours are escaped"
    );
}
