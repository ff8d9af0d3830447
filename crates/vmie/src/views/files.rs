//! What processes hold open: a row for each descriptor.

use super::threads::tasks;
use crate::addr::Gva;
use crate::os::linux::FileNames;
use crate::os::object::{Known as _, Object, ObjectError, Objects, Walk};
use crate::os::{FindingKind, Guest, Listing, OsError, Process};

/// Types of files by the upper bits of their mode (`include/uapi/linux/stat.h`).
const TYPE_MASK: u64 = 0o170_000;

/// `O_CLOEXEC`, which is kept with the descriptor, and `O_PATH`.
const CLOEXEC: u64 = 0o2_000_000;
const PATH: u64 = 0o10_000_000;

/// Flags of x86 and of all architectures that have the generic numbers (`include/uapi/asm-generic/fcntl.h`), but for what
/// tells reading from writing. `O_SYNC` has the bit of `O_DSYNC`, and `O_TMPFILE` that of `O_DIRECTORY`.
const FLAGS: [(u64, &str); 14] = [
    (0o100, "creat"),
    (0o200, "excl"),
    (0o400, "noctty"),
    (0o1000, "trunc"),
    (0o2000, "append"),
    (0o4000, "nonblock"),
    (0o10000, "dsync"),
    (0o20000, "async"),
    (0o40000, "direct"),
    (0o200_000, "directory"),
    (0o400_000, "nofollow"),
    (0o1_000_000, "noatime"),
    (CLOEXEC, "cloexec"),
    (PATH, "path"),
];

/// An open file of a process.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct OpenFile {
    /// The number of the process.
    pub pid: u32,
    /// Its short name.
    pub process: String,
    /// The thread that has a table of descriptors of its own, where it is that one.
    pub tid: Option<u32>,
    /// The number of the descriptor.
    pub fd: u64,
    /// What kind of file it is: `file`, `directory`, `char`, `block`, `fifo`, `pipe`, `socket`, `memfd`, `namespace`, or
    /// what a file without a name is there for, such as `eventfd`.
    pub kind: String,
    /// What the link in `/proc/PID/fd` shows, without ` (deleted)`: a path as the first mount namespace has it, or a name
    /// such as `socket:[7]`. `None` where it could not be read.
    pub path: Option<Vec<u8>>,
    /// Whether no directory has it any more.
    pub deleted: bool,
    /// Whether its path ends at a mount that is in no namespace any more.
    pub detached: bool,
    /// `O_*` flags with which it is open.
    pub flags: u64,
    /// Where it is read or written next.
    pub position: u64,
    /// How long it is; `None` where its inode could not be read.
    pub size: Option<u64>,
    /// The number of its inode.
    pub inode: Option<u64>,
    /// The device that it is on: major and minor number.
    pub device: Option<(u32, u32)>,
    /// The kernel's record of it (`struct file`), which descriptors have in common that were duplicated or inherited.
    pub object: Gva,
}

impl OpenFile {
    /// Its flags by name: `r`, `w`, `rw` or none of these for a place, then the names of `O_*` in small letters.
    pub fn flag_names(&self) -> Vec<&'static str> {
        let access = match self.flags & 3 {
            _ if self.flags & PATH != 0 => None,
            0 => Some("r"),
            1 => Some("w"),
            _ => Some("rw"),
        };
        let flags = FLAGS.iter().filter(|(bit, _)| self.flags & bit != 0);
        access
            .into_iter()
            .chain(flags.map(|&(_, name)| name))
            .collect()
    }
}

/// What `processes` hold open, by process, then by descriptor. The descriptors of each table are compared with its map of
/// those that are in use.
///
/// Cost: some ten reads a descriptor.
///
/// # Errors
///
/// When the system's types or symbols cannot be had. What is damaged is a finding instead.
pub fn open_files(guest: &dyn Guest, processes: &[Process]) -> Result<Listing<OpenFile>, OsError> {
    let objects = guest.objects()?;
    let walk = guest.walk();
    let names = FileNames::new(&objects)?;
    let mut items = Vec::new();
    for process in processes {
        each_descriptor(&objects, process, &walk, |descriptor| {
            items.push(open_file(&descriptor, process, &names, &walk));
        });
    }
    Ok(Listing {
        items,
        findings: walk.finish(),
    })
}

/// A descriptor of a process, and what it refers to.
pub(super) struct Descriptor<'o> {
    /// The thread that has a table of its own, where it is one.
    pub(super) tid: Option<u32>,
    pub(super) fd: u64,
    pub(super) cloexec: bool,
    /// The `struct file`.
    pub(super) file: Object<'o>,
}

/// Goes over all descriptors of a process: of its table, and of those that threads have of their own.
pub(super) fn each_descriptor<'o>(
    objects: &'o Objects<'o>,
    process: &Process,
    walk: &Walk,
    mut on: impl FnMut(Descriptor<'o>),
) {
    let mut tables = || -> Result<(), ObjectError> {
        let leader = objects.object_at(process.object, "task_struct")?;
        // The first one may have exited.
        let mut seen = Vec::new();
        for task in tasks(&leader, walk)? {
            let table = task.pointer("files")?;
            if table == Gva(0) || seen.contains(&table) {
                continue;
            }
            let tid = match seen.is_empty() {
                true => None,
                false => Some(task.u32("pid")?),
            };
            seen.push(table);
            let files = objects.object_at(table, "files_struct")?;
            let found = of_table(&files, process, tid, walk, &mut on);
            walk.keep(
                found,
                format_args!("the descriptors of process {}", process.pid),
            );
        }
        Ok(())
    };
    walk.keep(
        tables(),
        format_args!("what process {} holds open", process.pid),
    );
}

