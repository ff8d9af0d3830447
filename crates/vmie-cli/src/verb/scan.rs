//! `vmie scan`: byte signatures in an address space, in many, or in physical memory.

use serde::Serialize;

use crate::args::ScanArgs;
use crate::exit::{Done, Result};
use crate::options::Options;
use crate::output::{Cell, Column, Hex, Row, View, digits};
use crate::place::Place;
use crate::seek::{Around, Seek};
use crate::signatures::{self, SigName};

pub(super) fn run(args: &ScanArgs, options: &Options) -> Result<Done> {
    // Signatures first: a typing mistake should not wait for a large image to open.
    let (typed, names): (Vec<_>, Vec<_>) =
        signatures::typed(&args.what.signatures, &args.what.files)?
            .into_iter()
            .unzip();
    let set = signatures::compile(typed, args.engine, &options.reporter)?;
    let seek = Seek {
        verb: "scan",
        args: &args.search,
        options,
        asked: args.context.is_some(),
    };
    let context = args.context.unwrap_or(0);
    seek.run(&set, |place, sig, around| {
        Some(MatchRow {
            context: (context > 0).then(|| Context::of(place.va.0, context, around)),
            place,
            sig: &names[sig],
        })
    })
}

#[derive(Serialize)]
struct MatchRow<'a> {
    #[serde(flatten)]
    place: Place,
    sig: &'a SigName,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Context>,
}

/// The bytes around a match.
#[derive(Serialize)]
struct Context {
    va: Hex,
    /// Two digits a byte.
    bytes: String,
    /// How many stand before the match.
    #[serde(skip)]
    before: usize,
}

impl Context {
    /// So many bytes before a match and from it on, as far as they can be read.
    fn of(va: u64, len: usize, around: &dyn Around) -> Self {
        let mut bytes = around.before(va, len);
        let before = bytes.len();
        bytes.extend(around.read(va, len));
        Self {
            va: Hex(va - before as u64),
            bytes: digits(&bytes),
            before,
        }
    }

    fn view(&self) -> String {
        let digits = self.bytes.as_bytes().chunks(2);
        let mut text = String::new();
        for (i, byte) in digits.enumerate() {
            let mark = if i == self.before { "> " } else { "" };
            text.push_str(mark);
            text.push_str(std::str::from_utf8(byte).unwrap_or_default());
            text.push(' ');
        }
        text.trim_end().to_owned()
    }
}

impl Row for MatchRow<'_> {
    const COLUMNS: &'static [Column] = &[
        Column::right("pid").with_many(),
        Column::left("process").with_many(),
        Column::right("va"),
        Column::left("sig"),
        Column::left("context").if_asked(),
        Column::left("region").with_many(),
        Column::left("name").with_os(),
    ];

    fn view(&self) -> View {
        let context = self.context.as_ref().map(Context::view);
        View::Cells(self.place.cells([
            Cell::new(self.sig.to_string()),
            Cell::new(context.unwrap_or_default()),
        ]))
    }
}
