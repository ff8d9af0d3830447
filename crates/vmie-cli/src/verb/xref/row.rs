//! A row of `vmie xref`.

use vmie::Gva;
use vmie::os::{Binding, Route};
use vmie::xref::{CodeBits, Xref};
use vmie_rows::{Hex, Place, Way, XrefRow};

use super::asked::Asked;
use crate::asm::{Bits, Disassembler, MAX_LEN};
use crate::output::{Cell, Row};
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
            way: route.map(|route| self::way(route, space)),
            state: unmapped.then_some("page cache"),
        })
    }
}

fn way(route: &Route, space: &Space<'_>) -> Way {
    Way {
        via: route.via.label(),
        slot: Hex(route.slot.0),
        reaches: Hex(route.reaches.0),
        reaches_name: space.names.name(route.reaches.0),
        binding: route.binding.label(),
        symbol: route.symbol.as_deref().map(str::to_owned),
    }
}

impl Row for XrefRow {
    fn cell(&self, key: &str) -> Option<Cell> {
        let way = self.way.as_ref().filter(|_| key == "via")?;
        let is_plain = way.binding == Binding::Value.label();
        (!is_plain).then(|| Cell::new(format!("{} ({})", way.via, way.binding)))
    }
}
