//! Paths of open files.
//!
//! A file knows its directory entry (*dentry*) and the mount through which it was opened. Going up from
//! dentry to parent, and at the root of a mount to the place where that is mounted, leads to the root
//! of everything, as in the kernel's `prepend_path`. Some file systems have no directories; they name
//! files by functions of their own (`d_dname`), of which those are known here that name what can be
//! mapped.
//!
//! The way up is bounded in steps and in length, since it is the guest's.

use crate::addr::{Address, Gva};
use crate::memory::Memory;
use crate::os::object::{
    BadLink, Budget, Findings, Object, ObjectError, Objects, Part, Plan, Planner, Slot, Walk, link,
    read_text,
};
use crate::os::types::{TypeError, Types};
use crate::os::{FindingKind, SymbolTable};

/// How many dentries and mounts are gone through for one path.
const MAX_STEPS: usize = 4096;

/// How many are gone through for all files of a listing: a guest may have a million files that are all
/// as deep as can be.
pub(super) const MAX_STEPS_IN_ALL: usize = 4 << 20;

/// How long one name may be (`NAME_MAX`, and what pseudo file systems make of it).
const MAX_NAME: usize = 4096;

/// How long a path may be. The kernel's own calls take up to 4096 bytes.
const MAX_PATH: usize = 64 << 10;

/// `f_mode`: mapped in place of another file, to which the user's path belongs (`FMODE_BACKING`). The bit
/// has moved between 6.5 and 6.12, and newer kernels use the other one for something else, so the path
/// must also look like one.
const FMODE_BACKING: u32 = 1 << 24 | 1 << 25;

/// Members of what leads from a file to its path.
#[derive(Clone, Copy, Debug)]
pub(super) struct FilePlan {
    file: Plan,
    f_mode: Slot,
    f_inode: Slot,
    /// `f_path`, and the path that the user opened of a file that stands in for another.
    path: Slot,
    user_path: Option<UserPath>,
    path_mnt: u64,
    path_dentry: u64,

    dentry: Plan,
    d_parent: Slot,
    d_name: Slot,
    d_name_len: Slot,
    d_inode: Slot,
    d_op: Slot,
    d_sb: Slot,
    /// The link in the table of names; null when the file has been deleted.
    d_hashed: Slot,

    mount: Plan,
    mnt_parent: Slot,
    mnt_mountpoint: Slot,
    mnt_root: Slot,
    mnt_sb: Slot,
    mnt_ns: Option<Slot>,
    /// Of the part of `struct mount` that a path points to.
    vfsmount: u64,

