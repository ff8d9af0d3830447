//! Objects of a kernel: written by member names, linked into lists, trees and directories as the kernel links them.
//!
//! Sources: `include/linux/{list,maple_tree,xarray,dcache,mount}.h`, `lib/maple_tree.c`.

use std::collections::BTreeMap;

use super::kernel::Kernel;
use super::records::Records;
use crate::guest::{Machine, PAGE};

/// Where the kernel sees all of physical memory.
pub(super) const DIRECT: u64 = 0xffff_8880_0000_0000;

/// Where a kernel's image may be.
const IMAGE: u64 = 0xffff_ffff_8000_0000;

/// `struct maple_node`, and how its kinds are told in pointers to it.
const MAPLE_NODE: u64 = 256;
const MAPLE_LEAF_64: u64 = 1;
const MAPLE_ARANGE_64: u64 = 3;
const MAPLE_ENODE: u64 = 4;
const MAPLE_ROOT: u64 = 2;

/// Slots of a leaf, and of a node above.
const LEAF_SLOTS: usize = 16;
const NODE_SLOTS: usize = 10;

/// Slots of an xarray's node.
const XA_SLOTS: u64 = 64;

/// A kernel's objects: those of its image, and those that it has allocated.
pub(super) struct Objects<'m> {
    pub(super) machine: &'m mut Machine,
    pub(super) kernel: &'m Kernel,
    pub(super) records: &'m Records,
    /// What is left of the memory for objects, as physical addresses.
    free: std::ops::Range<u64>,
    /// Directory entries by path.
    dentries: BTreeMap<String, u64>,
    /// The one file system that there is.
    super_block: u64,
    vfsmount: u64,
    inodes: u64,
}

impl<'m> Objects<'m> {
    /// Sets `len` bytes of memory apart for objects; physical memory is mapped at [`DIRECT`].
    pub(super) fn new(
        machine: &'m mut Machine,
        kernel: &'m Kernel,
        records: &'m Records,
        len: u64,
    ) -> Self {
        let start = machine.frames.alloc_block(len, PAGE);
        let mut objects = Self {
            machine,
            kernel,
            records,
            free: start..start + len,
            dentries: BTreeMap::new(),
            super_block: 0,
            vfsmount: 0,
            inodes: 0,
        };
        objects.mount();
        objects
    }

    fn gpa(&self, va: u64) -> u64 {
        if va >= IMAGE {
            self.kernel.gpa(va)
        } else {
            va - DIRECT
        }
    }

    /// Zeroed room: its address.
    ///
    /// # Panics
    ///
    /// When the memory for objects is used up.
    pub(super) fn room(&mut self, len: u64, align: u64) -> u64 {
        let start = self.free.start.next_multiple_of(align);
        self.free.start = start + len;
        assert!(self.free.start <= self.free.end, "no room for objects");
        DIRECT + start
    }

    /// A zeroed object: its address.
    pub(super) fn object(&mut self, record: &str) -> u64 {
        let align = if record.starts_with("maple") { 256 } else { 64 };
        self.room(self.records.size_of(record), align)
    }

    /// Writes a member of the object at `va`, the first word of one that is larger; `path` begins with its record.
    pub(super) fn set(&mut self, va: u64, path: &str, value: u64) {
        let (offset, size) = self.records.member(path);
        let gpa = self.gpa(va + offset);
        self.machine.phys.write_uint(gpa, value, size.min(8));
    }

    /// Writes several members, named without the record.
    pub(super) fn set_all(&mut self, va: u64, record: &str, members: &[(&str, u64)]) {
        for &(member, value) in members {
            self.set(va, &format!("{record}.{member}"), value);
        }
    }

    /// Writes a text into a member that is an array.
    pub(super) fn set_text(&mut self, va: u64, path: &str, text: &str) {
        let (offset, size) = self.records.member(path);
        assert!((text.len() as u64) < size, "{text} does not fit {path}");
        let gpa = self.gpa(va + offset);
        self.machine.phys.write(gpa, text.as_bytes());
    }

    /// Writes a pointer somewhere.
    pub(super) fn put(&mut self, va: u64, value: u64) {
        let gpa = self.gpa(va);
        self.machine.phys.write_uint(gpa, value, 8);
    }

    /// A text with its end: its address.
    pub(super) fn text(&mut self, text: &str) -> u64 {
        let va = self.room(text.len() as u64 + 1, 8);
        let gpa = self.gpa(va);
        self.machine.phys.write(gpa, text.as_bytes());
        va
    }

    /// Links nodes (`struct list_head`) into a ring through `head`.
    pub(super) fn ring(&mut self, head: u64, nodes: &[u64]) {
        let ring: Vec<u64> = std::iter::once(head).chain(nodes.iter().copied()).collect();
        for (i, &node) in ring.iter().enumerate() {
            let next = ring[(i + 1) % ring.len()];
            self.set(node, "list_head.next", next);
            self.set(next, "list_head.prev", node);
        }
    }

