//! `vmie man [DIR]`: the man page on standard output, or a page per verb in a directory.

use std::io::Write as _;
use std::path::Path;

use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::args::{Cli, ManArgs};
use crate::exit::{Done, Failure, Result, Stop};

pub(super) fn run(args: &ManArgs) -> Result<Done> {
    match &args.dir {
        Some(dir) => write_all(dir),
        None => {
            let mut page = Vec::new();
            Man::new(Cli::command())
                .render(&mut page)
                .and_then(|()| std::io::stdout().write_all(&page))
                .map_err(|error| Stop::writing(&error))?;
            Ok(Done::FOUND)
        }
    }
}

fn write_all(dir: &Path) -> Result<Done> {
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .map_err(|error| {
            Failure::new(format!(
                "cannot write man pages into {}: {error}",
                dir.display()
            ))
        })?;
    Ok(Done::FOUND)
}
