//! `vmie man [DIR]`: the man page on standard output, or a page per verb in a directory.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Command, ValueHint};
use clap_mangen::Man;

use crate::exit::{Done, Failure, Result, Stop};
use crate::whole::Whole;

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Write vmie.1 and a page per verb into this directory
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs, whole: &Whole) -> Result<Done> {
    match &args.dir {
        Some(dir) => write_all((whole.command)(), dir),
        None => {
            let mut page = Vec::new();
            Man::new((whole.command)())
                .render(&mut page)
                .and_then(|()| std::io::stdout().write_all(&page))
                .map_err(|error| Stop::writing(&error))?;
            Ok(Done::FOUND)
        }
    }
}

fn write_all(command: Command, dir: &Path) -> Result<Done> {
    std::fs::create_dir_all(dir)
        .and_then(|()| {
            let mut all = command.disable_help_subcommand(true);
            all.build();
            write_page(&all, dir)
        })
        .map_err(|error| {
            Failure::new(format!(
                "cannot write man pages into {}: {error}",
                dir.display()
            ))
        })?;
    Ok(Done::FOUND)
}

/// The page of a command, and those of the commands under it.
fn write_page(command: &Command, dir: &Path) -> std::io::Result<()> {
    for inner in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        write_page(inner, dir)?;
    }
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    vmie_replace::write(&dir.join(man.get_filename()), &page)
}
