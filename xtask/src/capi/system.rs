//! What os.h says of a guest is what the command's lists say.

use serde_json::Value;

use super::agree::{differ, only, rows};
use super::compile::Program;
use super::guests::{Subject, number};
use crate::Fallible;

/// The same question for both.
struct Question<'q> {
    c: &'q [&'q str],
    verb: &'q str,
    vmie: &'q [&'q str],
    fields: &'static [&'static str],
}

/// Compares processes, modules, symbols and names.
pub(crate) fn compare(programs: &[Program], guest: &Subject) -> Fallible<()> {
    let program = programs
        .iter()
        .find(|program| program.header == "os")
        .ok_or("no test program for os")?;
    // A process with libraries.
    let pid = guest
        .vmie_bare("ps", &[])?
        .iter()
        .filter(|row| row["kernel"] == false && !row["cr3"].is_null())
        .filter_map(|row| row["pid"].as_u64())
        .map(|pid| pid.to_string())
        .find(|pid| {
            let modules = guest.vmie_bare("modules", &["--pid", pid]);
            modules.is_ok_and(|modules| modules.iter().any(is_libc))
        })
        .ok_or("no process has a libc")?;
    let module: &[&str] = &["va", "len", "name", "start", "span"];
    for question in [
        Question {
            c: &["processes"],
            verb: "ps",
            vmie: &[],
            fields: &["pid", "ppid", "name", "state", "threads", "kernel", "cr3"],
        },
        Question {
            c: &["modules"],
            verb: "modules",
            vmie: &[],
            fields: module,
        },
        Question {
            c: &["modules", &pid],
            verb: "modules",
            vmie: &["--pid", &pid],
            fields: module,
        },
        Question {
            c: &["symbols", "vfs_"],
            verb: "symbols",
            vmie: &["vfs_*"],
            fields: &["va", "name", "type"],
        },
    ] {
        let theirs = guest.vmie_bare(question.verb, question.vmie)?;
        let theirs = theirs.into_iter().map(|row| only(row, question.fields));
        let mut theirs: Vec<Value> = theirs.collect();
        if question.verb == "modules" {
            theirs.sort_by_key(|row| number(&row["start"]));
        }
        let ours = ask(program, guest, question.c)?;
        differ(&guest.name, &format!("os {:?}", question.c), &ours, &theirs)?;
    }
    // Names, of the kernel and of a library.
    let names = ["init_task", "init_task+0x40", "libc.so.6!malloc"];
    let theirs = guest.vmie_bare("vtop", &["--pid", &pid, names[0], names[1], names[2]])?;
    let theirs: Vec<Value> = theirs.into_iter().map(|row| only(row, &["va"])).collect();
    let ours = ask(
        program,
        guest,
        &["names", &pid, names[0], names[1], names[2]],
    )?;
    differ(&guest.name, "os names", &ours, &theirs)
}

fn is_libc(module: &Value) -> bool {
    module["name"] == "libc.so.6"
}

fn ask(program: &Program, guest: &Subject, words: &[&str]) -> Fallible<Vec<Value>> {
    let [source, layout, cr3] = guest.words();
    let (what, more) = words.split_first().ok_or("nothing is asked")?;
    let mut all = vec!["agree", *what, &source, &layout, &cr3];
    all.extend(more);
    rows(&program.read(&all)?)
}
