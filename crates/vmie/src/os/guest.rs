//! The one interface through which everything above asks about a guest, whatever its operating system.

use std::sync::Arc;

use super::code::UnmappedCode;
use super::error::OsError;
use super::finding::{Finding, Listing};
use super::object::Objects;
use super::rows::{Module, PageState, Process, Residency, Vma};
use super::search::{Kind, OtherKernel, Step};
use super::symbols::{Imports, SymbolTable};
use super::trail::Trail;
use super::types::{BuildId, Types};
use super::width::ProcessWidth;
use crate::addr::{AddrRange, Gva};
use crate::memory::Prot;
use crate::paging::AddressSpace;

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

    /// The kernel's objects, by the names of their members: what views are built on.
    ///
    /// # Errors
    ///
    /// As [`Guest::types`] and [`Guest::symbols`].
    fn objects(&self) -> Result<Objects<'_>, OsError> {
        let (types, symbols) = (self.types()?, self.symbols()?);
        Ok(Objects::new(self.kernel_space(), types, symbols))
    }

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
