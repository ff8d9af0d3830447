//! Operating systems: processes, modules, symbols and types of a guest.
//!
//! [`find`] looks at physical memory and answers with a [`Guest`], the one interface through which
//! everything above asks; it is the same for every operating system, and rows ([`Process`], [`Vma`],
//! [`Module`], [`Symbol`]) are plain data. Nothing below this module names an operating-system concept.
//!
//! Three rules:
//!
//! * **No answer without verification.** A search that cannot confirm what it found says so
//!   ([`FindError`] names each step and what was seen) and goes no further. In particular, a failed
//!   search is never an empty list.
//! * **Lists belong to the guest.** They may be damaged or doctored. A [`Listing`] gives what could be
//!   read and, beside it, [`Finding`]s: what did not add up, and where.
//! * **Lazily.** Symbols and types are read when somebody asks for them.
//!
//! # How to add an operating system
//!
//! 1. A module beside [`linux`] with a search `fn(&Arc<dyn Memory>, &Hints, &FindOptions) ->
//!    Result<Box<dyn Guest>, Vec<Step>>`: it verifies each step, and when it fails it tells what each step saw. It is
//!    quick to say no, since it runs for guests of other systems too.
//! 2. An implementation of [`Guest`]. Views that it does not have yet answer
//!    [`OsError::Unavailable`].
//! 3. A line in `SEARCHES`, and a variant of [`Kind`].
//! 4. Symbols go into a [`SymbolTable`], types into a [`TypeSource`]: everything that prints or
//!    resolves names works from there.
//! 5. Tests against a synthetic guest for every way in which it can be damaged, and a lab guest for the
//!    truth.

mod cache;
mod code;
mod declare;
pub mod elf;
mod imports;
#[cfg(feature = "isf")]
pub mod isf;
mod kept;
mod layout;
pub mod linux;
mod names;
mod resolver;
mod routes;
mod show;
mod supplied;
mod symbols;
#[cfg(feature = "isf")]
mod table;
mod types;
mod width;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::addr::{AddrRange, Gpa, Gva};
use crate::hints::Hints;
use crate::memory::{Cause, Fault, Memory, Prot};
use crate::paging::AddressSpace;

pub use cache::{Cache, Identity, Trail, UnknownTrail};
pub use code::{Code, CodePages, UnmappedCode};
pub use imports::{ImportName, Imports, Slot, SlotKind, Stub};
pub use kept::TypeStore;
pub use layout::{Layout, LayoutKind, LayoutRow};
pub use resolver::{Place, ResolveError, Resolver, Scope, Tier};
pub use routes::{Astray, Binding, Moved, Route, Routes, Via};
pub use show::{ShowOptions, ShowRow, Value, show_text};
pub use supplied::{BuildId, NoBuildId, SuppliedTypes};
pub use symbols::{Symbol, SymbolTable, SymbolTableBuilder};
pub use types::{
    Encoding, Field, MAX_CHAIN, MAX_NESTING, Member, Record, Type, TypeError, TypeId, TypeSource,
    Types,
};
pub use width::{ProcessWidth, WidthSign};

/// Which operating system a guest runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// Linux on x86-64.
    Linux,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Linux => "linux",
        })
    }
}

/// A guest whose operating system was found and verified.
pub trait Guest: Send + Sync {
    /// Which operating system it is.
    fn kind(&self) -> Kind;

    /// The version, as the system itself puts it.
    fn version(&self) -> &str;

    /// Which build of its kernel it is, where the kernel has a note that says so.
    fn build_id(&self) -> Option<&BuildId> {
        None
    }

    /// How it was found: the steps of the search and what each saw.
    fn steps(&self) -> &[Step];

    /// What of its symbols and types is lost to damage. What a list lost to it stands with the list.
    ///
    /// Cost: that of [`Guest::types`].
    fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// Other kernels in the same memory, which verify as far as their notes and page tables go.
    ///
    /// Cost: a glance at every page.
    fn other_kernels(&self) -> Vec<OtherKernel> {
        Vec::new()
    }

    /// Where it was found, to find it again at once.
    fn trail(&self) -> &Trail;

    /// The kernel's own address space.
    fn kernel_space(&self) -> &AddressSpace;

    /// How far the kernel was moved from the addresses that it was linked for; to be subtracted modulo
    /// 2^64.
    fn slide(&self) -> u64;

    /// The kernel's symbols, without those of its modules.
    ///
    /// # Errors
    ///
    /// When the guest has none that can be read.
    fn symbols(&self) -> Result<Arc<SymbolTable>, OsError>;

    /// The kernel's types.
    ///
    /// # Errors
    ///
    /// When the guest has none that can be read.
    fn types(&self) -> Result<Arc<Types>, OsError>;

    /// All processes, kernel threads included, by ascending number.
    ///
    /// # Errors
    ///
    /// When the list could not be looked at. A list that is damaged ends with a finding instead.
    fn processes(&self) -> Result<Listing<Process>, OsError>;