fn of_table<'o>(
    files: &Object<'o>,
    process: &Process,
    tid: Option<u32>,
    walk: &Walk,
    on: &mut dyn FnMut(Descriptor<'o>),
) -> Result<(), ObjectError> {
    let table = files.at("fdt")?.load();
    let most = table.u64("max_fds")?;
    let cloexec = table.place("close_on_exec")?;
    let in_use = table.place("open_fds")?;
    let bit = |map: &Object<'_>, number: u64| -> Result<bool, ObjectError> {
        Ok(map.element(number / 64)?.u64("")? >> (number % 64) & 1 != 0)
    };
    for (fd, file) in table.place("fd")?.pointers(most, walk)? {
        let what = format_args!("descriptor {fd} of process {}", process.pid);
        if walk.keep(bit(&in_use, fd), what) == Some(false) {
            let text = format!("{what} is in its table, and not marked as used");
            walk.note(FindingKind::Inconsistent, Some(files.address()), text);
        }
        on(Descriptor {
            tid,
            fd,
            cloexec: walk.keep(bit(&cloexec, fd), what).unwrap_or(false),
            file,
        });
    }
    Ok(())
}

fn open_file(
    descriptor: &Descriptor<'_>,
    process: &Process,
    names: &FileNames<'_>,
    walk: &Walk,
) -> OpenFile {
    let Descriptor {
        tid, fd, cloexec, ..
    } = *descriptor;
    let what = format_args!("descriptor {fd} of process {}", process.pid);
    let file = descriptor.file.load();
    let name = walk.keep(names.name(&file, walk), what);
    let inode = walk.keep(inode(&file), what).flatten();
    let flags = walk.keep(file.u64("f_flags"), what).unwrap_or(0);
    OpenFile {
        pid: process.pid,
        process: process.name.clone(),
        tid,
        fd,
        kind: kind(name.as_ref().map(|name| &*name.bytes), inode.as_ref()),
        deleted: name.as_ref().is_some_and(|name| name.deleted),
        detached: name.as_ref().is_some_and(|name| name.detached),
        device: name.as_ref().map(|name| name.device),
        flags: match cloexec {
            true => flags | CLOEXEC,
            false => flags,
        },
        position: walk.keep(file.u64("f_pos"), what).unwrap_or(0),
        size: inode.as_ref().map(|inode| inode.size),
        inode: inode.as_ref().map(|inode| inode.number),
        path: name.map(|name| name.bytes),
        object: file.address(),
    }
}

struct Inode {
    number: u64,
    mode: u64,
    size: u64,
}

fn inode(file: &Object<'_>) -> Result<Option<Inode>, ObjectError> {
    let Some(inode) = file.at("f_inode").unless_null()? else {
        return Ok(None);
    };
    let inode = inode.load();
    // One whose file system cannot be looked at is none: what else it says is not to be believed.
    inode.u64("i_sb.s_dev")?;
    Ok(Some(Inode {
        number: inode.u64("i_ino")?,
        mode: inode.u64("i_mode")?,
        size: inode.u64("i_size")?,
    }))
}

/// What kind of file it is, by the name that its file system gave it and by its inode.
fn kind(name: Option<&[u8]>, inode: Option<&Inode>) -> String {
    let name = name.unwrap_or_default();
    if let Some(what) = name.strip_prefix(b"anon_inode:") {
        let what = what.strip_prefix(b"[").unwrap_or(what);
        let what = what.strip_suffix(b"]").unwrap_or(what);
        return String::from_utf8_lossy(what).into_owned();
    }
    let is_path = name.starts_with(b"/");
    let by_type = match inode.map(|inode| inode.mode & TYPE_MASK) {
        Some(0o010_000) if is_path => "fifo",
        Some(0o010_000) => "pipe",
        Some(0o020_000) => "char",
        Some(0o040_000) => "directory",
        Some(0o060_000) => "block",
        Some(0o100_000) if name.starts_with(b"/memfd:") => "memfd",
        Some(0o100_000) if !is_path && name.ends_with(b"]") => "namespace",
        Some(0o100_000) => "file",
        Some(0o120_000) => "link",
        Some(0o140_000) => "socket",
        _ => "unknown",
    };
    by_type.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_names_and_modes() {
        let of = |name: &str, mode| {
            let inode = Inode {
                number: 1,
                mode,
                size: 0,
            };
            kind(Some(name.as_bytes()), Some(&inode))
        };
        assert_eq!(of("/data/a", 0o100_644), "file");
        assert_eq!(of("/memfd:x", 0o100_777), "memfd");
        assert_eq!(of("net:[4026531840]", 0o100_444), "namespace");
        assert_eq!(of("anon_inode:[eventfd]", 0o600), "eventfd");
        assert_eq!(of("anon_inode:inotify", 0o600), "inotify");
        assert_eq!(of("pipe:[3]", 0o010_600), "pipe");
        assert_eq!(of("/run/fifo", 0o010_600), "fifo");
        assert_eq!(of("socket:[4]", 0o140_777), "socket");
        assert_eq!(of("/run/x.sock", 0o140_777), "socket");
        assert_eq!(of("?", 0), "unknown");
        assert_eq!(kind(None, None), "unknown");
    }

    #[test]
    fn flags_have_names() {
        let of = |flags| {
            let file = OpenFile {
                pid: 1,
                process: String::new(),
                tid: None,
                fd: 0,
                kind: String::new(),
                path: None,
                deleted: false,
                detached: false,
                flags,
                position: 0,
                size: None,
                inode: None,
                device: None,
                object: Gva(0),
            };
            file.flag_names().join(" ")
        };
        assert_eq!(of(0), "r");
        assert_eq!(of(0o2_002_001), "w append cloexec");
        assert_eq!(of(0o10_000_000), "path");
        assert_eq!(of(0o100_002), "rw");
    }
}