    /// A maple tree over ascending ranges that do not touch 0 or the last number: what its root pointer holds.
    /// Each entry is the first number, the last, and the pointer.
    pub(super) fn maple(&mut self, entries: &[(u64, u64, u64)]) -> u64 {
        // Slots by the last number of each; what is between entries has null slots.
        let mut slots = Vec::new();
        let mut next = 0;
        for &(first, last, pointer) in entries {
            if first > next {
                slots.push((first - 1, 0));
            }
            slots.push((last, pointer));
            next = last + 1;
        }
        slots.push((u64::MAX, 0));
        let mut kind = MAPLE_LEAF_64;
        let mut room = LEAF_SLOTS;
        loop {
            let nodes: Vec<(u64, u64)> = slots
                .chunks(room)
                .map(|chunk| self.maple_node(kind, chunk))
                .collect();
            if let [(_, root)] = nodes[..] {
                return root | MAPLE_ROOT;
            }
            slots = nodes;
            (kind, room) = (MAPLE_ARANGE_64, NODE_SLOTS);
        }
    }

    /// The last number of the node, and the pointer to it.
    fn maple_node(&mut self, kind: u64, slots: &[(u64, u64)]) -> (u64, u64) {
        let record = match kind {
            MAPLE_LEAF_64 => "maple_range_64",
            _ => "maple_arange_64",
        };
        let node = self.object(record);
        assert_eq!(self.records.size_of(record), MAPLE_NODE);
        let (pivots, bytes) = self.records.member(&format!("{record}.pivot"));
        let first_slot = self.records.offset_of(&format!("{record}.slot"));
        for (i, &(last, pointer)) in (0..).zip(slots) {
            // The last slot of a full node has no pivot.
            if i < bytes / 8 {
                self.put(node + pivots + 8 * i, last);
            }
            self.put(node + first_slot + 8 * i, pointer);
        }
        let last = slots.last().expect("a slot").0;
        (last, node | kind << 3 | MAPLE_ENODE)
    }

    /// An xarray of these numbers, below 4096: what its root pointer holds.
    pub(super) fn xarray(&mut self, entries: &[(u64, u64)]) -> u64 {
        let slots = self.records.offset_of("xa_node.slots");
        let top = self.object("xa_node");
        self.set(top, "xa_node.shift", 6);
        let mut below = BTreeMap::new();
        for &(number, pointer) in entries {
            assert!(number < XA_SLOTS * XA_SLOTS);
            let (high, low) = (number / XA_SLOTS, number % XA_SLOTS);
            let node = *below.entry(high).or_insert_with(|| self.object("xa_node"));
            self.set(node, "xa_node.parent", top);
            self.set(node, "xa_node.offset", high);
            self.put(node + slots + 8 * low, pointer);
            // Low bits of 2 mark what is a node of the array's own.
            self.put(top + slots + 8 * high, node | 2);
        }
        top | 2
    }

    /// Mounts a file system at the root.
    fn mount(&mut self) {
        self.super_block = self.object("super_block");
        // Device 8:1, as MKDEV has it.
        self.set(self.super_block, "super_block.s_dev", 8 << 20 | 1);
        let root = self.dentry("/", None);
        let mount = self.object("mount");
        self.set_all(
            mount,
            "mount",
            &[
                ("mnt_parent", mount),
                ("mnt_mountpoint", root),
                ("mnt.mnt_root", root),
                ("mnt.mnt_sb", self.super_block),
            ],
        );
        self.vfsmount = mount + self.records.offset_of("mount.mnt");
        self.dentries.insert(String::new(), root);
    }

    fn dentry(&mut self, name: &str, parent: Option<u64>) -> u64 {
        let inode = self.object("inode");
        self.inodes += 1;
        let members = [("i_ino", 1000 + self.inodes), ("i_sb", self.super_block)];
        self.set_all(inode, "inode", &members);
        let dentry = self.object("dentry");
        let text = self.text(name);
        self.set_all(
            dentry,
            "dentry",
            &[
                // Hashed: it is in a directory.
                ("d_hash.pprev", dentry),
                ("d_parent", parent.unwrap_or(dentry)),
                ("d_name.len", name.len() as u64),
                ("d_name.name", text),
                ("d_inode", inode),
                ("d_sb", self.super_block),
            ],
        );
        dentry
    }

    /// Opens a file by its path, and makes it where there is none: its `struct file`.
    pub(super) fn open(&mut self, path: &str) -> u64 {
        let mut dentry = self.dentries[""];
        let mut here = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            here = format!("{here}/{part}");
            dentry = match self.dentries.get(&here) {
                Some(&known) => known,
                None => self.dentry(part, Some(dentry)),
            };
            self.dentries.insert(here.clone(), dentry);
        }
        let file = self.object("file");
        let inode = self.gpa(dentry + self.records.offset_of("dentry.d_inode"));
        let inode = self.machine.phys.read_uint(inode, 8).expect("an object");
        self.set_all(
            file,
            "file",
            &[
                ("f_inode", inode),
                ("f_path.mnt", self.vfsmount),
                ("f_path.dentry", dentry),
            ],
        );
        file
    }
}
