//! A guest's file system: a `newc` archive (the kernel's `Documentation/driver-api/early-userspace/
//! buffer-format.rst`), uncompressed, because QEMU hands it over faster than the guest unpacks.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::modules::Module;
use super::programs::Programs;
use crate::{Fallible, tools};

/// File system content before it becomes an archive.
#[derive(Default)]
pub(crate) struct Tree {
    entries: Vec<Entry>,
    dirs: BTreeSet<String>,
}

struct Entry {
    /// Without leading slash.
    path: String,
    /// File type and permissions as in `st_mode`.
    mode: u32,
    /// Major and minor number, of device nodes.
    device: (u32, u32),
    content: Vec<u8>,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;

impl Tree {
    /// Everything a guest needs to run.
    pub(crate) fn build(programs: &Programs, modules: &[Module]) -> Fallible<Self> {
        let mut tree = Self::default();
        let busybox = tools::find("busybox").ok_or("busybox is not installed")?;
        tree.file("bin/busybox", fs::read(busybox)?);
        tree.file("init", include_bytes!("../../guest/init").to_vec());
        // The kernel opens it for /init before anything is mounted.
        tree.add("dev/console", CONSOLE, (5, 1), Vec::new());
        for (path, content) in &programs.files {
            tree.file(path, content.clone());
        }
        let mut order = String::new();
        for module in modules {
            let file = format!("{}.ko", module.name);
            order.push_str(&file);
            order.push('\n');
            tree.file(&format!("lab/modules/{file}"), module.elf.clone());
        }
        tree.file("lab/modules/order", order.into_bytes());
        Ok(tree)
    }

    fn file(&mut self, path: &str, content: Vec<u8>) {
        self.add(path, PROGRAM, (0, 0), content);
    }

    fn add(&mut self, path: &str, mode: u32, device: (u32, u32), content: Vec<u8>) {
        let path = path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            if self.dirs.insert(path[..at].to_owned()) {
                self.entries.push(Entry {
                    path: path[..at].to_owned(),
                    mode: DIRECTORY,
                    device: (0, 0),
                    content: Vec::new(),
                });
            }
        }
        self.entries.push(Entry {
            path: path.to_owned(),
            mode,
            device,
            content,
        });
    }

    /// The archive.
    pub(crate) fn archive(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, entry) in self.entries.iter().enumerate() {
            append(&mut out, number + 1, entry);
        }
        let trailer = Entry {
            path: "TRAILER!!!".to_owned(),
            mode: 0,
            device: (0, 0),
            content: Vec::new(),
        };
        append(&mut out, 0, &trailer);
        out
    }

    /// Writes the regular files below `dir`, so that a snapshot has what the guest had.
    pub(crate) fn write_files(&self, dir: &Path) -> Fallible<()> {
        for entry in &self.entries {
            if entry.mode != PROGRAM {
                continue;
            }
            let path = dir.join(&entry.path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, &entry.content)?;
        }
        Ok(())
    }
}

fn append(out: &mut Vec<u8>, inode: usize, entry: &Entry) {
    let directory = entry.mode == DIRECTORY;
    out.extend_from_slice(b"070701");
    let fields = [
        inode,
        entry.mode as usize,
        0, // uid
        0, // gid
        if directory { 2 } else { 1 },
        0, // mtime: the same archive every time
        entry.content.len(),
        0, // major and minor of the device it is on
        0,
        entry.device.0 as usize,
        entry.device.1 as usize,
        entry.path.len() + 1,
        0, // checksum, unused in newc
    ];
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(entry.path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(&entry.content);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_cpio_would_read() {
        let mut tree = Tree::default();
        tree.file("/lab/a", b"hello".to_vec());
        tree.add("dev/console", CONSOLE, (5, 1), Vec::new());
        let archive = tree.archive();
        assert_eq!(archive.len() % 4, 0);
        // lab/ comes before lab/a.
        let text = String::from_utf8_lossy(&archive);
        let at = |needle: &str| text.find(needle).expect("is there");
        assert!(at("lab\0") < at("lab/a\0") && at("lab/a\0") < at("hello"));
        assert!(at("dev\0") < at("dev/console\0"));
        assert!(text.ends_with("TRAILER!!!\0\0\0\0") || text.contains("TRAILER!!!\0"));
        // The second header stands where the first entry ends: 110 bytes and the name, padded.
        assert!(text[116..].starts_with("070701"));
        assert_eq!(
            &text[116 + 54..116 + 62],
            "00000005",
            "length of the content"
        );
    }
}
