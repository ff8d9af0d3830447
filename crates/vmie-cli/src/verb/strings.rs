//! `vmie strings`: whatever reads as text.

use clap::{Args, ValueEnum};
use vmie::search::{Encoding, Encodings, Strings, Text};
use vmie_rows::StringRow;

use crate::args::{MoreArgs, SearchArgs, several};
use crate::exit::{Done, Result};
use crate::options::Options;
use crate::output::{Cell, Row};
use crate::seek::Seek;

/// The longest text of a row, in bytes. A region full of one letter is one string.
const LONGEST: usize = 64 << 10;

#[derive(Args, Clone, Debug)]
pub(crate) struct StringsArgs {
    #[command(flatten)]
    pub(crate) search: SearchArgs,
    #[command(flatten)]
    pub(crate) more: MoreArgs,

    /// At least so many characters
    #[arg(short = 'n', long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) min: u16,

    /// In these encodings
    #[arg(
        long,
        value_name = "ENCODING",
        value_delimiter = ',',
        default_value = "ascii,utf16"
    )]
    pub(crate) encoding: Vec<StringEncoding>,
}

several!(StringsArgs, search.source);

/// Encodings of strings, as typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum StringEncoding {
    /// A byte each: letters, digits, signs and blanks of ASCII
    Ascii,
    /// One to four bytes each: every character that is not a control; contains ASCII
    Utf8,
    /// Two bytes each, the low byte first: ASCII, and Latin, Greek and Cyrillic letters
    Utf16,
}

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
