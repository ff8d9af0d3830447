//! What `pahole` says about the layout of types: run, and its text read.
//!
//! It prints C with places:
//!
//! ```text
//! struct page {
//!     long unsigned int          flags;                /*     0     8 */
//!     union {
//!         struct list_head   lru;                  /*     8    16 */
//!         unsigned int       order:8;              /*     8: 0  4 */
//!     };                                               /*     8    40 */
//!     /* size: 64, cachelines: 1, members: 8 */
//! };
//! ```
//!
//! Places count from the outermost record: bytes, for bit-fields also bits from there. The size of a union
//! is not in it; a list of names with sizes, which pahole prints as well, has that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// A member: name, first bit, and number of bits.
pub(crate) type Member = (String, u64, u64);

/// A structure or union with a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    /// `struct page`.
    pub(crate) title: String,
    /// Bytes, where they are known.
    pub(crate) size: Option<u64>,
    /// Its members and those of the nameless records in it, these themselves included; sorted.
    pub(crate) members: Vec<Member>,
}

/// All records that `file` describes in this form, `btf` or `dwarf`.
pub(crate) fn run(form: &str, file: &Path) -> Vec<Record> {
    let pahole = |options: &[&str]| {
        let output = Command::new("pahole").args(options).arg(file).output();
        let output = output.expect("pahole, which `cargo xtask lab` installs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", file.display());
        String::from_utf8(output.stdout).expect("text")
    };
    let mut sizes: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for line in pahole(&["-F", form, "--sizes"]).lines() {
        let mut words = line.split('\t');
        let name = words.next().expect("a name").to_owned();
        let size = words.next().and_then(|size| size.parse().ok());
        sizes.entry(name).or_default().insert(size.expect("a size"));
    }
    let mut records = parse(&pahole(&["-F", form]));
    for record in records.iter_mut().filter(|record| record.size.is_none()) {
        let name = record.title.strip_prefix("union ").expect("a union");
        let sizes = sizes.get(name).expect("is listed");
        // A structure may have the same name.
        if let (1, Some(&size)) = (sizes.len(), sizes.first()) {
            record.size = Some(size);
        }
    }
    records
}

fn parse(text: &str) -> Vec<Record> {
    let mut records = Vec::new();
    let mut open: Option<Record> = None;
    // How many members stood before each of the records that are opened up.
    let mut before = Vec::new();
    for line in text.lines() {
        if let Some(record) = &mut open {
            if line.starts_with('}') {
                let mut record = open.take().expect("open");
                record.members.sort();
                records.push(record);
            } else if let Some(size) = line.trim_start().strip_prefix("/* size: ") {
                let digits = size.split(',').next().expect("a first part");
                // Those of records that were opened up come before it.
                let size = digits.trim_end_matches(" */").parse();
                record.size = Some(size.expect("a size"));
            } else if line.ends_with('{') {
                before.push(record.members.len());
            } else {
                if let Some(end) = line.trim_start().strip_prefix('}') {
                    let start = before.pop().expect("was opened");
                    // A pointer to a record has no members in here.
                    if end.trim_start().starts_with('*') {
                        record.members.truncate(start);
                    }
                }
                record.members.extend(member(line));
            }
        } else if let Some(title) = line.strip_suffix(" {")
            && (title.starts_with("struct ") || title.starts_with("union "))
        {
            open = Some(Record {
                title: title.to_owned(),
                size: None,
                members: Vec::new(),
            });
        }
    }
    records
}

/// The member that a line declares, if it does.
fn member(line: &str) -> Option<Member> {
    let (code, place) = line.trim().strip_suffix("*/")?.rsplit_once("/*")?;
    let code = code.trim_end().strip_suffix(';')?;
    let code = without_attributes(code);
    let mut numbers = place
        .split([' ', ':'])
        .filter(|word| !word.is_empty())
        .map(|word| word.parse::<u64>().ok());
    let byte = numbers.next()??;
    let second = numbers.next()??;
    Some(match numbers.next() {
        // Offset, first bit, and the size of what it is stored in.
        Some(_) => {
            let (code, bits) = code.rsplit_once(':').expect("a width");
            let bits = bits.trim().parse().expect("a width");
            (name(code), byte * 8 + second, bits)
        }
        None => (name(&code), byte * 8, second * 8),
    })
}

