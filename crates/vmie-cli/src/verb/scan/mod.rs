//! `vmie scan`: byte signatures and rules in an address space, in many, or in physical memory.

mod args;
mod context;
#[cfg(feature = "yara")]
mod rules;

use vmie_rows::MatchRow;

use crate::exit::{Done, Failure, Result};
use crate::options::Options;
use crate::output::{Cell, Row};
use crate::seek::Seek;
use crate::signatures;
pub(super) use args::ScanArgs;
use context::around_match;

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
    seek.run(&set, |place, matched, around| {
        Some(MatchRow {
            context: (context > 0).then(|| around_match(place.va.0, context, around)),
            place,
            sig: &names[matched.sig],
        })
    })
}

impl Row for MatchRow<'_> {
    fn cell(&self, key: &str) -> Option<Cell> {
        (key == "context").then(|| context::cell(self.context.as_ref(), self.place.va))
    }
}
