//! A row of `vmie xref`.

use serde::Serialize;
use vmie::Gva;
use vmie::os::{Binding, Route};
use vmie::xref::{CodeBits, Xref};

use super::asked::Asked;
use crate::asm::{Bits, Disassembler, MAX_LEN};
use crate::output::{Cell, Column, Hex, Row, View};
use crate::place::Place;
use crate::seek::Around;
use crate::space::Space;

/// Makes rows of references.
pub(super) struct RowMaker {
    linear: bool,
    disassembler: Disassembler,
}

impl RowMaker {
    /// Rows of all references, or of those only at which a linear decode arrives.
    pub(super) fn new(linear: bool, bits: CodeBits) -> Self {
        let width = match bits {
            CodeBits::B32 => Bits::B32,
            CodeBits::B64 => Bits::B64,
        };
        Self {
            linear,
            disassembler: Disassembler::new(width),
        }
    }

    /// The row of a reference; nothing where it is none of what was asked for.
    pub(super) fn row(
        &mut self,
        space: &Space<'_>,
        asked: &Asked,
        place: Place,
        xref: Xref,
        around: &dyn Around,
    ) -> Option<XrefRow> {
        if self.linear && !xref.linear {
            return None;
        }
        let route = match asked.is_direct(xref.target) {
            true => None,
            false => Some(asked.route(xref.target)?),
        };
        let bytes = around.read(xref.va.0, usize::from(xref.len).min(MAX_LEN));
        let last = Gva(xref
            .va
            .0
            .wrapping_add(u64::from(xref.len).saturating_sub(1)));
        let unmapped = asked.is_unmapped(xref.va) || asked.is_unmapped(last);
        Some(XrefRow {
            place,
            kind: xref.kind.name(),
            target: Hex(xref.target.0),
            target_name: space.names.name(xref.target.0),
            len: xref.len,
            text: self.disassembler.decode(xref.va.0, &bytes).1,
            linear: xref.linear,
            way: route.map(|route| Way::new(route, space)),
            state: unmapped.then_some("page cache"),
        })
    }
}

#[derive(Serialize)]
pub(super) struct XrefRow {
    #[serde(flatten)]
    place: Place,
    kind: &'static str,
    target: Hex,
    /// The name of the target, with a known operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_name: Option<String>,
    len: u8,
    text: String,
    /// Whether a decode of the bytes before arrives at the instruction.
    linear: bool,
    /// How it leads to what was asked for, where it does not refer to that itself.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    way: Option<Way>,
    /// Where the instruction is, where the process has not mapped it.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

/// How a reference leads to what was asked for.
#[derive(Serialize)]
struct Way {
    via: &'static str,
    slot: Hex,
    reaches: Hex,
    reaches_name: Option<String>,
    binding: &'static str,
    symbol: Option<String>,
}

impl Way {
    fn new(route: &Route, space: &Space<'_>) -> Self {
        Self {
            via: route.via.label(),
            slot: Hex(route.slot.0),
            reaches: Hex(route.reaches.0),
            reaches_name: space.names.name(route.reaches.0),
            binding: route.binding.label(),
            symbol: route.symbol.as_deref().map(str::to_owned),
        }
    }
}

impl Row for XrefRow {
    const COLUMNS: &'static [Column] = &[
        Column::right("pid").with_many(),
        Column::left("process").with_many(),
        Column::right("va"),
        Column::left("kind"),
        Column::right("target"),
        Column::left("text"),
        Column::left("linear"),
        Column::left("region").with_many(),
        Column::left("name").with_os(),
        Column::left("target_name").with_os(),
        Column::left("via").with_os(),
        Column::left("state").with_os(),
        Column::hidden("len"),
        Column::hidden("slot").with_os(),
        Column::hidden("reaches").with_os(),
        Column::hidden("reaches_name").with_os(),
        Column::hidden("binding").with_os(),
        Column::hidden("symbol").with_os(),
    ];

    fn view(&self) -> View {
        let text = |text: Option<&str>| Cell::new(text.unwrap_or_default());
        let via = self.way.as_ref().map_or_else(String::new, |way| {
            match way.binding == Binding::Value.label() {
                true => way.via.to_owned(),
                false => format!("{} ({})", way.via, way.binding),
            }
        });
        let mut cells = self.place.cells([
            Cell::new(self.kind),
            Cell::new(format!("{:#x}", self.target.0)),
            Cell::new(self.text.clone()),
            Cell::new(if self.linear { "yes" } else { "no" }),
        ]);
        cells.extend([
            text(self.target_name.as_deref()),
            Cell::new(via),
            text(self.state),
        ]);
        View::Cells(cells)
    }
}
