//! Sinks, over a buffer instead of standard output.

use anstream::ColorChoice;
use serde::Serialize;

use super::*;
use crate::report::Level;

#[derive(Serialize)]
struct Line {
    va: Hex,
    text: String,
    list: Vec<u64>,
}

impl Line {
    fn new(va: u64, text: &str) -> Self {
        Self {
            va: Hex(va),
            text: text.to_owned(),
            list: vec![va],
        }
    }
}

impl Row for Line {
    const COLUMNS: &'static [Column] = &[
        Column::right("va"),
        Column::left("text").titled("what"),
        Column::hidden("list"),
    ];

    fn view(&self) -> View {
        View::Cells(vec![
            Cell::new(format!("{:#x}", self.va.0)).strong(),
            Cell::new(&self.text),
        ])
    }
}

fn output(format: Format) -> Output {
    Output {
        format,
        color: false,
        terminal: false,
        limit: None,
    }
}

fn written(output: Output, space: SpaceKind, rows: &[Line]) -> String {
    let reporter = Reporter::new(Level::Quiet, ColorChoice::Never);
    let mut out = Vec::new();
    let mut sink = Sink::new(output, "test", space, &reporter, Box::new(&mut out));
    for row in rows {
        if sink.row(row).expect("a Vec takes every byte").is_break() {
            break;
        }
    }
    sink.finish::<Line>(None).expect("a Vec takes every byte");
    String::from_utf8(out).expect("UTF-8")
}

fn lines() -> [Line; 3] {
    [
        Line::new(1, "plain"),
        Line::new(0xffff_0000, "quote \" comma , line\nbreak"),
        Line::new(16, "\x1b[31m red \u{9b}"),
    ]
}

#[test]
fn every_format() {
    let of = |format| written(output(format), SpaceKind::Virtual, &lines());
    assert_eq!(
        of(Format::Table),
        "        va  what\n       0x1  plain\n0xffff0000  quote \" comma , line\\nbreak\n      \
         0x10  \\x1b[31m red \\x9b\n"
    );
    let rows: Vec<serde_json::Value> = of(Format::Jsonl)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(rows[2]["text"], "\x1b[31m red \u{9b}");
    let json: serde_json::Value = serde_json::from_str(&of(Format::Json)).expect("JSON");
    assert_eq!(json["results"], serde_json::Value::Array(rows));
    assert_eq!(json["schema"], "vmie.test/1");
    assert!(json["coverage"].is_null());
    assert_eq!(
        of(Format::Csv),
        "va,text,list\n0x1,plain,[1]\n0xffff0000,\"quote \"\" comma , line\nbreak\",[4294901760]\n\
         0x10,\u{1b}[31m red \u{9b},[16]\n"
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
        "{\"schema\": \"vmie.test/1\", \"results\": [], \"coverage\": null}\n"
    );
    assert_eq!(of(Format::Csv), "va,text,list\n");
}

#[test]
fn physical_rows_are_marked() {
    let of = |format| written(output(format), SpaceKind::Physical, &lines()[..1]);
    assert_eq!(of(Format::Table), "gpa  what\n0x1  plain\n");
    assert_eq!(
        of(Format::Jsonl),
        "{\"va\":\"0x1\",\"text\":\"plain\",\"list\":[1],\"space\":\"phys\"}\n"
    );
    assert_eq!(of(Format::Csv), "va,text,list,space\n0x1,plain,[1],phys\n");
}

#[test]
fn long_tables_keep_their_columns_and_have_one_heading() {
    let rows: Vec<Line> = (0..3 * CHUNK_ROWS as u64)
        .map(|n| Line::new(if n == 0 { u64::MAX } else { n }, "x"))
        .collect();
    let text = written(output(Format::Table), SpaceKind::Virtual, &rows);
    assert_eq!(text.lines().count(), rows.len() + 1);
    assert_eq!(text.matches("what").count(), 1);
    assert!(
        text.lines()
            .skip(1)
            .all(|line| line.find('x') < Some(19) && line.ends_with("  x"))
    );
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