    /// The arguments that a process was started with, as its memory has them now.
    ///
    /// # Errors
    ///
    /// When it has none ([`OsError::NoMemory`]), or they cannot be read.
    fn command_line(&self, process: &Process) -> Result<Vec<String>, OsError>;

    /// The file of the program that a process runs; `None` when the system does not say.
    ///
    /// # Errors
    ///
    /// When the process has no memory ([`OsError::NoMemory`]), or what leads to the name is damaged.
    fn program(&self, process: &Process) -> Result<Option<String>, OsError>;

    /// The address space of a process, as its user mode sees it, and with the pages in memory that the CPU is made
    /// to fault on ([`SoftwareEntries`](crate::paging::SoftwareEntries)).
    ///
    /// # Errors
    ///
    /// [`OsError::NoMemory`] for kernel threads and for processes that have exited.
    fn space_of(&self, process: &Process) -> Result<AddressSpace, OsError>;

    /// How wide the pointers and the code of a process's program are, and by which signs that is known. What no
    /// sign tells is unknown, and signs that contradict each other are findings.
    ///
    /// Cost: tens of microseconds; no part of [`Guest::processes`].
    ///
    /// # Errors
    ///
    /// As [`Guest::space_of`].
    fn width_of(&self, process: &Process) -> Result<ProcessWidth, OsError>;

    /// What a process has arranged to be mapped, present or not, by ascending address.
    ///
    /// # Errors
    ///
    /// As [`Guest::space_of`], and when the list could not be looked at.
    fn vmas(&self, process: &Process) -> Result<Listing<Vma>, OsError>;

    /// Where a page of a process is: in memory, or why not.
    ///
    /// # Errors
    ///
    /// As [`Guest::space_of`].
    fn page_state(&self, process: &Process, va: Gva) -> Result<PageState, OsError>;

    /// How much of a range of a process is in memory, and where the rest is.
    ///
    /// Cost: one walk over the page tables of the range, whatever their size.
    ///
    /// # Errors
    ///
    /// As [`Guest::space_of`].
    fn residency(&self, process: &Process, range: AddrRange<Gva>) -> Result<Residency, OsError>;

    /// The kernel's modules, or the program and libraries of a process, by ascending address.
    ///
    /// # Errors
    ///
    /// When the list could not be looked at.
    fn modules(&self, of: Option<&Process>) -> Result<Listing<Module>, OsError>;

    /// The symbols of a module that [`Guest::modules`] listed for the same process.
    ///
    /// # Errors
    ///
    /// When it has none, or they cannot be read.
    fn module_symbols(
        &self,
        of: Option<&Process>,
        module: &Module,
    ) -> Result<Arc<SymbolTable>, OsError>;

    /// What a module imports that [`Guest::modules`] listed for the process.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn imports(&self, of: &Process, module: &Module) -> Result<Imports, OsError>;

    /// What a process would execute within `range` and has not mapped yet: pages of its executable
    /// mappings of files that allow at least `perm`, in memory or not.
    ///
    /// Cost: a walk over the page tables, and some reads for each page that is not mapped.
    ///
    /// # Errors
    ///
    /// As [`Guest::vmas`].
    fn unmapped_code(
        &self,
        of: &Process,
        range: AddrRange<Gva>,
        perm: Prot,
    ) -> Result<UnmappedCode, OsError>;
}

/// What a search looked at, and what it saw there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What was looked for.
    pub name: &'static str,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.seen)
    }
}

/// Rows, and what did not add up while they were read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing<T> {
    /// The rows.
    pub items: Vec<T>,
    /// What did not add up.
    pub findings: Vec<Finding>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            findings: Vec::new(),
        }
    }
}

/// Something about a guest that does not add up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What sort of thing it is.
    pub kind: FindingKind,
    /// The structure it is about, where there is one.
    pub at: Option<Gva>,
    /// What was seen, in words.
    pub text: String,
}

/// The sorts of [`Finding`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FindingKind {
    /// A structure cannot be what it should be: a link into nowhere, a loop, an absurd count.
    Damaged,
    /// One view of the guest has what another one lacks.
    Hidden,
    /// Two statements about the same thing differ.
    Inconsistent,
    /// Something could not be read, so rows may be missing.
    Unreadable,
    /// A bound on the work was reached, so rows may be missing.
    Limit,
}

impl FindingKind {
    /// One word for tables and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Hidden => "hidden",
            Self::Inconsistent => "inconsistent",
            Self::Unreadable => "unreadable",
            Self::Limit => "limit",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.label(), self.text)?;
        match self.at {
            Some(at) => write!(f, " (at {at})"),
            None => Ok(()),
        }
    }
}

