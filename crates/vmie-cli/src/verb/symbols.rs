//! `vmie symbols`: what the images of a space say about their addresses.
//!
//! Of the kernel: its own symbols and those of its modules, as `/proc/kallsyms` lists them. Of a
//! process: those of its program and libraries.

use std::borrow::Cow;
use std::sync::Arc;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use vmie::os::{Guest, OsError, Process, Symbol, SymbolTable, demangle, demangle_base};
use vmie_rows::{Hex, Owner, SymbolRow};

use super::export::{self, ExportArgs};
use crate::args::{AllArgs, OwnerArgs, SourceArgs};
use crate::escape;
use crate::exit::{Done, Failure, Result};
use crate::glob::Glob;
use crate::guest::{everyone, failed, owner, tell_findings};
use crate::options::Options;
use crate::output::{Row, SpaceKind};
use crate::source::Source;
use crate::space::select_process;

/// The name that stands for the kernel's own image.
const KERNEL: &str = "kernel";

/// `symbols SOURCE [PATTERN]`, or `symbols export SOURCE`.
#[derive(Debug)]
pub(crate) enum SymbolsArgs {
    List(SymbolListArgs),
    Export(ExportArgs),
}

/// The verb of [`SymbolsArgs::Export`].
const EXPORT: &str = "export";