    inode: Plan,
    i_ino: Slot,
    i_sb: Slot,
    i_private: Option<Slot>,
    s_dev: u64,
    d_dname: u64,
    /// Of a namespace, its operations; of these, the name of its kind.
    ns_name: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct UserPath {
    plan: Plan,
    path: Slot,
}

impl FilePlan {
    pub(super) fn new(types: &Types) -> Result<Self, TypeError> {
        let mut file = Planner::new(types, "file")?;
        let mut dentry = Planner::new(types, "dentry")?;
        let mut mount = Planner::new(types, "mount")?;
        let mut inode = Planner::new(types, "inode")?;
        let user_path = Planner::new(types, "backing_file").and_then(|mut backing| {
            Ok(UserPath {
                path: backing.need("user_path")?,
                plan: backing.plan(),
            })
        });
        Ok(Self {
            f_mode: file.need("f_mode")?,
            f_inode: file.need("f_inode")?,
            path: file.need("f_path")?,
            user_path: user_path.ok(),
            path_mnt: types.offset_of("struct path", "mnt")?,
            path_dentry: types.offset_of("struct path", "dentry")?,
            file: file.plan(),
            d_parent: dentry.need("d_parent")?,
            d_name: dentry.need("d_name.name")?,
            d_name_len: dentry.need("d_name.len")?,
            d_inode: dentry.need("d_inode")?,
            d_op: dentry.need("d_op")?,
            d_sb: dentry.need("d_sb")?,
            d_hashed: dentry.need("d_hash.pprev")?,
            dentry: dentry.plan(),
            mnt_parent: mount.need("mnt_parent")?,
            mnt_mountpoint: mount.need("mnt_mountpoint")?,
            mnt_root: mount.need("mnt.mnt_root")?,
            mnt_sb: mount.need("mnt.mnt_sb")?,
            mnt_ns: mount.want(&["mnt_ns"]),
            vfsmount: mount.need("mnt")?.offset,
            mount: mount.plan(),
            i_ino: inode.need("i_ino")?,
            i_sb: inode.need("i_sb")?,
            i_private: inode.want(&["i_private"]),
            inode: inode.plan(),
            s_dev: types.offset_of("struct super_block", "s_dev")?,
            d_dname: types.offset_of("struct dentry_operations", "d_dname")?,
            ns_name: types
                .offset_of("struct ns_common", "ops")
                .and_then(|ops| Ok((ops, types.offset_of("struct proc_ns_operations", "name")?)))
                .ok(),
        })
    }
}

/// An open file, as far as its name goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    /// The path as it is kept; names may have any byte but `/` and NUL.
    pub(crate) bytes: Vec<u8>,
    /// Whether no directory has it.
    pub(crate) deleted: bool,
    /// Whether its path ends at a mount that is in no namespace any more.
    pub(crate) detached: bool,
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
}

/// What a place is called.
struct Name {
    bytes: Vec<u8>,
    deleted: bool,
    detached: bool,
}

impl Name {
    fn special(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            deleted: false,
            detached: false,
        }
    }
}

/// Names files that were met as objects.
pub(crate) struct FileNames<'o> {
    plan: FilePlan,
    objects: &'o Objects<'o>,
}

impl<'o> FileNames<'o> {
    pub(crate) fn new(objects: &'o Objects<'o>) -> Result<Self, TypeError> {
        Ok(Self {
            plan: FilePlan::new(objects.types())?,
            objects,
        })
    }

    /// What a `struct file` is called; the file itself is the object of an error.
    pub(crate) fn name(&self, file: &Object<'_>, walk: &Walk) -> Result<File, ObjectError> {
        let named = walk.with(|budget, findings| {
            let mut files = Files {
                plan: &self.plan,
                memory: self.objects.memory(),
                symbols: self.objects.symbols(),
                steps: budget,
            };
            files.file(file.address().raw(), findings)
        });
        named.map_err(|bad| file.bad_link("f_path", bad))
    }
}

/// A path as the kernel keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Place {
    mnt: u64,
    dentry: u64,
}

/// Reads files.
pub(super) struct Files<'f> {
    pub(super) plan: &'f FilePlan,
    pub(super) memory: &'f dyn Memory<Addr = Gva>,
    pub(super) symbols: &'f SymbolTable,
    /// Steps that are left for all files.
    pub(super) steps: &'f mut Budget,
}

