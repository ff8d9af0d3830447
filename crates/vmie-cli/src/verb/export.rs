//! `vmie symbols export`: the kernel's symbols and types as a file for other tools.

use std::fs;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use vmie::os::isf::{self, Export};
use vmie_replace::Replacement;

use crate::args::SourceArgs;
use crate::exit::{Done, Failure, Result, Stop};
use crate::guest::{failed, tell_findings};
use crate::options::Options;
use crate::source::Source;

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,

    /// As an ISF file: Volatility 3's symbol JSON
    #[arg(long, required = true)]
    pub(crate) isf: bool,

    /// Write to this file instead of standard output; compressed with xz if its name ends in .xz
    #[arg(short = 'O', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

pub(super) fn run(args: &ExportArgs, options: &Options) -> Result<Done> {
    if args.out.is_none() && io::stdout().is_terminal() {
        return Err(Failure::new("a symbol file is megabytes of one line")
            .hint("-O FILE, or a pipe")
            .into());
    }
    let source = Source::open(&args.source, &options.reporter)?;
    if let Some(path) = &args.out {
        let types = args.source.types.as_deref();
        spare(path, [Some(&*args.source.source), types])?;
    }
    let guest = source.os()?.guest();
    let symbols = guest.symbols().map_err(|error| failed(&error))?;
    let types = guest.types().map_err(|error| failed(&error))?;
    let damaged = tell_findings(&guest.findings(), &options.reporter);
    let what = Export {
        types: &types,
        symbols: &symbols,
        banner: guest.version(),
        build: guest.build_id(),
        slide: guest.slide(),
    };
    match &args.out {
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            isf::export(&what, &mut out)
                .and_then(|()| out.flush())
                .map_err(|error| Stop::writing(&error))?;
        }
        Some(path) => {
            write_file(path, &what).map_err(|error| {
                Failure::new(format!("cannot write {}: {error}", path.display()))
            })?;
        }
    }
    Ok(Done {
        found: true,
        complete: !damaged,
    })
}

/// Refuses to overwrite what is being read.
fn spare(out: &Path, inputs: [Option<&Path>; 2]) -> Result<()> {
    let Ok(real) = fs::canonicalize(out) else {
        // There is no such file yet.
        return Ok(());
    };
    for input in inputs.into_iter().flatten() {
        if fs::canonicalize(input).is_ok_and(|input| input == real) {
            return Err(
                Failure::new(format!("{} is what is being read", out.display()))
                    .hint("another file after -O")
                    .into(),
            );
        }
    }
    Ok(())
}

/// Writes the file, whole or not at all.
fn write_file(path: &Path, what: &Export<'_>) -> io::Result<()> {
    let file = Replacement::create(path)?;
    let compress = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("xz"));
    let mut file = BufWriter::new(file);
    if compress {
        isf::export_xz(what, &mut file)?;
    } else {
        isf::export(what, &mut file)?;
    }
    let file = file.into_inner().map_err(io::Error::from)?;
    file.commit()
}
