//! A row of `find`.

use serde::Serialize;
use serde_json::Value;

use crate::output::{Cell, Column, Row, View};
use crate::place::Place;

#[derive(Serialize)]
pub(super) struct FindRow {
    #[serde(flatten)]
    pub(super) place: Place,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) value: Value,
    /// What it was when it was looked at last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) old: Option<Value>,
}

impl Row for FindRow {
    const COLUMNS: &'static [Column] = &[
        Column::right("pid").with_many(),
        Column::left("process").with_many(),
        Column::right("va"),
        Column::left("type"),
        Column::left("value"),
        Column::left("old").if_asked(),
        Column::left("region").with_many(),
        Column::left("name").with_os(),
    ];

    fn view(&self) -> View {
        let about = [
            Cell::new(self.kind),
            Cell::new(text(&self.value)),
            Cell::new(self.old.as_ref().map(text).unwrap_or_default()),
        ];
        View::Cells(self.place.cells(about))
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
