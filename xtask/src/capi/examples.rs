//! The examples, used as their first lines say.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::install::Installed;
use super::{HEADERS, shown, sources};
use crate::{Fallible, output};

/// Compiles and runs each example, and compares what it prints with the file of its name that ends in `.out`;
/// with `SNAPSHOTS=overwrite`, writes that file.
pub(crate) fn run(installed: &Installed, dir: &Path, demo: &Path) -> Fallible<()> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir)?;
    // The lines name the demo's image as the README does.
    std::os::unix::fs::symlink(demo, dir.join("demo.elf"))?;
    for header in HEADERS {
        let source = sources().join(format!("examples/{header}.c"));
        let text = fs::read_to_string(&source)
            .map_err(|error| format!("{}: {error}", source.display()))?;
        fs::copy(&source, dir.join(format!("{header}.c")))?;
        let line = |word: &str| {
            let found = text.lines().find_map(|line| line.trim().strip_prefix(word));
            found
                .map(str::trim)
                .ok_or_else(|| format!("{}: no line begins with `{word}`", source.display()))
        };
        let shell = |line: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", line]).current_dir(dir);
            output(installed.env(&mut command))
        };
        shell(line("* Compile:")?)?;
        let printed = shell(line("* Run:")?)?;
        let golden = source.with_extension("out");
        if std::env::var_os("SNAPSHOTS").is_some_and(|value| value == "overwrite") {
            fs::write(&golden, &printed)?;
        }
        if fs::read(&golden).unwrap_or_default() != printed {
            return Err(format!(
                "{} printed something else than {}:\n{}",
                shown(&source),
                shown(&golden),
                String::from_utf8_lossy(&printed)
            )
            .into());
        }
    }
    Ok(())
}
