//! Linux on x86-64, from its memory alone.
//!
//! `find.rs` finds and verifies the kernel; this module holds what it found and answers the questions
//! of [`Guest`]. No profile, no symbol file and no table of versions is used: offsets come
//! from the kernel's own BTF, addresses from its own kallsyms.

mod anchor;
mod backed;
mod banner;
mod btf;
mod code;
mod files;
mod find;
mod hints;
mod images;
mod kallsyms;
mod kthreads;
mod linear;
mod log;
mod mm;
mod modules;
mod pids;
mod processes;
mod ram;
mod residency;
mod rows;
mod scan;
mod software;
mod state;
mod strays;
mod swap;
mod taskplan;
mod tasks;
#[cfg(test)]
pub(in crate::os) mod tests;
mod typeinfo;
mod vma;
mod vmcoreinfo;
mod width;

use std::sync::{Arc, OnceLock};

use super::{
    Acquisition, BuildId, FindOptions, Finding, Guest, Imports, Kind, LikelyRoot, Listing, Missed,
    Module, OsError, OtherKernel, PageState, Phys, Process, ProcessWidth, RamCount, Residency,
    Step, SuppliedTypes, SymbolTable, Trail, TypeStore, Types, UnmappedCode, Vma,
};
use crate::addr::{AddrRange, Gpa, Gva};
use crate::hints::Hints;
use crate::memory::Prot;
use crate::paging::AddressSpace;

pub(crate) use files::FileNames;
pub use rows::LinuxProcess;
pub use software::looks_resident;
pub(crate) use state::task_state;

/// Where a kernel's text starts as linked: the image window, and CONFIG_PHYSICAL_START, which everybody
/// leaves at its default of 16 MiB.
const LINKED_TEXT: u64 = kallsyms::IMAGE_START + (16 << 20);

/// Roots that hints lead to ([`hints`]).
pub(super) fn likely_roots(phys: &Phys, hints: &Hints) -> Vec<LikelyRoot> {
    const MAX: usize = 4;
    let roots = hints::all(phys, hints).take(MAX);
    roots
        .map(|hint| LikelyRoot {
            what: hint.what,
            space: hint.space,
        })
        .collect()
}

/// A Linux kernel that was found and verified.
#[derive(Debug)]
pub struct Linux {
    space: AddressSpace,
    symbols: Arc<SymbolTable>,
    version: String,
    steps: Vec<Step>,
    trail: Trail,
    types: OnceLock<Result<typeinfo::KernelTypes, OsError>>,
    /// What of the kernel's symbols is lost.
    losses: Vec<Finding>,
    /// Where its own top page table is: that of `space`, unless it is damaged.
    root: Gpa,
    acquisition: Acquisition,
    /// Types to use when the kernel has none.
    supplied: Option<SuppliedTypes>,
    stores: Vec<TypeStore>,
    build: OnceLock<Option<BuildId>>,
    tables: OnceLock<Result<Arc<processes::Tables>, OsError>>,
    vma_plan: OnceLock<Result<vma::VmaPlan, OsError>>,
    cache_plan: OnceLock<Result<backed::CachePlan, OsError>>,
    module_plan: OnceLock<Result<Arc<modules::ModulePlan>, OsError>>,
    known: OnceLock<Arc<software::Known>>,
    width_plan: OnceLock<Result<width::WidthPlan, OsError>>,
}

impl Linux {
    /// Looks for a Linux kernel.
    ///
    /// # Errors
    ///
    /// What each step of the search saw.
    pub fn find(phys: &Phys, hints: &Hints) -> Result<Self, Missed> {
        Self::find_with(phys, hints, &FindOptions::default())
    }

    /// Looks for a Linux kernel, with what is known beforehand.
    ///
    /// # Errors
    ///
    /// What each step of the search saw.
    pub fn find_with(phys: &Phys, hints: &Hints, options: &FindOptions) -> Result<Self, Missed> {
        find::find(phys, hints, options)
    }

    /// The address of a kernel symbol that is there once.
    ///
    /// # Errors
    ///
    /// [`OsError::NoSymbol`].
    fn symbol(&self, name: &'static str) -> Result<Gva, OsError> {
        self.symbols.address_of(name).ok_or(OsError::NoSymbol(name))
    }

    /// Where things are in the kernel's structures, looked up once.
    fn tables(&self) -> Result<Arc<processes::Tables>, OsError> {
        let look_up = || {
            let types = self.types()?;
            let damaged = !self.findings().is_empty();
            let tables = processes::Tables::new(&types, &self.symbols, &self.space, damaged)?;
            Ok(Arc::new(tables))
        };
        self.tables.get_or_init(look_up).clone()
    }