impl Files<'_> {
    /// Describes the `struct file` at `pointer`.
    pub(super) fn file(&mut self, pointer: u64, findings: &mut Findings) -> Result<File, BadLink> {
        let plan = self.plan;
        let file = plan.file.follow(self.memory, pointer)?;
        let mut place = self.place(&file, plan.path);
        let mut inode = file.number(plan.f_inode);
        if file.number32(plan.f_mode) & FMODE_BACKING != 0
            && let Some((user, user_inode)) = self.user_path(pointer)
        {
            (place, inode) = (user, user_inode);
        }
        let name = self.path(place, file.at, findings)?;
        let inode = plan.inode.follow(self.memory, inode)?;
        let device = link(inode.number(plan.i_sb))
            .and_then(|super_block| self.number32(super_block, plan.s_dev))?;
        Ok(File {
            path: String::from_utf8_lossy(&name.bytes).into_owned(),
            bytes: name.bytes,
            deleted: name.deleted,
            detached: name.detached,
            // `MAJOR` and `MINOR` of the kernel's `dev_t`.
            device: (device >> 20, device & 0xf_ffff),
            inode: inode.number(plan.i_ino),
        })
    }

    /// The path that the user opened of a file that stands in for another, and its inode; `None` when
    /// there is no such path behind the file.
    fn user_path(&self, file: u64) -> Option<(Place, u64)> {
        let plan = self.plan;
        let user = plan.user_path?;
        let place = self.place(&user.plan.follow(self.memory, file).ok()?, user.path);
        let dentry = plan.dentry.follow(self.memory, place.dentry).ok()?;
        let mount = self.mount(place.mnt).ok()?;
        // A dentry is of the file system that is mounted.
        (dentry.number(plan.d_sb) == mount.number(plan.mnt_sb))
            .then(|| (place, dentry.number(plan.d_inode)))
    }

    fn number32(&self, object: Gva, offset: u64) -> Result<u32, BadLink> {
        let at = Gva(object.raw().wrapping_add(offset));
        let fault = |fault| BadLink::Fault {
            pointer: at.raw(),
            fault,
        };
        self.memory.read_u32(at).map_err(fault)
    }

    fn place(&self, object: &Part, path: Slot) -> Place {
        let member = |offset| {
            object.number(Slot {
                offset: path.offset + offset,
                size: 8,
            })
        };
        Place {
            mnt: member(self.plan.path_mnt),
            dentry: member(self.plan.path_dentry),
        }
    }

    /// The path of a place, and whether nothing leads there any more. Broken off, it starts with `...`,
    /// and a finding says why.
    fn path(&mut self, place: Place, of: Gva, findings: &mut Findings) -> Result<Name, BadLink> {
        let plan = self.plan;
        let mut dentry = plan.dentry.follow(self.memory, place.dentry)?;
        let mut mount = self.mount(place.mnt)?;
        let mut parent = dentry.number(plan.d_parent);
        let is_mounted_root = mount.number(plan.mnt_root) == dentry.at.raw();
        if !(is_mounted_root && parent == dentry.at.raw())
            && let Some(name) = self.named_by_function(&dentry)?
        {
            return Ok(name);
        }
        let deleted = dentry.number(plan.d_hashed) == 0 && parent != dentry.at.raw();
        // Names from the last to the first.
        let mut names = Vec::new();
        let mut len = 0;
        let mut broken = None;
        for step in 0.. {
            if step == MAX_STEPS || len > MAX_PATH || !self.steps.take() {
                broken = Some("does not end".to_owned());
                break;
            }
            let up = if dentry.at.raw() == mount.number(plan.mnt_root) {
                let above = mount.number(plan.mnt_parent);
                if above == mount.at.raw() {
                    break;
                }
                let mountpoint = mount.number(plan.mnt_mountpoint);
                plan.mount.follow(self.memory, above).and_then(|above| {
                    mount = above;
                    plan.dentry.follow(self.memory, mountpoint)
                })
            } else if parent == dentry.at.raw() {
                // The root of a file system that is mounted elsewhere.
                break;
            } else {
                match self.name(&dentry) {
                    Ok(name) => {
                        len += name.len() + 1;
                        names.push(name);
                        plan.dentry.follow(self.memory, parent)
                    }
                    Err(bad) => Err(bad),
                }
            };
            match up {
                Ok(up) => dentry = up,
                Err(bad) => {
                    broken = Some(format!("goes through a link that {bad}"));
                    break;
                }
            }
            parent = dentry.number(plan.d_parent);
        }
        let detached = broken.is_none() && plan.mnt_ns.is_some_and(|ns| mount.number(ns) == 0);
        let mut path = Vec::with_capacity(len + 3);
        if let Some(why) = broken {
            let text = format!("the path of a file {why}");
            findings.add(FindingKind::Damaged, Some(of), text);
            path.extend(b"...");
        }
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Ok(Name {
            bytes: path,
            deleted,
            detached,
        })
    }

    /// The `struct mount` around what a path points to.
    fn mount(&self, vfsmount: u64) -> Result<Part, BadLink> {
        // Looked at first: null is no place to subtract from.
        let at = link(vfsmount)?.raw().wrapping_sub(self.plan.vfsmount);
        self.plan.mount.follow(self.memory, at)
    }

    fn name(&self, dentry: &Part) -> Result<Vec<u8>, BadLink> {
        let len = (dentry.number32(self.plan.d_name_len) as usize).min(MAX_NAME);
        let pointer = dentry.number(self.plan.d_name);
        let mut bytes = vec![0; len];
        // Short names are within the dentry itself and start anywhere.
        let at = link(pointer & !7)?.raw() | (pointer & 7);
        self.memory
            .read(Gva(at), &mut bytes)
            .map_err(|fault| BadLink::Fault { pointer, fault })?;
        let end = bytes.iter().position(|&byte| byte == 0);
        bytes.truncate(end.unwrap_or(len));
        Ok(bytes)
    }

    /// The name of a file that has no directory, by the function that makes it.
    fn named_by_function(&self, dentry: &Part) -> Result<Option<Name>, BadLink> {
        let Ok(operations) = link(dentry.number(self.plan.d_op)) else {
            return Ok(None);
        };
        let at = Gva(operations.raw().wrapping_add(self.plan.d_dname));
        let function = self.memory.read_u64(at).map_err(|fault| BadLink::Fault {
            pointer: at.raw(),
            fault,
        })?;
        if function == 0 {
            return Ok(None);
        }
        let function = match self.symbols.nearest(Gva(function)) {
            Some((symbol, 0)) => symbol.name,
            _ => "",
        };
        let name = self.name(dentry)?;
        let inode = || {
            let inode = dentry.number(self.plan.d_inode);
            self.plan.inode.follow(self.memory, inode)
        };
        let numbered = |kind: &[u8]| -> Result<Name, BadLink> {
            let number = inode()?.number(self.plan.i_ino);
            Ok(Name::special(
                [kind, format!(":[{number}]").as_bytes()].concat(),
            ))
        };
        Ok(Some(match function {
            "simple_dname" => Name {
                deleted: true,
                ..Name::special([b"/", &name[..]].concat())
            },
            "anon_inodefs_dname" => Name::special([b"anon_inode:", &name[..]].concat()),
            "dmabuffs_dname" => Name::special([b"/", &name[..], b":"].concat()),
            "pidfs_dname" => Name::special("anon_inode:[pidfd]"),
            "sockfs_dname" => numbered(b"socket")?,
            "pipefs_dname" => numbered(b"pipe")?,
            "ns_dname" => match self.kind_of_namespace(&inode()?)? {
                Some(kind) => numbered(&kind)?,
                None => Name::special(name),
            },
            _ => Name::special(name),
        }))
    }

    /// What links to a namespace are called; `None` where it is not known how to tell.
    fn kind_of_namespace(&self, inode: &Part) -> Result<Option<Vec<u8>>, BadLink> {
        const MAX_KIND: usize = 32;
        let (Some(private), Some((ops, name))) = (self.plan.i_private, self.plan.ns_name) else {
            return Ok(None);
        };
        let word = |object: u64, offset: u64| {
            let at = Gva(link(object)?.raw().wrapping_add(offset));
            let pointer = at.raw();
            let read = self.memory.read_u64(at);
            read.map_err(|fault| BadLink::Fault { pointer, fault })
        };
        let text = word(word(inode.number(private), ops)?, name)?;
        read_text(self.memory, text, MAX_KIND).map(|kind| Some(kind.into_bytes()))
    }
}

/// A path as `/proc` writes it: a line break as `\012`.
pub(super) fn as_in_proc(file: &File) -> String {
    let mut text = file.path.replace('\n', "\\012");
    if file.deleted {
        text.push_str(" (deleted)");
    }
    text
}
