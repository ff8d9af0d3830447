//! Volatility 3, to see that it takes what vmie exports: a virtual environment of Python's, made once.

use std::fs;
use std::process::Command;

use vmie_lab::volatility_dir;

use super::fingerprint::Fingerprint;
use crate::{Fallible, output, tools, workspace};

/// Makes sure that the virtual environment is there, with the versions of `requirements.txt`.
///
/// # Errors
///
/// When Python cannot make one, or pip cannot get the packages: the tests that need them are never left out
/// silently.
pub(super) fn ensure() -> Fallible<()> {
    tools::ensure_for_python()?;
    let dir = volatility_dir();
    let requirements = workspace().join("xtask/volatility/requirements.txt");
    let mut stamp = Fingerprint::default();
    stamp.add("requirements", &fs::read(&requirements)?);
    stamp.add("python", &output(Command::new("python3").arg("--version"))?);
    let stamp = stamp.text();
    let stamp_file = dir.join("stamp");
    if fs::read_to_string(&stamp_file).ok().as_deref() == Some(&stamp) {
        return Ok(());
    }
    eprintln!("lab: installing Volatility 3 in {}", dir.display());
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    output(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    let pip = output(
        Command::new(dir.join("bin/python"))
            .args([
                "-m",
                "pip",
                "--disable-pip-version-check",
                "install",
                "--quiet",
                "-r",
            ])
            .arg(&requirements),
    );
    if let Err(error) = pip {
        return Err(format!(
            "Volatility 3, on which exported files are tried, cannot be installed: {error}\n\
             It comes from PyPI; {} says which versions.",
            requirements.display()
        )
        .into());
    }
    fs::write(stamp_file, stamp)?;
    Ok(())
}
