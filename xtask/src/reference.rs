//! `cargo xtask reference`: writes the pages of the reference that are made of definitions. A test in `vmie-rows`
//! fails where they were not written anew.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Fallible, workspace};

/// Writes all pages, and removes schemas of shapes that are gone.
pub(crate) fn write() -> Fallible<()> {
    let directory = workspace().join(vmie_rows::DIRECTORY);
    let schemas = directory.join("schemas");
    fs::create_dir_all(&schemas)?;
    let pages = vmie_rows::pages();
    for entry in fs::read_dir(&schemas)? {
        let path = entry?.path();
        let is_page = |(page, _): &(String, String)| path == directory.join(page);
        if !pages.iter().any(is_page) {
            fs::remove_file(&path)?;
            println!("removed {}", shown(&path));
        }
    }
    for (page, text) in &pages {
        let path = directory.join(page);
        if fs::read_to_string(&path).is_ok_and(|before| before == *text) {
            continue;
        }
        fs::write(&path, text)?;
        println!("wrote {}", shown(&path));
    }
    // What the verbs take is known to the command alone: its own test writes that page.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let written = Command::new(cargo)
        .current_dir(workspace())
        .args([
            "test",
            "-q",
            "-p",
            "vmie-cli",
            "--bin",
            "vmie",
            "the_page_of_commands",
        ])
        .env("SNAPSHOTS", "overwrite")
        .status()?;
    match written.success() {
        true => Ok(()),
        false => Err("the page of commands was not written".into()),
    }
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.strip_prefix(workspace()).unwrap_or(path).display()
}
