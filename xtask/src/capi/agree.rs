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
        let theirs: Vec<Value> = guest
            .vmie(question.verb, &more)?
            .into_iter()
            .map(|row| only(row, question.fields))
            .collect();
        if theirs.is_empty() {
            return Err(format!(
                "{}: vmie {} finds nothing, so nothing is compared",
                guest.name, question.verb
            )
            .into());
        }
        if let Some(at) =
            (0..ours.len().max(theirs.len())).find(|&at| ours.get(at) != theirs.get(at))
        {
            return Err(format!(
                "{}: {} {}: row {at} is {:?}, and of vmie {} {:?}",
                guest.name,
                question.header,
                question.what,
                ours.get(at),
                question.verb,
                theirs.get(at)
            )
            .into());
        }
    }
    Ok(())
}

fn rows(text: &str) -> Fallible<Vec<Value>> {
    text.lines()
        .map(|line| Ok(serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?))
        .collect()
}

/// Some fields of a row.
fn only(row: Value, fields: &[&str]) -> Value {
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
    let user = (0, guest.user_last);
    let code = guest.code;
    vec![
        Question {
            header: "memmodel",
            what: "regions",
            c: vec![hex(user.0), hex(user.1)],
            verb: "maps",
            vmie: vec!["--range".into(), range(user)],
            fields: &["va", "len", "prot", "user"],
        },
        Question {
            header: "memmodel",
            what: "translate",
            c: vec![hex(code.0), hex(code.1)],
            verb: "vtop",
            vmie: vec![hex(code.0), hex(code.1)],
            fields: &["va", "gpa", "page_size", "prot", "user"],
        },
        Question {
            header: "memmodel",
            what: "read",
            c: vec![hex(code.0), "256".into()],
            verb: "read",
            vmie: vec![format!("{:#x}+256", code.0), "--as".into(), "u64".into()],
            fields: &["va", "value"],
        },
    ]
}
