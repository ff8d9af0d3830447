//! Rows: what a guest has, as plain data that is the same for every operating system.

use std::time::Duration;

use super::linux::LinuxProcess;
use crate::addr::{AddrRange, Gpa, Gva};
use crate::memory::{Cause, Prot};

/// A process. Names are the guest's text: escape them before they reach a terminal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent's number, 0 for none.
    pub ppid: u32,
    /// Its short name.
    pub name: String,
    /// Number of its threads.
    pub threads: u32,
    /// When it was started, counted from boot.
    pub started: Option<Duration>,
    /// What it is doing.
    pub state: ProcessState,
    /// Whether it runs in the kernel only and has no memory of its own.
    pub kernel: bool,
    /// Root of its address space, kernel included; `None` for kernel threads and after exit.
    pub root: Option<Gpa>,
    /// Root that its user mode uses, where that is another one.
    pub user_root: Option<Gpa>,
    /// The kernel's record of it.
    pub object: Gva,
    /// What only its system has.
    pub system: ProcessSystem,
}

/// What only one system has of its processes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub enum ProcessSystem {
    /// Nothing.
    #[default]
    None,
    /// Linux.
    Linux(LinuxProcess),
}

impl Process {
    /// What only Linux has of it; `None` on other systems.
    pub fn linux(&self) -> Option<&LinuxProcess> {
        match &self.system {
            ProcessSystem::Linux(linux) => Some(linux),
            ProcessSystem::None => None,
        }
    }

    /// The user it belongs to, where the system numbers users: the real one, not the one it acts as while it runs a
    /// program with the rights of another.
    pub fn uid(&self) -> Option<u32> {
        self.linux()?.uid
    }

    /// The user it acts as, where the system numbers users.
    pub fn euid(&self) -> Option<u32> {
        self.linux()?.euid
    }

    /// Whether its address space, as the kernel or as user mode sees it, has this root.
    pub fn has_root(&self, root: Gpa) -> bool {
        self.root == Some(root) || self.user_root == Some(root)
    }
}

/// What a process is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ProcessState {
    /// Running, or ready to.
    Running,
    /// Waiting, and signals wake it.
    Sleeping,
    /// Waiting for something that must happen.
    Waiting,
    /// Stopped by a signal.
    Stopped,
    /// Stopped by a debugger.
    Traced,
    /// Exited, and not yet waited for.
    Zombie,
    /// Exited.
    Dead,
    /// A kernel thread without work.
    Idle,
    /// A kernel thread put aside.
    Parked,
    /// Anything else.
    Unknown,
}

impl ProcessState {
    /// The letter that `ps` prints.
    pub const fn letter(self) -> char {
        match self {
            Self::Running => 'R',
            Self::Sleeping => 'S',
            Self::Waiting => 'D',
            Self::Stopped => 'T',
            Self::Traced => 't',
            Self::Zombie => 'Z',
            Self::Dead => 'X',
            Self::Idle => 'I',
            Self::Parked => 'P',
            Self::Unknown => '?',
        }
    }
}

/// A range that a process has arranged to be mapped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vma {
    /// Its addresses.
    pub range: AddrRange<Gva>,
    /// What it may be used for, which page tables need not grant yet.
    pub prot: Prot,
    /// Whether writes are seen by others that map the same.
    pub shared: bool,
    /// The mapped file.
    pub file: Option<MappedFile>,
    /// What it is: the path of its file, or a name in brackets such as `[stack]`.
    pub name: Option<String>,
    /// The kernel's record of it.
    pub object: Gva,
}

/// The file behind a mapping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MappedFile {
    /// Its path as the process sees it.
    pub path: String,
    /// Where in the file the mapping starts, in bytes.
    pub offset: u64,
    /// Number of the device it is on, major and minor.
    pub device: (u32, u32),
    /// Its number on that device.
    pub inode: u64,
    /// Whether it has been deleted.
    pub deleted: bool,
}

/// Where a page of a process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PageState {
    /// In memory, in this frame.
    Present {
        /// Its frame.
        gpa: Gpa,
    },
    /// In memory, but the process may not touch it in any way.
    Forbidden {
        /// Its frame.
        gpa: Gpa,
    },
    /// In memory, but the CPU is made to fault on the next access, so that the system sees it.
    Hinted {
        /// Its frame.
        gpa: Gpa,
    },
    /// In memory, and just being moved to another frame.
    Moving {
        /// The frame that it is moved from.
        gpa: Gpa,
    },
    /// In swap.
    Swapped {
        /// Number of the swap area.
        area: u32,
        /// Number of the page in it.
        offset: u64,
        /// Whether the swap area, or a cache in front of it, keeps the page in memory, compressed.
        compressed: bool,
    },
    /// Being moved, broken, or marked by the system.
    Special,
    /// Nowhere: never touched, or a page of a file that would be read when it is.
    Empty,
    /// It could not be found out.
    Unknown(Cause),
}

/// How much of a range is where, in bytes. See [`PageState`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Residency {
    /// In memory.
    pub present: u64,
    /// In memory, but forbidden to the process.
    pub forbidden: u64,
    /// In swap.
    pub swapped: u64,
    /// Of these, in memory all the same, compressed.
    pub compressed: u64,
    /// Being moved, broken, or marked by the system.
    pub special: u64,
    /// Nowhere: never touched, or to be read from a file.
    pub empty: u64,
    /// Not found out.
    pub unknown: u64,
}

/// A kernel module, or a program or library of a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Its file, where that is known.
    pub path: Option<String>,
    /// The address that the system gives for it: where its code starts, or its header.
    pub base: Gva,
    /// From its lowest to its highest address. There may be gaps, and others within them.
    pub range: AddrRange<Gva>,
    /// Bytes that it takes of this range.
    pub size: u64,
    /// The kernel's record of it, where there is one.
    pub object: Option<Gva>,
}
