//! `vmie strings`: whatever reads as text.

use vmie::search::{Encoding, Encodings, Strings, Text};
use vmie_rows::StringRow;

use crate::args::{StringEncoding, StringsArgs};
use crate::exit::{Done, Result};
use crate::options::Options;
use crate::output::{Cell, Row};
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

impl Row for StringRow {
    fn cell(&self, key: &str) -> Option<Cell> {
        (key == "text" && self.cut).then(|| Cell::new(format!("{}...", self.text)))
    }
}
