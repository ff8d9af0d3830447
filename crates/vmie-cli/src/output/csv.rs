//! Comma-separated values: the JSON row, flattened into the columns of the verb.
//!
//! Numbers and strings stand as they are, `null` and missing values are empty, and nested values are
//! JSON text. Taking the cells from the JSON form keeps the two from drifting apart.

use serde_json::Value;

use super::json::Marked;
use super::{Field, SpaceKind};
use crate::escape;

pub(crate) fn write_header(out: &mut Vec<u8>, columns: &[&'static Field], space: SpaceKind) {
    write_record(out, keys(columns, space));
}

/// The keys of the columns, and that of the mark which rows of physical memory bear.
fn keys(columns: &[&'static Field], space: SpaceKind) -> impl Iterator<Item = &'static str> {
    columns
        .iter()
        .filter(|field| field.column.is_some_and(|column| column.is_in_csv()))
        .map(|field| field.key)
        .chain((space == SpaceKind::Physical).then_some("space"))
}

pub(super) fn write_row<R: vmie_rows::Row>(
    out: &mut Vec<u8>,
    row: &R,
    columns: &[&'static Field],
    space: SpaceKind,
    source: Option<&str>,
    terminal: bool,
) {
    let value = serde_json::to_value(Marked::new(row, space, source))
        .expect("rows have string keys and finite numbers");
    write_record(
        out,
        keys(columns, space).map(|key| cell(&value[key], terminal)),
    );
}

fn cell(value: &Value, terminal: bool) -> String {
    match value {
        Value::Null => String::new(),
        // A file keeps the guest's text as it is; a terminal must not see its control characters.
        Value::String(text) if terminal => escape::plain(text).into_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn write_record(out: &mut Vec<u8>, cells: impl Iterator<Item = impl AsRef<[u8]>>) {
    let mut writer = csv::WriterBuilder::new().from_writer(out);
    writer
        .write_record(cells)
        .and_then(|()| writer.flush().map_err(Into::into))
        .expect("a Vec takes every byte");
}
