//! The verbs, one file each.

mod completions;
mod demo;
mod dissect;
mod export;
mod find;
mod info;
mod man;
mod maps;
mod modules;
mod paths;
mod ps;
mod read;
mod refs;
mod scan;
mod show;
mod sig;
mod snap;
mod strings;
mod symbols;
mod types;
mod vtop;
mod xref;

use crate::args::Verb;
use crate::exit::{Done, Result};
use crate::options::Options;

/// Runs a verb.
pub(crate) fn run(verb: &Verb, options: &Options) -> Result<Done> {
    match verb {
        Verb::Info(args) => info::run(args, options),
        Verb::Maps(args) => maps::run(args, options),
        Verb::Vtop(args) => vtop::run(args, options),
        Verb::Read(args) => read::run(args, options),
        Verb::Scan(args) => scan::run(args, options),
        Verb::Sig(args) => sig::run(args, options),
        Verb::Find(args) => find::run(args, options),
        Verb::Strings(args) => strings::run(args, options),
        Verb::Xref(args) => xref::run(args, options),
        Verb::Refs(args) => refs::run(args, options),
        Verb::Paths(args) => paths::run(args, options),
        Verb::Dissect(args) => dissect::run(args, options),
        Verb::Snap(args) => snap::run(args, options),
        Verb::Ps(args) => ps::run(args, options),
        Verb::Modules(args) => modules::run(args, options),
        Verb::Symbols(args) => symbols::run(args, options),
        Verb::Type(args) => types::run(args, options),
        Verb::Show(args) => show::run(args, options),
        Verb::Demo(args) => demo::run(args, options),
        Verb::Completions(args) => completions::run(args),
        Verb::Man(args) => man::run(args),
    }
}
