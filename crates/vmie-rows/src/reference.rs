//! The pages of the reference, made of the definitions.

use std::fmt::Write as _;

use crate::rows::{Coverage, SHAPES, State};
use crate::schema;
use crate::shape::{Field, Leaf, Shape, Type, joined, leaves};

/// Where the pages are, from the root of the workspace.
pub const DIRECTORY: &str = "docs/reference";

/// The pages: their paths below [`DIRECTORY`], and what stands in them. There is nothing else in the folder
/// `schemas`.
pub fn pages() -> Vec<(String, String)> {
    let mut pages = vec![("rows.md".to_owned(), rows())];
    for shape in SHAPES {
        let text = serde_json::to_string_pretty(&schema::document(shape)).expect("text keys");
        pages.push((schema_path(shape), text + "\n"));
    }
    pages
}

fn schema_path(shape: &Shape) -> String {
    format!("schemas/{}.json", shape.name())
}

const HEAD: &str = "\
<!-- Written by `cargo xtask reference` from crates/vmie-rows; changes here are lost. -->

# Rows

What the rows of each verb mean, in all formats but `table`, which is for people and may change. Keys are a contract: none is renamed, removed or given
another type without a new version of the schema's id; others may be added. A JSON Schema (draft 2020-12) of each shape stands beside
this page.

`jsonl` is a row a line. `json` is one document, `{\"schema\": ID, \"results\": [ROW, ...], \"coverage\": COVERAGE}`; `coverage` is null for verbs that read
no memory that is asked for by address. `csv` has the keys as a header, those in *italics* left out, and lists and objects as JSON text in
their cell; keys that depend on an option or on names stand in its header where they may occur.

With several sources each row begins with `source`, the one that it is of, as it was typed. The document then has `sources`, an object for each with `source`,
`status` (as the command's alone would have been), `error` (text or null) and `coverage`; its own `coverage` is null.

| type | in JSON |
|---|---|
| hex | an address or a 64-bit value: text, `\"0x...\"` in lower case without leading zeros |
| u8, u32, u64 | a whole number of so many bits, not below zero |
| i64, i128 | a whole number of so many bits |
| float | a number |
| bool | `true` or `false` |
| text, letter | text, of one character |
| hex digits | bytes: text, two hexadecimal digits each |
| prot | text: `rwx`, with `-` for what is absent |
| time | text by RFC 3339, in UTC |
| any | what is said there |
| T? | T or null |
| [T] | an array |
| {T} | an object of these by name |
| {...} | an object with these keys |

A row does not always have the keys that are marked *sometimes*; where there is nothing to say they are missing. All others are always there.

";

const STATES: &str = "\
## States

Where the CPU sees no page of a process, `state` says where it is:

| state | meaning |
|---|---|
";

fn rows() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("| shape | command | a row is |\n|---|---|---|\n");
    for shape in SHAPES {
        let (id, command) = (shape.id, shape.command);
        let anchor = anchor(shape);
        let about = first_words(&joined(shape.about));
        let _ = writeln!(page, "| [`{id}`](#{anchor}) | `{command}` | {about} |");
    }
    page.push('\n');
    for shape in SHAPES {
        let _ = writeln!(page, "## {}\n", shape.id);
        let physical = match shape.physical {
            true => {
                " With `--phys`, rows also have `\"space\": \"phys\"`, and addresses are physical ones."
            }
            false => "",
        };
        let (command, path) = (shape.command, schema_path(shape));
        let about = joined(shape.about);
        let _ = writeln!(page, "`{command}` ([schema]({path})). {about}{physical}\n");
        table(&mut page, shape.fields, true);
    }
    page.push_str(STATES);
    for state in State::ALL {
        let _ = writeln!(page, "| `{state}` | {} |", state.meaning());
    }
    page.push('\n');
    let _ = writeln!(page, "## Coverage\n\n{}\n", joined(Coverage::ABOUT));
    table(&mut page, Coverage::FIELDS, false);
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

/// What a heading of GitHub's is linked by: lower case, punctuation gone.
fn anchor(shape: &Shape) -> String {
    let kept = shape
        .id
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-');
    kept.collect()
}

/// Up to the first full stop or colon, with a small letter.
fn first_words(about: &str) -> String {
    let end = about.find(['.', ':']).unwrap_or(about.len());
    let mut chars = about[..end].chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

fn table(page: &mut String, fields: &'static [Field], has_columns: bool) {
    page.push_str("| key | type | unit | meaning |\n|---|---|---|---|\n");
    for leaf in leaves(fields) {
        lines(page, &leaf, "", has_columns);
    }
    page.push('\n');
}

/// The line of a field, and of those within it.
fn lines(page: &mut String, leaf: &Leaf, within: &str, has_columns: bool) {
    let field = leaf.field;
    if !field.is_in_json() {
        return;
    }
    let ty = match field.is_optional {
        true => field.ty.not_null(),
        false => field.ty,
    };
    let key = match has_columns && field.column.is_none() {
        true => format!("*`{within}{}`*", field.key),
        false => format!("`{within}{}`", field.key),
    };
    let sometimes = if leaf.sometimes { ", *sometimes*" } else { "" };
    let unit = field.unit.map_or("", crate::Unit::name);
    let meaning = field.meaning().replace('|', "\\|");
    let name = name(&ty);
    let _ = writeln!(page, "| {key} | {name}{sometimes} | {unit} | {meaning} |");
    let (part, mark) = match ty.not_null() {
        Type::Record(record) => (record.fields, "."),
        Type::List(Type::Record(record)) => (record.fields, "[]."),
        _ => return,
    };
    for leaf in leaves(part) {
        lines(page, &leaf, &format!("{within}{}{mark}", field.key), false);
    }
}

fn name(ty: &Type) -> String {
    match ty {
        Type::Hex => "hex".to_owned(),
        Type::Unsigned(bits) => format!("u{bits}"),
        Type::Signed(bits) => format!("i{bits}"),
        Type::Float => "float".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Text => "text".to_owned(),
        Type::Letter => "letter".to_owned(),
        Type::Bytes => "hex digits".to_owned(),
        Type::Prot => "prot".to_owned(),
        Type::Time => "time".to_owned(),
        Type::NumberOrText => "u64 or text".to_owned(),
        Type::Any => "any".to_owned(),
        Type::Nullable(ty) => format!("{}?", name(ty)),
        Type::List(ty) => format!("[{}]", name(ty)),
        Type::Map(ty) => format!("{{{}}}", name(ty)),
        Type::Record(_) => "{...}".to_owned(),
    }
}
