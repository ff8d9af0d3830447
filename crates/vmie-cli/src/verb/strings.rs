//! `vmie strings`: whatever reads as text.

use serde::Serialize;
use vmie::search::{Encoding, Encodings, Strings, Text};

use crate::args::{StringEncoding, StringsArgs};
use crate::exit::{Done, Result};
use crate::options::Options;
use crate::output::{Cell, Column, Row, View};
use crate::place::Place;
use crate::seek::Seek;

/// The longest text of a row, in bytes. A region full of one letter is one string.
const LONGEST: usize = 64 << 10;

pub(super) fn run(args: &StringsArgs, options: &Options) -> Result<Done> {
    let wants = |encoding| args.encoding.contains(&encoding);
    let bytes = match (wants(StringEncoding::Utf8), wants(StringEncoding::Ascii)) {
        (true, _) => Some(Encoding::Utf8),
        (false, true) => Some(Encoding::Ascii),
        (false, false) => None,
    };
    let utf16 = wants(StringEncoding::Utf16);
    let strings = Strings::new(usize::from(args.min), Encodings { bytes, utf16 });
    let seek = Seek {
        verb: "strings",
        args: &args.search,
        options,
        asked: false,
    };
    seek.run(&strings, |place, mut text: Text, around| {
        let cut = around.continue_text(place.va.0, &mut text, LONGEST);
        Some(StringRow {
            encoding: text.encoding.name(),
            text: text.text(),
            cut,
            place,
        })
    })
}

#[derive(Serialize)]
struct StringRow {
    #[serde(flatten)]
    place: Place,
    encoding: &'static str,
    text: String,
    /// Whether it goes on behind what is shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

impl Row for StringRow {
    const COLUMNS: &'static [Column] = &[
        Column::right("pid").with_many(),
        Column::left("process").with_many(),
        Column::right("va"),
        Column::left("encoding"),
        Column::left("text"),
        Column::left("region").with_many(),
        Column::left("name").with_os(),
    ];

    fn view(&self) -> View {
        let text = if self.cut {
            format!("{}...", self.text)
        } else {
            self.text.clone()
        };
        let about = [Cell::new(self.encoding), Cell::new(text)];
        View::Cells(self.place.cells(about))
    }
}
