//! What the library exports, what the headers declare, and the list that both are held to.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use super::install::{self, Installed};
use super::sources;
use crate::{Fallible, output};

/// Compares all three, and the name under which the library is known to the dynamic linker.
pub(crate) fn compare(installed: &Installed) -> Fallible<()> {
    let text = fs::read_to_string(sources().join("symbols.txt"))?;
    let listed: Vec<&str> = text.lines().collect();
    let set: BTreeSet<String> = listed.iter().map(|&name| name.to_owned()).collect();
    if !listed.is_sorted() || set.len() != listed.len() {
        return Err("symbols.txt is not in order, or lists a symbol twice".into());
    }
    let library = installed.lib().join("libvmie.so");
    let table = output(
        Command::new("nm")
            .args(["--dynamic", "--defined-only", "--format=posix"])
            .arg(&library),
    )?;
    let exported = String::from_utf8(table)?
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    same("the library exports", &exported, &set)?;

    let mut declared = BTreeSet::new();
    for header in install::headers()? {
        declared.extend(declarations(&fs::read_to_string(header)?));
    }
    same("the headers declare", &declared, &set)?;

    let dynamic = output(Command::new("objdump").arg("-p").arg(&library))?;
    let soname = install::soname(env!("CARGO_PKG_VERSION"));
    let dynamic = String::from_utf8(dynamic)?;
    let found = dynamic
        .lines()
        .find_map(|line| line.trim().strip_prefix("SONAME"))
        .map(str::trim);
    if found == Some(&*soname) {
        Ok(())
    } else {
        Err(format!("the soname is {found:?}, not {soname}").into())
    }
}

fn same(what: &str, found: &BTreeSet<String>, listed: &BTreeSet<String>) -> Fallible<()> {
    let more: Vec<_> = found.difference(listed).cloned().collect();
    let less: Vec<_> = listed.difference(found).cloned().collect();
    if more.is_empty() && less.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{what} besides what symbols.txt lists: {}; and of that not: {}",
        more.join(" "),
        less.join(" ")
    )
    .into())
}

/// The functions that a header of ours declares.
fn declarations(header: &str) -> Vec<String> {
    let mut text = String::new();
    let mut rest = header;
    while let Some((before, comment)) = rest.split_once("/*") {
        text.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    text.push_str(rest);

    // What is within braces are members; the braces of `extern "C"` are lines of their own.
    let (mut code, mut depth, mut continued) = (String::new(), 0_u32, false);
    for line in text.lines() {
        let directive = continued || line.starts_with('#');
        continued = directive && line.ends_with('\\');
        if directive || line == "extern \"C\" {" || line == "}" {
            continue;
        }
        for c in line.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ if depth == 0 => code.push(c),
                _ => {}
            }
        }
        code.push(' ');
    }
    code.split(';')
        .map(str::trim)
        .filter(|statement| !statement.starts_with("typedef"))
        .filter_map(|statement| statement.split_once('('))
        .filter_map(|(head, _)| {
            let name = head.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            name.into_iter().next().map(str::to_owned)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_told_from_all_else() {
        let header = "\
            #define TWICE(x) \\\n    twice(x)\n\
            #ifdef __cplusplus\nextern \"C\" {\n#endif\n\
            /* int gone(void); */\n\
            typedef int (*callback)(void *);\n\
            typedef struct s {\n    int (*member)(int);\n} s;\n\
            enum { A = 1, B = 2 };\n\
            int first(void);\n\
            const char *second(s *one,\n                   callback two);\n\
            #ifdef __cplusplus\n}\n#endif\n";
        assert_eq!(declarations(header), ["first", "second"]);
    }
}
