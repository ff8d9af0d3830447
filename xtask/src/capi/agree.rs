//! What a C program reads from a guest is what the command says.

use serde_json::Value;

use super::compile::Program;
use super::guests::Subject;
use crate::Fallible;

/// Something that both are asked.
struct Question {
    header: &'static str,
    /// What the test program calls it.
    what: &'static str,
    /// Besides the source and the root.
    c: Vec<String>,
    verb: &'static str,
    vmie: Vec<String>,
    /// Whether the command is asked about the process and not about the root.
    of_process: bool,
    /// What of the rows is compared.
    fields: &'static [&'static str],
}

/// Asks both everything there is to ask about a guest.
pub(crate) fn compare(programs: &[Program], guest: &Subject) -> Fallible<()> {
    for question in questions(guest) {
        let program = programs
            .iter()
            .find(|program| program.header == question.header)
            .ok_or_else(|| format!("no test program for {}", question.header))?;
        let source = guest.words();
        let words: Vec<&str> = ["agree", question.what]
            .into_iter()
            .chain(source.iter().chain(&question.c).map(String::as_str))
            .collect();
        let ours = rows(&program.read(&words)?)?;
        let more: Vec<&str> = question.vmie.iter().map(String::as_str).collect();
        let theirs = if question.of_process {
            guest.vmie_of_process(question.verb, &more)?
        } else {
            guest.vmie(question.verb, &more)?
        };
        let theirs: Vec<Value> = theirs
            .into_iter()
            .map(|row| only(row, question.fields))
            .collect();
        let what = format!("{} {}", question.header, question.what);
        differ(&guest.name, &what, &ours, &theirs)?;
    }
    Ok(())
}

/// Fails where the rows of the two are not the same, or where there are none: then nothing is compared.
pub(super) fn differ(guest: &str, what: &str, ours: &[Value], theirs: &[Value]) -> Fallible<()> {
    if theirs.is_empty() {
        return Err(format!("{guest}: {what}: the command finds nothing to compare with").into());
    }
    match (0..ours.len().max(theirs.len())).find(|&at| ours.get(at) != theirs.get(at)) {
        None => Ok(()),
        Some(at) => Err(format!(
            "{guest}: {what}: row {at} is {:?}, and the command's {:?}",
            ours.get(at),
            theirs.get(at)
        )
        .into()),
    }
}

pub(super) fn rows(text: &str) -> Fallible<Vec<Value>> {
    text.lines()
        .map(|line| Ok(serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?))
        .collect()
}

/// Some fields of a row.
pub(super) fn only(row: Value, fields: &[&str]) -> Value {
    fields
        .iter()
        .map(|&field| {
            (
                field.to_owned(),
                row.get(field).cloned().unwrap_or_default(),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn hex(number: u64) -> String {
    format!("{number:#x}")
}

/// `[first, last]` as the command takes ranges.
fn range((first, last): (u64, u64)) -> String {
    format!("{first:#x}..{:#x}", last + 1)
}

fn questions(guest: &Subject) -> Vec<Question> {
    let mut questions = of_memmodel(guest);
    questions.extend(of_sigscan(guest));
    questions.extend(of_scan(guest));
    questions
}

fn of_memmodel(guest: &Subject) -> Vec<Question> {
    let user = (0, guest.user_last);
    let code = guest.code;
    let question = |what, c, verb, vmie, fields| Question {
        header: "memmodel",
        what,
        c,
        verb,
        vmie,
        of_process: false,
        fields,
    };
    vec![
        question(
            "regions",
            vec![hex(user.0), hex(user.1)],
            "maps",
            vec!["--range".into(), range(user)],
            &["va", "len", "prot", "user"],
        ),
        question(
            "translate",
            vec![hex(code.0), hex(code.1)],
            "vtop",
            vec![hex(code.0), hex(code.1)],
            &["va", "gpa", "page_size", "prot", "user"],
        ),
        question(
            "read",
            vec![hex(code.0), "256".into()],
            "read",
            vec![format!("{:#x}..+256", code.0), "--as".into(), "u64".into()],
            &["va", "value"],
        ),
    ]
}

fn of_sigscan(guest: &Subject) -> Vec<Question> {
    // Calls, loads of variables and returns are in all code.
    const SIGNATURES: [&str; 3] = ["E8 ?? ?? ?? (00 | FF)", "48 8B (05 | 0D)", "C3"];
    let code = guest.code;
    let mut c = vec![hex(code.0), hex(code.1)];
    let mut vmie = vec!["--range".into(), range(code), "--perm".into(), "x".into()];
    for signature in SIGNATURES {
        c.push(signature.to_owned());
        vmie.extend(["-s".to_owned(), signature.to_owned()]);
    }
    vec![Question {
        header: "sigscan",
        what: "scan",
        c,
        verb: "scan",
        vmie,
        of_process: false,
        fields: &["va", "sig"],
    }]
}

fn of_scan(guest: &Subject) -> Vec<Question> {
    const SIGNATURE: &str = "48 (8B | 8D) [1-8] (48 | E8)";
    let (code, data, whole) = (guest.code, guest.data, guest.whole());
    let question = |what, c, verb, vmie, fields| Question {
        header: "scan",
        what,
        c,
        verb,
        vmie,
        of_process: what == "paths",
        fields,
    };
    // Where it begins there are some instructions that refer to something else in it.
    let start = (code.0, code.1.min(code.0 + 0x3fff));
    let page = (code.0, code.0 + 0xfff);
    vec![
        question(
            "sweep",
            vec![hex(page.0), hex(page.1)],
            "read",
            vec![range(page), "--as".into(), "u64".into()],
            &["va", "value"],
        ),
        question(
            "signature",
            vec![hex(code.0), hex(code.1), SIGNATURE.into()],
            "scan",
            vec!["--range".into(), range(code), "-s".into(), SIGNATURE.into()],
            &["va"],
        ),
        question(
            "xref",
            vec![hex(start.0), hex(start.1), hex(code.0), hex(code.1)],
            "xref",
            vec!["--range".into(), range(start), "--to".into(), range(code)],
            &["va", "kind", "target", "len", "linear"],
        ),
        // Short distances back, as loops and calls have them.
        question(
            "value",
            vec![hex(code.0), hex(code.1), "-4096".into(), "-1".into()],
            "find",
            ["--range", &range(code), "--i32=-4096..=-1", "--align", "1"]
                .map(str::to_owned)
                .into(),
            &["va", "value"],
        ),
        question(
            "paths",
            [whole.0, whole.1, data.0, data.1, guest.pointee]
                .map(hex)
                .into(),
            "paths",
            [
                &*hex(guest.pointee),
                "--from",
                &range(data),
                "--depth",
                "2",
                "--max-offset",
                "0x40",
                "--no-index",
            ]
            .map(str::to_owned)
            .into(),
            &["base", "offsets"],
        ),
    ]
}
