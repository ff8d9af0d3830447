//! What is planted in a scene, as those stated it who planted it, and what the guest itself says about it.
//!
//! `guest/facts` holds a fact a line: its kind, then fields `NAME=VALUE`, separated by one blank. Programs write them
//! (`xtask/guest/scene/scene.h`), and modules of the kernel, to its log. Beside it stand, of every process, more files
//! than other guests have (`proc/PID/{mountinfo,cgroup,ns,limits,loginuid,attr,stack,syscall,wchan,fdinfo/FD,...}`,
//! `proc/PID/task/TID/...`), `net/NAMESPACE/{tcp,unix,dev,...}` of every network namespace, `kmsg`, `enabled_functions`,
//! `kprobes/list`, `bpf/{programs,maps,links}`, and files that facts of the kind `file` name.
//!
//! All of it is from before the module `shade` hid what facts of the kinds `hidden-process`, `hidden-port` and
//! `hidden-module` state; the image is from afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::{Error, Snapshot};

/// One thing that was planted, or could not be (`not-planted`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    /// What kind of thing: `socket`, `hook`, `code`, ...
    pub kind: String,
    /// What is said of it, by name; escapes resolved.
    fields: BTreeMap<String, Vec<u8>>,
}

/// All facts of a scene.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scene {
    /// In the order in which they were collected.
    pub facts: Vec<Fact>,
}

/// A record of the kernel's log, as `/dev/kmsg` has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogRecord {
    /// Facility (upper bits) and level (lower three).
    pub priority: u32,
    /// Its number since the kernel came up.
    pub sequence: u64,
    /// Microseconds since the kernel came up.
    pub time: u64,
    /// Its text. What is not printable is escaped as `\x1b`, by the kernel.
    pub text: String,
    /// `SUBSYSTEM=...` and others.
    pub dictionary: Vec<String>,
}

/// A descriptor, as `/proc/PID/fd` and `/proc/PID/fdinfo` show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// Its number.
    pub fd: u32,
    /// Where it leads, escapes resolved.
    pub path: Vec<u8>,
    /// Lines of `NAME:\tVALUE`, by name; of names that come twice, the last one.
    pub info: BTreeMap<String, String>,
}

impl Fact {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let kind = words.next()?.to_owned();
        let mut fields = BTreeMap::new();
        for word in words {
            let (name, value) = word.split_once('=')?;
            fields.insert(name.to_owned(), unescape(value, b'%', 2, 16)?);
        }
        Some(Self { kind, fields })
    }

    /// A field's bytes.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(name).map(Vec::as_slice)
    }

    /// A field as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    /// A number, decimal, or hexadecimal with `0x` before it.
    pub fn number(&self, name: &str) -> Option<u64> {
        let text = self.text(name)?;
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    }

    /// The process it is about.
    pub fn pid(&self) -> Option<u32> {
        u32::try_from(self.number("pid")?).ok()
    }

    /// Whether a field has this value.
    pub fn is(&self, name: &str, value: &str) -> bool {
        self.bytes(name) == Some(value.as_bytes())
    }
}

impl Scene {
    /// The facts of a kind.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Fact> {
        self.facts.iter().filter(move |fact| fact.kind == kind)
    }

    /// How many facts there are of each kind.
    pub fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for fact in &self.facts {
            *counts.entry(fact.kind.as_str()).or_default() += 1;
        }
        counts
    }

    /// What the guest's kernel did not allow, with the reason.
    pub fn not_planted(&self) -> BTreeMap<&str, &str> {
        self.of("not-planted")
            .filter_map(|fact| Some((fact.text("what")?, fact.text("why")?)))
            .collect()
    }

    /// The actor of a name: its process.
    pub fn actor(&self, name: &str) -> Option<u32> {
        self.of("actor").find(|fact| fact.is("name", name))?.pid()
    }

    /// Processes that the image does not show in every list.
    pub fn hidden_processes(&self) -> Vec<u32> {
        self.of("hidden-process").filter_map(Fact::pid).collect()
    }
}

impl Snapshot {
    /// The facts of a scene.
    ///
    /// # Errors
    ///
    /// When the snapshot has none, or a line is no fact.
    pub fn facts(&self) -> Result<Scene, Error> {
        let path = self.path("guest/facts");
        let text = crate::read_text(&path)?;
        let fact = |line| Fact::parse(line).ok_or_else(|| Error::new(&path, format!("{line:?}")));
        let facts = text.lines().map(fact).collect::<Result<_, _>>()?;
        Ok(Scene { facts })
    }

    /// The kernel's log.
    ///
    /// # Errors
    ///
    /// When the snapshot has none, or a line is no record.
    pub fn log(&self) -> Result<Vec<LogRecord>, Error> {
        let path = self.path("guest/kmsg");
        let text = crate::read_text(&path)?;
        let mut records: Vec<LogRecord> = Vec::new();
        for line in text.lines() {
            match (line.strip_prefix(' '), records.last_mut()) {
                (Some(entry), Some(record)) => record.dictionary.push(entry.to_owned()),
                _ => {
                    let record = LogRecord::parse(line);
                    records.push(record.ok_or_else(|| Error::new(&path, format!("{line:?}")))?);
                }
            }
        }
        Ok(records)
    }