/// A process. Names are the guest's text: escape them before they reach a terminal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent's number, 0 for none.
    pub ppid: u32,
    /// The user it belongs to, where the system numbers users: the real one, not the one it acts as
    /// while it runs a program with the rights of another.
    pub uid: Option<u32>,
    /// The user it acts as, where the system numbers users.
    pub euid: Option<u32>,
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
    /// The kernel's record of its memory. Processes that share their memory share this.
    pub mm: Option<Gva>,
}

impl Process {
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

/// Why a view of a guest could not be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OsError {
    /// This guest, or this operating system, does not have it.
    #[error("{view} cannot be had from this guest: {why}")]
    Unavailable {
        /// What was asked for.
        view: &'static str,
        /// Why there is none.
        why: String,
    },
    /// The process has no memory of its own.
    #[error("process {pid} ({name}) has no address space: it {why}")]
    NoMemory {
        /// Its number.
        pid: u32,
        /// Its name.
        name: String,
        /// `is a kernel thread`, `has exited`.
        why: &'static str,
    },
    /// Something that is needed could not be read.
    #[error("{what} could not be read: {fault}")]
    Unreadable {
        /// What.
        what: String,
        /// Where and why.
        fault: Fault<Gva>,
    },
    /// The kernel has no symbol of this name.
    #[error("the kernel has no symbol {0}")]
    NoSymbol(&'static str),
    /// The kernel's types are not what they should be.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// What was read cannot be right.
    #[error("{what} at {at} cannot be right: {why}")]
    Damaged {
        /// What.
        what: String,
        /// Where.
        at: Gva,
        /// What was seen.
        why: String,
    },
}

/// No operating system was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FindError {
    /// For each operating system, what its search saw.
    pub searches: Vec<(Kind, Vec<Step>)>,
}

impl std::error::Error for FindError {}

impl fmt::Display for FindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no operating system was found")?;
        for (kind, steps) in &self.searches {
            for step in steps {
                write!(f, "\n  {kind}: {step}")?;
            }
        }
        Ok(())
    }
}

type Phys = Arc<dyn Memory<Addr = Gpa>>;

/// A search for one operating system: the guest, or what each step saw.
type Search = fn(&Phys, &Hints, &FindOptions) -> Result<Box<dyn Guest>, Vec<Step>>;

/// All searches, in the order in which they are tried.
const SEARCHES: &[(Kind, Search)] = &[(Kind::Linux, |phys, hints, options| {
    linux::Linux::find_with(phys, hints, options).map(|guest| Box::new(guest) as Box<dyn Guest>)
})];

/// What is known beforehand about a guest's operating system.
#[derive(Clone, Debug, Default)]
pub struct FindOptions {
    /// Types to use when the guest has none of its own, or damaged ones.
    pub types: Option<SuppliedTypes>,
    /// Where to look for types then, in this order, and where to keep those that are whole.
    pub stores: Vec<TypeStore>,
    /// Where it was found before, in the same memory. What is found there is verified all the same.
    pub trail: Option<Trail>,
    /// Whether the guest stood still while its memory was taken.
    pub moment: Moment,
    /// The kernel that is meant, where memory has several: by the physical address of its top page table
    /// ([`Trail::root`]). No other is found then, and no CPU contradicts it.
    pub kernel_at: Option<Gpa>,
}

/// Whether a guest stood still while its memory was taken: what one list has and another lacks may
/// be what came and went between two looks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[non_exhaustive]
pub enum Moment {
    /// Nobody knows: an image that may have been taken while the guest ran.
    #[default]
    Unknown,
    /// It stood still.
    Stopped,
    /// It runs while it is looked at, so what does not add up is looked at again.
    Running,
}

/// A kernel in a guest's memory beside the one that was found: one that ran before, or will if that one
/// crashes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OtherKernel {
    /// Its release.
    pub version: String,
    /// Its top page table: what [`FindOptions::kernel_at`] takes.
    pub root: Gpa,
}

/// Finds out which operating system a guest runs.
///
/// `hints` may be empty. What they lead to is verified like everything else, and CPUs contradict a find that is
/// not the kernel they run.
///
/// Cost: little where a hint leads to the kernel; else a glance at every page until it is found, and a full pass over
/// memory when that fails.
///
/// # Errors
///
/// What each search saw, when none succeeded.
pub fn find(phys: &Phys, hints: &Hints) -> Result<Box<dyn Guest>, FindError> {
    find_with(phys, hints, &FindOptions::default())
}

/// As [`find`], with what is known beforehand.
///
/// # Errors
///
/// What each search saw, when none succeeded.
pub fn find_with(
    phys: &Phys,
    hints: &Hints,
    options: &FindOptions,
) -> Result<Box<dyn Guest>, FindError> {
    let mut searches = Vec::new();
    for (kind, search) in SEARCHES {
        match search(phys, hints, options) {
            Ok(guest) => return Ok(guest),
            Err(steps) => searches.push((*kind, steps)),
        }
    }
    Err(FindError { searches })
}
