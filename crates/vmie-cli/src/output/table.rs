//! Tables for people: aligned columns without borders, so that they can be grepped and cut.
//!
//! Rows come in chunks; each chunk is aligned on its own, but no column is ever narrower than in the
//! chunk before, so that the columns of a long table stay where they are.

use std::borrow::Cow;

use comfy_table::{
    Attribute, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width, presets,
};

use vmie_rows::{Align, Field, Look, Show};

use super::SpaceKind;
use crate::{escape, size};

/// One cell of a table. Its text is escaped here, so verbs hand over guest text as it is.
pub(crate) struct Cell(comfy_table::Cell);

impl Cell {
    /// Plain text.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self(comfy_table::Cell::new(escape::plain(text.as_ref())))
    }

    /// Text that is printable ASCII already, shown without escapes.
    pub(crate) fn raw(text: &str) -> Self {
        debug_assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        Self(comfy_table::Cell::new(text))
    }

    /// A value, as its definition has it shown. Nothing of nothing.
    pub(super) fn of(field: &Field, value: Option<&dyn Show>) -> Self {
        let Some((value, column)) = value.zip(field.column) else {
            return Self::new("");
        };
        let cell = match (column.look, value.number()) {
            (Look::Size, Some(bytes)) => Self::new(size::exact(bytes)),
            (Look::Rounded, Some(bytes)) => Self::new(size::approx(bytes)),
            _ => Self::new(value.text()),
        };
        if column.is_strong {
            cell.strong()
        } else {
            cell
        }
    }

    /// Marks what could not be looked at.
    #[must_use]
    pub(crate) fn gap(self) -> Self {
        Self(self.0.fg(Color::Yellow))
    }

    /// Marks what matters less.
    #[must_use]
    pub(crate) fn dim(self) -> Self {
        Self(self.0.add_attribute(Attribute::Dim))
    }

    /// Marks what matters most.
    #[must_use]
    pub(crate) fn strong(self) -> Self {
        Self(self.0.fg(Color::Cyan))
    }
}

/// Rows that wait to be aligned together.
#[derive(Default)]
pub(super) struct Chunk {
    rows: Vec<Vec<Cell>>,
    widths: Vec<u16>,
    headed: bool,
}

impl Chunk {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// The waiting rows as text, under a heading the first time.
    pub(super) fn render(&mut self, columns: &[&Field], space: SpaceKind, color: bool) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let shown = || {
            let columns = columns.iter();
            columns.filter_map(|field| Some((field.key, field.column?)))
        };
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        // Colours are always put in, and taken out again where they are not wanted.
        table.enforce_styling();
        if !std::mem::replace(&mut self.headed, true) {
            table.set_header(shown().map(|(key, column)| {
                let head = match (space, key) {
                    (SpaceKind::Physical, "va") => "gpa",
                    _ => column.heading,
                };
                comfy_table::Cell::new(head).add_attribute(Attribute::Bold)
            }));
        }
        for row in self.rows.drain(..) {
            table.add_row(row.into_iter().map(|cell| cell.0));
        }
        let natural = table.column_max_content_widths();
        self.widths.resize(natural.len(), 0);
        for (index, (_, column)) in shown().enumerate() {
            let (Some(target), Some(width)) = (table.column_mut(index), self.widths.get_mut(index))
            else {
                continue;
            };
            *width = natural[index].max(*width);
            target.set_padding((0, 2));
            target.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width + 2)));
            if column.align == Align::Right {
                target.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(strip(&line, color).trim_end());
            text.push('\n');
        }
        text
    }
}

/// The text with its colours, or without where they are not wanted.
pub(crate) fn strip(text: &str, color: bool) -> Cow<'_, str> {
    if color {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(anstream::adapter::strip_str(text).to_string())
    }
}
