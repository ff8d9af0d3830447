//! The one interface through which everything above asks about a guest, whatever its operating system.

use std::sync::Arc;

use super::code::UnmappedCode;
use super::error::OsError;
use super::finding::{Finding, Listing};
use super::object::{Objects, Walk};
use super::rows::{Module, PageState, Process, Residency, Vma};
use super::search::{Kind, OtherKernel, RamCount, Step};
use super::symbols::{Imports, SymbolTable};
use super::trail::Trail;
use super::types::{BuildId, Types};
use super::width::ProcessWidth;
use crate::addr::{AddrRange, Gva};
use crate::memory::Prot;
use crate::paging::AddressSpace;

/// A guest whose operating system was found and verified.
///
/// A system begins with five methods: [`kind`](Guest::kind), [`version`](Guest::version), [`trail`](Guest::trail),
/// [`kernel_space`](Guest::kernel_space) and [`processes`](Guest::processes). All others have defaults, which answer
/// with what these say, with "not known", or with [`OsError::Unavailable`] where an empty answer would be a lie.
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
    fn steps(&self) -> &[Step] {
        &[]
    }

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

    /// How much RAM the system counts itself; `None` where it does not say.
    fn ram(&self) -> Option<RamCount> {
        None
    }

    /// How far the kernel was moved from the addresses that it was linked for; to be subtracted modulo
    /// 2^64.
    fn slide(&self) -> u64 {
        0
    }

    /// The kernel's symbols, without those of its modules.
    ///
    /// # Errors
    ///
    /// When the guest has none that can be read.
    fn symbols(&self) -> Result<Arc<SymbolTable>, OsError> {
        Err(unavailable("symbols"))
    }

    /// The kernel's types.
    ///
    /// # Errors
    ///
    /// When the guest has none that can be read.
    fn types(&self) -> Result<Arc<Types>, OsError> {
        Err(unavailable("types"))
    }

    /// The kernel's objects, by the names of their members: what views are built on.
    ///
    /// # Errors
    ///
    /// As [`Guest::types`] and [`Guest::symbols`].
    fn objects(&self) -> Result<Objects<'_>, OsError> {
        let (types, symbols) = (self.types()?, self.symbols()?);
        Ok(Objects::new(self.kernel_space(), types, symbols))
    }

    /// A question about the system's objects: what it may walk in all, which grows with the memory that there is.
    fn walk(&self) -> Walk {
        /// No list of objects is of smaller ones than half a cache line.
        const BYTES_A_STEP: u64 = 32;
        let regions = self.kernel_space().phys().regions(AddrRange::all());
        let bytes = regions.fold(0, |sum: u64, region| sum.saturating_add(region.len));
        Walk::new((bytes / BYTES_A_STEP).clamp(1 << 16, 1 << 28) as usize)
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
    fn command_line(&self, process: &Process) -> Result<Vec<String>, OsError> {
        let _ = process;
        Err(unavailable("the arguments of processes"))
    }

    /// The file of the program that a process runs; `None` when the system does not say.
    ///
    /// # Errors
    ///
    /// When the process has no memory ([`OsError::NoMemory`]), or what leads to the name is damaged.
    fn program(&self, process: &Process) -> Result<Option<String>, OsError> {
        let _ = process;
        Ok(None)
    }

    /// The address space of a process, as its user mode sees it, and with the pages in memory that the CPU is made
    /// to fault on ([`SoftwareEntries`](crate::paging::SoftwareEntries)).
    ///
    /// # Errors
    ///
    /// [`OsError::NoMemory`] for kernel threads and for processes that have exited.
    fn space_of(&self, process: &Process) -> Result<AddressSpace, OsError> {
        match process.user_root.or(process.root) {
            Some(root) => Ok(self.kernel_space().with_root(root)),
            None => Err(OsError::no_memory(process)),
        }
    }

    /// How wide the pointers and the code of a process's program are, and by which signs that is known. What no
    /// sign tells is unknown, and signs that contradict each other are findings.
    ///
    /// Cost: tens of microseconds; no part of [`Guest::processes`].
    ///
    /// # Errors
    ///
    /// As [`Guest::space_of`].
    fn width_of(&self, process: &Process) -> Result<ProcessWidth, OsError> {
        let _ = process;
        Err(unavailable("how wide programs are"))
    }

    /// What a process has arranged to be mapped, present or not, by ascending address.
    ///
    /// # Errors
    ///
    /// As [`Guest::space_of`], and when the list could not be looked at.
    fn vmas(&self, process: &Process) -> Result<Listing<Vma>, OsError> {
        let _ = process;
        Err(unavailable("what processes have mapped"))
    }

    /// Where a page of a process is: in memory, or why not.
    ///
    /// # Errors
    ///
    /// As [`Guest::space_of`].
    fn page_state(&self, process: &Process, va: Gva) -> Result<PageState, OsError> {
        let _ = (process, va);
        Err(unavailable("where pages are"))
    }

    /// How much of a range of a process is in memory, and where the rest is.
    ///
    /// Cost: one walk over the page tables of the range, whatever their size.
    ///
    /// # Errors
    ///
    /// As [`Guest::space_of`].
    fn residency(&self, process: &Process, range: AddrRange<Gva>) -> Result<Residency, OsError> {
        let _ = (process, range);
        Err(unavailable("where pages are"))
    }

    /// The kernel's modules, or the program and libraries of a process, by ascending address.
    ///
    /// # Errors
    ///
    /// When the list could not be looked at.
    fn modules(&self, of: Option<&Process>) -> Result<Listing<Module>, OsError> {
        let _ = of;
        Err(unavailable("modules"))
    }

    /// The symbols of a module that [`Guest::modules`] listed for the same process.
    ///
    /// # Errors
    ///
    /// When it has none, or they cannot be read.
    fn module_symbols(
        &self,
        of: Option<&Process>,
        module: &Module,
    ) -> Result<Arc<SymbolTable>, OsError> {
        let _ = (of, module);
        Err(unavailable("symbols of modules"))
    }

    /// What a module imports that [`Guest::modules`] listed for the process.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn imports(&self, of: &Process, module: &Module) -> Result<Imports, OsError> {
        let _ = (of, module);
        Err(unavailable("imports"))
    }

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
    ) -> Result<UnmappedCode, OsError> {
        let _ = (of, range, perm);
        Err(unavailable("code that is not mapped yet"))
    }
}