    /// The same for what processes have mapped.
    fn vma_plan(&self) -> Result<vma::VmaPlan, OsError> {
        let look_up = || Ok(vma::VmaPlan::new(&*self.types()?)?);
        self.vma_plan.get_or_init(look_up).clone()
    }

    /// The same for pages of files.
    fn cache_plan(&self) -> Result<backed::CachePlan, OsError> {
        let look_up = || Ok(backed::CachePlan::new(&*self.types()?)?);
        self.cache_plan.get_or_init(look_up).clone()
    }

    /// The same for what tells how wide programs are.
    fn width_plan(&self) -> Result<width::WidthPlan, OsError> {
        let look_up = || Ok(width::WidthPlan::new(&*self.types()?));
        self.width_plan.get_or_init(look_up).clone()
    }

    /// The same for modules of the kernel.
    fn module_plan(&self) -> Result<Arc<modules::ModulePlan>, OsError> {
        let look_up = || Ok(Arc::new(modules::ModulePlan::new(&*self.types()?)?));
        self.module_plan.get_or_init(look_up).clone()
    }
}

/// Types out of a BTF blob of any origin, such as a kernel's `/sys/kernel/btf/vmlinux`.
///
/// # Errors
///
/// [`BtfError`].
pub fn types_of_btf(bytes: Vec<u8>) -> Result<Types, BtfError> {
    let btf = btf::Btf::parse(bytes).map_err(BtfError)?;
    Ok(Types::new(Box::new(btf)))
}

/// What about a blob is not BTF.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not BTF, or damaged: {0}")]
pub struct BtfError(String);

impl Guest for Linux {
    fn kind(&self) -> Kind {
        Kind::Linux
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn build_id(&self) -> Option<&BuildId> {
        self.build.get_or_init(|| self.read_build_id()).as_ref()
    }

    fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn other_kernels(&self) -> Vec<OtherKernel> {
        find::other_kernels(self.space.phys(), self.root)
    }

    fn trail(&self) -> &Trail {
        &self.trail
    }

    fn kernel_space(&self) -> &AddressSpace {
        &self.space
    }

    fn ram(&self) -> Option<RamCount> {
        ram::count(&self.space, &self.symbols)
    }

    fn slide(&self) -> u64 {
        let text = self
            .symbols
            .address_of("_text")
            .map_or(LINKED_TEXT, |va| va.0);
        text.wrapping_sub(LINKED_TEXT)
    }

    fn symbols(&self) -> Result<Arc<SymbolTable>, OsError> {
        Ok(Arc::clone(&self.symbols))
    }

    fn types(&self) -> Result<Arc<Types>, OsError> {
        let found = self.types.get_or_init(|| self.read_types());
        found.as_ref().map_or_else(
            |error| Err(error.clone()),
            |found| Ok(Arc::clone(&found.types)),
        )
    }

    fn findings(&self) -> Vec<Finding> {
        let types = self.types.get_or_init(|| self.read_types());
        let of_types = types.iter().flat_map(|found| &found.findings);
        self.losses.iter().chain(of_types).cloned().collect()
    }

    fn processes(&self) -> Result<Listing<Process>, OsError> {
        self.list_processes()
    }

    fn command_line(&self, process: &Process) -> Result<Vec<String>, OsError> {
        self.arguments(process)
    }

    fn program(&self, process: &Process) -> Result<Option<String>, OsError> {
        self.program_path(process)
    }

    fn space_of(&self, process: &Process) -> Result<AddressSpace, OsError> {
        self.user_space(process)
    }

    fn width_of(&self, process: &Process) -> Result<ProcessWidth, OsError> {
        self.program_width(process)
    }

    fn vmas(&self, process: &Process) -> Result<Listing<Vma>, OsError> {
        self.list_vmas(process)
    }

    fn page_state(&self, process: &Process, va: Gva) -> Result<PageState, OsError> {
        self.state_of_page(process, va)
    }

    fn residency(&self, process: &Process, range: AddrRange<Gva>) -> Result<Residency, OsError> {
        self.count_pages(process, range)
    }

    fn modules(&self, of: Option<&Process>) -> Result<Listing<Module>, OsError> {
        match of {
            None => self.kernel_modules(),
            Some(process) => self.images(process),
        }
    }

    fn module_symbols(
        &self,
        of: Option<&Process>,
        module: &Module,
    ) -> Result<Arc<SymbolTable>, OsError> {
        match of {
            None => self.kernel_module_symbols(module),
            Some(process) => self.image_symbols(process, module),
        }
    }

    fn imports(&self, of: &Process, module: &Module) -> Result<Imports, OsError> {
        self.image_imports(of, module)
    }

    fn unmapped_code(
        &self,
        of: &Process,
        range: AddrRange<Gva>,
        perm: Prot,
    ) -> Result<UnmappedCode, OsError> {
        self.code_not_mapped(of, range, perm)
    }
}
