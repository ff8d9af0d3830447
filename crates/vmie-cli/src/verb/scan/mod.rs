//! `vmie scan`: byte signatures and rules in an address space, in many, or in physical memory.

mod context;
#[cfg(feature = "yara")]
mod rules;

use serde::Serialize;

use crate::args::ScanArgs;
use crate::exit::{Done, Failure, Result};
use crate::options::Options;
use crate::output::{Cell, Column, Row, View};
use crate::place::Place;
use crate::seek::Seek;
use crate::signatures::{self, SigName};
use context::Context;

pub(super) fn run(args: &ScanArgs, options: &Options) -> Result<Done> {
    if !args.what.rules.is_empty() {
        #[cfg(feature = "yara")]
        return rules::run(args, options);
        #[cfg(not(feature = "yara"))]
        return Err(Failure::new("this vmie was built without rules")
            .hint("build it with the feature `yara`, which is on by default")
            .into());
    }
    if let Some(defined) = args.what.defined.first() {
        return Err(Failure::new(format!("-d {defined} is for rules"))
            .found("signatures, which have no variables")
            .hint("--yara FILE|DIR")
            .into());
    }
    // Signatures first: a typing mistake should not wait for a large image to open.
    let (typed, names): (Vec<_>, Vec<_>) =
        signatures::typed(&args.what.signatures, &args.what.files, &options.reporter)?
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
