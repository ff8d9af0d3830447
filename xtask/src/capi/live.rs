//! Running guests: a C program stops one, lets it run on, and sees it quit.
//!
//! QEMU's firmware is guest enough. Whether it runs is asked on a socket of our own, between two steps of the
//! program, which waits for us after each.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::compile::Program;
use super::shown;
use crate::Fallible;
use crate::lab::qmp::Qmp;

/// A QEMU that ends with this.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the program says after each step, and what QEMU must say then; `None` ends QEMU.
const STEPS: [(&str, Option<&str>); 6] = [
    ("opened", Some("running")),
    ("paused", Some("paused")),
    ("resumed", Some("running")),
    ("paused", Some("paused")),
    ("closed", Some("running")),
    ("opened", None),
];

/// Runs the program in its forms, each on a guest of its own; not under valgrind, of which the version that Debian
/// 12 has does not know pidfds.
pub(crate) fn run(program: &Program, dir: &Path) -> Fallible<()> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir)?;
    for mut command in program.unwatched() {
        for socket in ["theirs", "ours"] {
            let _ = fs::remove_file(dir.join(socket));
        }
        let socket = |which: &str| format!("unix:{which},server=on,wait=off");
        let mut qemu = Qemu(
            Command::new("qemu-system-x86_64")
                .args([
                    "-accel",
                    "tcg",
                    "-m",
                    "32",
                    "-nodefaults",
                    "-no-user-config",
                ])
                .args([
                    "-display",
                    "none",
                    "-qmp",
                    &socket("theirs"),
                    "-qmp",
                    &socket("ours"),
                ])
                .current_dir(dir)
                .stdin(Stdio::null())
                .spawn()
                .map_err(|error| format!("qemu-system-x86_64: {error}; `--no-lab` does without"))?,
        );
        let mut ours = Qmp::connect(&dir.join("ours"))?;
        let mut child = command
            .args(["live", "qemu:theirs"])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut told = child.stdin.take().ok_or("no pipe to the program")?;
        let said = BufReader::new(child.stdout.take().ok_or("no pipe from the program")?);
        let mut lines = said.lines();
        let mut steps = || -> Fallible<()> {
            for (step, status) in STEPS {
                let said = lines.next().transpose()?;
                if said.as_deref() != Some(step) {
                    return Err(format!("it said {said:?}, not {step}").into());
                }
                match status {
                    Some(status) => {
                        let answer = ours.execute("query-status", json!({}))?;
                        if answer["status"] != status {
                            return Err(format!("{step}: the guest is {}", answer["status"]).into());
                        }
                    }
                    None => {
                        qemu.0.kill()?;
                        qemu.0.wait()?;
                    }
                }
                told.write_all(b"\n")?;
            }
            Ok(())
        };
        let result = steps();
        drop(told);
        let status = child.wait()?;
        if result.is_err() || !status.success() {
            let form = shown(Path::new(command.get_program()));
            let why = result.err().map(|error| error.to_string());
            return Err(format!(
                "{form} on a running guest: {status}; {}",
                why.unwrap_or_default()
            )
            .into());
        }
    }
    Ok(())
}