/// A declaration without `__attribute__((...))`.
fn without_attributes(code: &str) -> String {
    let mut rest = code;
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once("__attribute__((") {
        plain.push_str(before);
        let mut depth = 2;
        let end = after.char_indices().find(|&(_, c)| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        rest = end.map_or("", |(end, _)| &after[end + 1..]);
    }
    plain.push_str(rest);
    plain.trim().to_owned()
}

/// The name that a declaration declares, empty for none.
fn name(code: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some((_, inner)) = code.split_once("(*") {
        // A pointer to a function, or to an array.
        let inner = inner.trim_start_matches(['*', '(', ' ']);
        let inner = inner.strip_prefix("const ").unwrap_or(inner);
        return inner.chars().take_while(|&c| is_word(c)).collect();
    }
    let mut code = code.trim_end();
    while let Some((before, _)) = code
        .strip_suffix(']')
        .and_then(|inner| inner.rsplit_once('['))
    {
        code = before.trim_end();
    }
    let start = code.rfind(|c| !is_word(c)).map_or(0, |at| at + 1);
    // What is left of `unsigned int   :4` is a type.
    let before = code[..start].trim_end();
    let alone = !before.ends_with(is_word) && !before.ends_with(['*', '}']);
    // `struct b;`: the members of another record, as if they stood here.
    let keyword = before.rsplit(' ').next().unwrap_or_default();
    match alone || ["struct", "union"].contains(&keyword) {
        true => String::new(),
        false => code[start..].to_owned(),
    }
}

#[test]
fn declarations_are_understood() {
    let text = "struct a {\n\
        \tconst struct b  *          p;                    /*     0     8 */\n\
        \tint                        (*f)(struct c *, int); /*     8     8 */\n\
        \tvoid *                     (*(*g)(int))[4];      /*    16     8 */\n\n\
        \t/* XXX 4 bytes hole, try to pack */\n\n\
        \tunion {\n\
        \t\tu8                 m[2][3];              /*    28     6 */\n\
        \t\tstruct d           e __attribute__((__aligned__(64))); /*    28     4 */\n\
        \t\tunsigned int       x:3;                  /*    28: 5  4 */\n\
        \t} __attribute__((__packed__)) u[2];                  /*    28    12 */\n\
        \tstruct {\n\
        \t\tint                y;                    /*    40     4 */\n\
        \t};                                               /*    40     4 */\n\
        \tunsigned int               :0;\n\
        \tstruct {\n\
        \t\tint                z;                    /*     0     4 */\n\
        \t} *far;                                          /*    48     8 */\n\
        \tstruct h                   ;                     /*    56     4 */\n\
        \tchar                       tail[];               /*    60     0 */\n\n\
        \t/* size: 60, cachelines: 1, members: 9 */\n\
        \t/* last cacheline: 60 bytes */\n\
        } __attribute__((__packed__));\n";
    let member = |name: &str, bit, bits| (name.to_owned(), bit, bits);
    let mut members = vec![
        member("p", 0, 64),
        member("f", 64, 64),
        member("g", 128, 64),
        member("m", 224, 48),
        member("e", 224, 32),
        member("x", 229, 3),
        member("u", 224, 96),
        member("y", 320, 32),
        member("", 320, 32),
        member("far", 384, 64),
        member("", 448, 32),
        member("tail", 480, 0),
    ];
    members.sort();
    let expected = Record {
        title: "struct a".into(),
        size: Some(60),
        members,
    };
    assert_eq!(parse(text), [expected]);
}
