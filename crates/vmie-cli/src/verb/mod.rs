//! The verbs, one file each.

mod completions;
mod creds;
mod demo;
mod dissect;
mod dmesg;
mod env;
mod export;
mod find;
mod history;
mod info;
mod lsof;
mod man;
mod maps;
mod modules;
mod net;
mod ns;
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
mod threads;
mod types;
mod vtop;
mod xref;

use clap::Subcommand;

use crate::answer::AnswerArgs;
use crate::exit::{Done, Result};
use crate::options::Options;
use crate::several::each;
use crate::whole::Whole;

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Show what an image is: format, physical ranges, CPUs, operating system
    Info(info::InfoArgs),
    /// List the mapped regions of an address space
    Maps(maps::MapsArgs),
    /// Translate virtual addresses, showing every page-table entry
    Vtop(vtop::VtopArgs),
    /// Show memory: hex, raw bytes, 64-bit words or instructions
    Read(read::ReadArgs),
    /// Find byte signatures, or evaluate YARA rules
    Scan(scan::ScanArgs),
    /// Explain signatures
    #[command(subcommand)]
    Sig(sig::SigArgs),
    /// Find numbers, texts and bytes
    Find(Box<find::FindArgs>),
    /// Find whatever reads as text
    Strings(strings::StringsArgs),
    /// Find the instructions that refer to an address
    Xref(xref::XrefArgs),
    /// Find what points at an address or into a range
    Refs(refs::RefsArgs),
    /// Find paths of pointers from fixed bases to an address
    Paths(paths::PathsArgs),
    /// Guess the fields of an object
    Dissect(dissect::DissectArgs),
    /// Keep snapshots of memory, and compare them
    #[command(subcommand)]
    Snap(snap::SnapArgs),
    /// List the processes of the guest
    Ps(ps::PsArgs),
    /// List the threads of processes
    Threads(AnswerArgs),
    /// List what processes may do: users, groups, capabilities, system-call filters
    Creds(AnswerArgs),
    /// List the environment of processes
    Env(AnswerArgs),
    /// List where processes live: namespaces, control groups, containers
    Ns(ns::NsArgs),
    /// List what processes hold open
    Lsof(lsof::LsofArgs),
    /// List sockets with who holds them, or network interfaces
    Net(net::NetArgs),
    /// List the messages in the kernel's log
    Dmesg(dmesg::DmesgArgs),
    /// List what was typed into shells (bash)
    History(history::HistoryArgs),
    /// List kernel modules, or the program and libraries of a process
    Modules(modules::ModulesArgs),
    /// List the symbols of the kernel and its modules, or of a process
    Symbols(symbols::SymbolsArgs),
    /// Print a type of the kernel with offsets and sizes
    Type(types::TypeArgs),
    /// Print an instance of a kernel type with its values
    Show(show::ShowArgs),
    /// Take a guided tour on a built-in synthetic guest
    Demo(demo::DemoArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Print the man page, or write one per verb into a directory
    Man(man::ManArgs),
}

/// Runs a verb.
pub(crate) fn run(verb: &Verb, options: &Options, whole: &Whole) -> Result<Done> {
    match verb {
        Verb::Info(args) => each(args, options, info::run),
        Verb::Maps(args) => each(args, options, maps::run),
        Verb::Vtop(args) => vtop::run(args, options),
        Verb::Read(args) => read::run(args, options),
        Verb::Scan(args) => each(args, options, scan::run),
        Verb::Sig(args) => sig::run(args, options),
        Verb::Find(args) => each(&**args, options, find::run),
        Verb::Strings(args) => each(args, options, strings::run),
        Verb::Xref(args) => each(args, options, xref::run),
        Verb::Refs(args) => refs::run(args, options),
        Verb::Paths(args) => paths::run(args, options),
        Verb::Dissect(args) => dissect::run(args, options),
        Verb::Snap(args) => snap::run(args, options),
        Verb::Ps(args) => each(args, options, ps::run),
        Verb::Threads(args) => each(args, options, threads::run),
        Verb::Creds(args) => each(args, options, creds::run),
        Verb::Env(args) => each(args, options, env::run),
        Verb::Ns(args) => each(args, options, ns::run),
        Verb::Lsof(args) => each(args, options, lsof::run),
        Verb::Net(args) => each(args, options, net::run),
        Verb::Dmesg(args) => each(args, options, dmesg::run),
        Verb::History(args) => each(args, options, history::run),
        Verb::Modules(args) => each(args, options, modules::run),
        Verb::Symbols(args) => symbols::run(args, options),
        Verb::Type(args) => types::run(args, options),
        Verb::Show(args) => show::run(args, options),
        Verb::Demo(args) => demo::run(args, options, whole),
        Verb::Completions(args) => completions::run(args, whole),
        Verb::Man(args) => man::run(args, whole),
    }
}