// Written by hand: what clap derives for arguments or a verb behind them cannot tell which of both was
// typed when the arguments contain further groups.
impl Args for SymbolsArgs {
    fn augment_args(command: Command) -> Command {
        // Afterwards: groups of arguments bring texts about themselves.
        let export = ExportArgs::augment_args(Command::new(EXPORT))
            .about("Write the kernel's symbols and types to a file for other tools")
            .long_about(None);
        SymbolListArgs::augment_args(command)
            .subcommand(export)
            .args_conflicts_with_subcommands(true)
            .disable_help_subcommand(true)
            .subcommand_negates_reqs(true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SymbolsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        match matches.subcommand_matches(EXPORT) {
            Some(matches) => ExportArgs::from_arg_matches(matches).map(Self::Export),
            None => SymbolListArgs::from_arg_matches(matches).map(Self::List),
        }
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[derive(Args, Debug)]
pub(crate) struct SymbolListArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
    #[command(flatten)]
    pub(crate) all: AllArgs,

    /// Only those of this module; `kernel` is the kernel itself
    #[arg(long, value_name = "NAME")]
    pub(crate) module: Option<String>,

    /// Only these names, as the source or the linker has them: `*` stands for any characters, `?` for one
    #[arg(value_name = "PATTERN")]
    pub(crate) pattern: Option<Glob>,
}

pub(super) fn run(args: &SymbolsArgs, options: &Options) -> Result<Done> {
    match args {
        SymbolsArgs::List(args) => list(args, options),
        SymbolsArgs::Export(args) => export::run(args, options),
    }
}

fn list(args: &SymbolListArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let os = source.os()?;
    let many = args.all.all_processes;
    let asked = match many {
        true => everyone(os, args.owner.kernel, &options.reporter)?,
        false => {
            let process = select_process(&source, &args.owner, &options.reporter)?;
            vec![process.map(|(_, process)| process)]
        }
    };
    let mut sink = options.sink::<SymbolRow<'_>>(SpaceKind::Virtual).many(many);
    let mut listed = Listed::default();
    let mut full = false;
    let demangles = os.demangles();
    for process in asked {
        let images = Images {
            guest: os.guest(),
            process,
            only: args.module.as_deref(),
            options,
        };
        let owner = many.then(|| owner(process));
        images.each(&mut listed, |image, table| {
            for symbol in table.iter() {
                let plain = demangle(symbol.name);
                let wanted = args.pattern.as_ref();
                if !wanted.is_none_or(|one| is_wanted(one, symbol.name, plain.as_deref())) {
                    continue;
                }
                let plain = plain.filter(|_| demangles);
                if sink
                    .row(&row(symbol, plain, image, owner.clone()))?
                    .is_break()
                {
                    full = true;
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        if full {
            break;
        }
    }
    if listed.images == 0 {
        let failure = match (listed.error, &args.module) {
            (Some(error), _) => failed(&error),
            (None, Some(name)) => Failure::new(format!(
                "there is no module named `{}`",
                escape::plain(name)
            ))
            .hint("`vmie modules`, to list them; the kernel itself is called `kernel`"),
            (None, None) => Failure::new("there is no image with symbols"),
        };
        return Err(failure.into());
    }
    let found = sink.rows() > 0;
    if !found {
        options.reporter.note(&match &args.pattern {
            Some(pattern) => format!("no symbol matches `{}`", escape::plain(&pattern.text())),
            None => "there are no symbols".to_owned(),
        });
    }
    sink.finish(None)?;
    Ok(Done {
        found,
        complete: listed.complete(),
    })
}

/// The images that are meant.
struct Images<'a> {
    guest: &'a dyn Guest,
    process: Option<&'a Process>,
    only: Option<&'a str>,
    options: &'a Options,
}

/// How the listing went.
#[derive(Default)]
struct Listed {
    images: usize,
    damaged: bool,
    error: Option<OsError>,
}

impl Listed {
    fn complete(&self) -> bool {
        !self.damaged && self.error.is_none()
    }
}

impl Images<'_> {
    /// Calls `with` for each image, `None` being the kernel's own, until it answers `false`.
    fn each(
        &self,
        listed: &mut Listed,
        mut with: impl FnMut(Option<&str>, &SymbolTable) -> Result<bool>,
    ) -> Result<()> {
        let reporter = &self.options.reporter;
        let mut one = |name: Option<&str>,
                       table: std::result::Result<Arc<SymbolTable>, OsError>,
                       listed: &mut Listed| {
            match table {
                Ok(table) => {
                    listed.images += 1;
                    if table.missing() > 0 {
                        reporter.warn(&format!(
                            "{}: {} symbols could not be read",
                            escape::plain(name.unwrap_or(KERNEL)),
                            table.missing()
                        ));
                        listed.damaged = true;
                    }
                    with(name, &table)
                }
                Err(error) => {
                    reporter.warn(&match name {
                        Some(name) => format!("{}: {error}", escape::plain(name)),
                        None => error.to_string(),
                    });
                    listed.error = Some(error);
                    Ok(true)
                }
            }
        };
        let wanted = |name: &str| self.only.is_none_or(|only| only == name);
        if self.process.is_none() && wanted(KERNEL) && !one(None, self.guest.symbols(), listed)? {
            return Ok(());
        }
        if self.process.is_none() && self.only == Some(KERNEL) {
            return Ok(());
        }
        let listing = match self.guest.modules(self.process) {
            Ok(listing) => listing,
            Err(error) => {
                reporter.warn(&error.to_string());
                listed.error = Some(error);
                return Ok(());
            }
        };
        listed.damaged |= tell_findings(&listing.findings, reporter);
        for module in listing.items.iter().filter(|module| wanted(&module.name)) {
            let table = self.guest.module_symbols(self.process, module);
            if !one(Some(&module.name), table, listed)? {
                break;
            }
        }
        Ok(())
    }
}

/// Whether a pattern means a symbol: by the linker's name, or by the source's, with parameters or without.
fn is_wanted(pattern: &Glob, name: &str, plain: Option<&str>) -> bool {
    pattern.matches(name)
        || plain.is_some_and(|plain| {
            pattern.matches(plain) || demangle_base(name).is_some_and(|base| pattern.matches(&base))
        })
}

fn row<'a>(
    symbol: Symbol<'a>,
    plain: Option<String>,
    module: Option<&'a str>,
    owner: Option<Owner>,
) -> SymbolRow<'a> {
    let mangled = plain.is_some().then_some(symbol.name);
    SymbolRow {
        owner,
        va: Hex(symbol.va.0),
        name: plain.map_or(Cow::Borrowed(symbol.name), Cow::Owned),
        mangled,
        r#type: symbol.kind,
        module,
    }
}

impl Row for SymbolRow<'_> {}
