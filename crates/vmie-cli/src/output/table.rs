//! Tables for people: aligned columns without borders, so that they can be grepped and cut.
//!
//! Rows come in chunks; each chunk is aligned on its own, but no column is ever narrower than in the
//! chunk before, so that the columns of a long table stay where they are.

use std::borrow::Cow;

use comfy_table::{
    Attribute, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width, presets,
};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};
use vmie_rows::{Align, Column, Field, Look, Show};

use super::{Output, SpaceKind};
use crate::{escape, size};

/// One cell of a table. Its text is escaped here, so verbs hand over guest text as it is.
pub(crate) struct Cell {
    text: String,
    color: Option<Color>,
    dim: bool,
}

impl Cell {
    /// Plain text.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self {
            text: escape::plain(text.as_ref()).into_owned(),
            color: None,
            dim: false,
        }
    }

    /// Text that is printable ASCII already, shown without escapes.
    pub(crate) fn raw(text: &str) -> Self {
        debug_assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        Self {
            text: text.to_owned(),
            color: None,
            dim: false,
        }
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

    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        self.text.len() + size_of::<Self>()
    }

    /// Marks what could not be looked at.
    #[must_use]
    pub(crate) fn gap(self) -> Self {
        self.colored(Color::Yellow)
    }

    /// Marks what matters less.
    #[must_use]
    pub(crate) fn dim(self) -> Self {
        Self { dim: true, ..self }
    }

    /// Marks what matters most.
    #[must_use]
    pub(crate) fn strong(self) -> Self {
        self.colored(Color::Cyan)
    }

    fn colored(self, color: Color) -> Self {
        Self {
            color: Some(color),
            ..self
        }
    }

    /// The cell, no wider than so many columns.
    fn fit(self, width: usize) -> comfy_table::Cell {
        let cell = comfy_table::Cell::new(cut(&self.text, width));
        let cell = match self.color {
            Some(color) => cell.fg(color),
            None => cell,
        };
        match self.dim {
            true => cell.add_attribute(Attribute::Dim),
            false => cell,
        }
    }
}

/// The text, no wider than so many columns; what is cut ends in an ellipsis.
fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut left = width.saturating_sub(1);
    let mut kept = String::new();
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if wide > left {
            break;
        }
        left -= wide;
        kept.push(c);
    }
    kept.push('\u{2026}');
    Cow::Owned(kept)
}

/// Room between two columns.
const GAP: u16 = 2;

/// No column is cut to less than this.
const NARROWEST: usize = 12;

/// How wide columns may be so that a table of columns which would be `natural` wide fits into `width`: the widest of those
/// that may be cut give way, all to the same width.
fn fitted(natural: &[usize], may_cut: &[bool], width: usize) -> Vec<usize> {
    let gaps = usize::from(GAP) * natural.len().saturating_sub(1);
    let room = width.saturating_sub(gaps);
    let at_most = |most: usize| {
        let each = natural.iter().zip(may_cut);
        each.map(move |(&wide, &may)| if may { wide.min(most) } else { wide })
    };
    let widest = natural.iter().copied().max().unwrap_or(0);
    let most = (NARROWEST..=widest.max(NARROWEST))
        .rev()
        .find(|&most| at_most(most).sum::<usize>() <= room)
        .unwrap_or(NARROWEST);
    at_most(most).collect()
}

/// How many rows of a table are aligned together.
pub(super) const CHUNK_ROWS: usize = 512;

/// Rows that wait to be aligned together.
#[derive(Default)]
pub(crate) struct Chunk {
    rows: Vec<Vec<Cell>>,
    widths: Vec<usize>,
    headed: bool,
}

impl Chunk {
    /// Whether so many rows wait as are aligned together.
    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= CHUNK_ROWS
    }

    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// The waiting rows as text, under a heading the first time.
    pub(crate) fn render(
        &mut self,
        columns: &[&Field],
        space: SpaceKind,
        output: &Output,
    ) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let shown: Vec<(&str, &Column)> = columns
            .iter()
            .filter_map(|field| Some((field.key, field.column.as_ref()?)))
            .collect();
        let heading = |&(key, column): &(&str, &Column)| match (space, key) {
            (SpaceKind::Physical, "va") => "gpa",
            _ => column.heading,
        };
        let headed = std::mem::replace(&mut self.headed, true);
        let widest = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            cells.map(|cell| cell.text.width()).max().unwrap_or(0)
        };
        let natural: Vec<usize> = shown
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let head = if headed { 0 } else { heading(column).width() };
                let before = self.widths.get(index).copied().unwrap_or(0);
                widest(index).max(head).max(before)
            })
            .collect();
        let may_cut = shown
            .iter()
            .map(|(_, column)| column.align == Align::Left && !column.is_strong);
        self.widths = match output.width {
            Some(width) => fitted(&natural, &may_cut.collect::<Vec<_>>(), width),
            None => natural,
        };
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        // Colours are always put in, and taken out again where they are not wanted.
        table.enforce_styling();
        if !headed {
            let heads = shown.iter().map(heading).map(comfy_table::Cell::new);
            table.set_header(heads.map(|head| head.add_attribute(Attribute::Bold)));
        }
        for row in self.rows.drain(..) {
            let cells = row.into_iter().zip(&self.widths);
            table.add_row(cells.map(|(cell, &width)| cell.fit(width)));
        }
        for (index, ((_, column), &width)) in shown.iter().zip(&self.widths).enumerate() {
            let Some(target) = table.column_mut(index) else {
                continue;
            };
            target.set_padding((0, GAP));
            let width = u16::try_from(width).unwrap_or(u16::MAX).saturating_add(GAP);
            target.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width)));
            if column.align == Align::Right {
                target.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(strip(&line, output.color).trim_end());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_cells_are_cut_to_a_width() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 5), "abcd\u{2026}");
        // A wide character that does not fit is left out.
        assert_eq!(cut("\u{6f22}\u{5b57}\u{6f22}", 4), "\u{6f22}\u{2026}");
    }

    #[test]
    fn the_widest_columns_give_way() {
        let fit = |natural: &[usize], width| fitted(natural, &[false, true, true, true], width);
        assert_eq!(fit(&[14, 20, 30, 5], 80), [14, 20, 30, 5]);
        assert_eq!(fit(&[14, 90, 20, 5], 80), [14, 35, 20, 5]);
        assert_eq!(fit(&[14, 90, 70, 5], 80), [14, 27, 27, 5]);
        // There is no room, and no column disappears.
        assert_eq!(fit(&[14, 90, 70, 5], 20), [14, 12, 12, 5]);
    }
}