    /// Numbers of the network namespaces of which there is truth.
    ///
    /// # Errors
    ///
    /// When the snapshot has none.
    pub fn net_namespaces(&self) -> Result<Vec<u64>, Error> {
        let path = self.path("guest/net");
        let entries = fs::read_dir(&path).map_err(|error| Error::new(&path, error))?;
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let mut numbers: Vec<u64> = entries.filter_map(|entry| number(entry.ok()?)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The lines of a table of a network namespace without its heading, such as `tcp`, as words.
    ///
    /// # Errors
    ///
    /// When there is no such table.
    pub fn net_table(&self, namespace: u64, table: &str) -> Result<Vec<Vec<String>>, Error> {
        let text = crate::read_text(&self.net_path(namespace, table))?;
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        Ok(text.lines().skip(1).map(words).collect())
    }

    fn net_path(&self, namespace: u64, table: &str) -> PathBuf {
        self.path(format!("guest/net/{namespace}/{table}"))
    }

    /// The descriptors of a process, in ascending order.
    ///
    /// # Errors
    ///
    /// When the snapshot does not have the process, or a line is none of a descriptor.
    pub fn descriptors(&self, pid: u32) -> Result<Vec<Descriptor>, Error> {
        let path = self.path(format!("guest/proc/{pid}/fds"));
        let bytes = fs::read(&path).map_err(|error| Error::new(&path, error))?;
        let mut descriptors = Vec::new();
        for line in bytes
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let found = Descriptor::parse(line);
            let (fd, path) = found.ok_or_else(|| Error::new(&path, "not a descriptor"))?;
            let info = self.path(format!("guest/proc/{pid}/fdinfo/{fd}"));
            let info = fs::read_to_string(&info).unwrap_or_default();
            let info = info.lines().filter_map(|line| line.split_once(':'));
            let info = info.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
            descriptors.push(Descriptor {
                fd,
                path,
                info: info.collect(),
            });
        }
        descriptors.sort_unstable_by_key(|one| one.fd);
        Ok(descriptors)
    }
}

impl LogRecord {
    /// `PRIORITY,SEQUENCE,TIME,FLAGS[,MORE];TEXT`: the kernel's Documentation/ABI/testing/dev-kmsg.
    fn parse(line: &str) -> Option<Self> {
        let (numbers, text) = line.split_once(';')?;
        let mut numbers = numbers.split(',');
        Some(Self {
            priority: numbers.next()?.parse().ok()?,
            sequence: numbers.next()?.parse().ok()?,
            time: numbers.next()?.parse().ok()?,
            text: text.to_owned(),
            dictionary: Vec::new(),
        })
    }
}

impl Descriptor {
    fn parse(line: &[u8]) -> Option<(u32, Vec<u8>)> {
        let blank = line.iter().position(|&byte| byte == b' ')?;
        let fd = std::str::from_utf8(&line[..blank]).ok()?.parse().ok()?;
        Some((fd, unescape_bytes(&line[blank + 1..], b'\\', 3, 8)?))
    }
}

fn unescape(text: &str, mark: u8, digits: usize, radix: u32) -> Option<Vec<u8>> {
    unescape_bytes(text.as_bytes(), mark, digits, radix)
}

/// Each `mark` with its digits is a byte.
fn unescape_bytes(text: &[u8], mark: u8, digits: usize, radix: u32) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        if byte != mark {
            bytes.push(byte);
            continue;
        }
        let number = std::str::from_utf8(text.get(at..at + digits)?).ok()?;
        bytes.push(u8::from_str_radix(number, radix).ok()?);
        at += digits;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_hold_any_byte() {
        let fact = Fact::parse("name pid=17 mask=0x1f path=/data/two%0Alines%FF%25.txt empty=");
        let fact = fact.expect("valid");
        assert_eq!((fact.kind.as_str(), fact.pid()), ("name", Some(17)));
        assert_eq!(fact.number("mask"), Some(0x1f));
        let path: &[u8] = b"/data/two\nlines\xff%.txt";
        assert_eq!(fact.bytes("path"), Some(path));
        assert_eq!(fact.text("path"), None, "not UTF-8");
        assert!(fact.is("empty", "") && fact.bytes("none").is_none());
        assert_eq!(Fact::parse("kind broken"), None);
        assert_eq!(Fact::parse("kind name=%4"), None);
    }

    #[test]
    fn descriptors_that_lead_to_odd_names() {
        let found = Descriptor::parse(b"12 /data/two\\012lines \\134 \xff (deleted)");
        let path = b"/data/two\nlines \\ \xff (deleted)".to_vec();
        assert_eq!(found, Some((12, path)));
    }

    #[test]
    fn records_of_the_log() {
        let record = LogRecord::parse("6,339,5140900,-,caller=T1;NET: Registered").expect("valid");
        assert_eq!(
            (record.priority, record.sequence, record.time),
            (6, 339, 5_140_900)
        );
        assert_eq!(record.text, "NET: Registered");
        assert_eq!(LogRecord::parse("no record"), None);
    }
}