/// What a system does not answer yet.
fn unavailable(view: &'static str) -> OsError {
    OsError::Unavailable {
        view,
        why: "vmie does not know how this operating system keeps it".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Gpa;
    use crate::os::{ProcessState, ProcessSystem};
    use crate::paging::Mode;
    use crate::testmem::TestMemory;

    /// A system that has just been begun.
    struct Begun {
        trail: Trail,
        space: AddressSpace,
    }

    impl Guest for Begun {
        fn kind(&self) -> Kind {
            Kind::Linux
        }

        fn version(&self) -> &str {
            "0.1"
        }

        fn trail(&self) -> &Trail {
            &self.trail
        }

        fn kernel_space(&self) -> &AddressSpace {
            &self.space
        }

        fn processes(&self) -> Result<Listing<Process>, OsError> {
            Ok(Listing::default())
        }
    }

    #[test]
    fn a_system_begins_with_five_methods() {
        let root = Gpa(0x1000);
        let memory = TestMemory::<Gpa>::of(0, &[0; 0x3000]);
        let begun = Begun {
            trail: Trail {
                root,
                mode: Mode::FourLevel,
                ignore: 0,
                marks: Vec::new(),
            },
            space: AddressSpace::new(Arc::new(memory), root, Mode::FourLevel),
        };
        let guest: &dyn Guest = &begun;
        let mut process = Process {
            pid: 1,
            ppid: 0,
            name: "init".into(),
            threads: 1,
            started: None,
            state: ProcessState::Running,
            kernel: false,
            root: Some(Gpa(0x2000)),
            user_root: None,
            object: Gva(0),
            system: ProcessSystem::default(),
        };
        assert_eq!((process.uid(), process.linux()), (None, None));
        let space = guest.space_of(&process).expect("has memory");
        assert_eq!(space.root(), Gpa(0x2000));
        process.root = None;
        let none = guest.space_of(&process).map(|_| ());
        assert!(matches!(none, Err(OsError::NoMemory { .. })));
        assert_eq!((guest.slide(), guest.steps().len()), (0, 0));
        assert_eq!(guest.program(&process), Ok(None));
        // What it does not say is an error, never an empty answer.
        let unavailable = |error| matches!(error, Some(OsError::Unavailable { .. }));
        assert!(unavailable(guest.modules(None).err()));
        assert!(unavailable(guest.vmas(&process).err()));
        assert!(unavailable(guest.command_line(&process).err()));
        assert!(unavailable(guest.symbols().err()));
        assert!(unavailable(guest.types().err()));
        assert!(unavailable(guest.objects().err()));
    }
}
