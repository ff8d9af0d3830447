//! The program and the libraries of a process: ELF images among its mappings.
//!
//! A mapping of the start of a file is the start of an image when there is an ELF header, and what its
//! program headers say is borne out: where the code should be, something is mapped that may be executed.
//! (The same file mapped to be read as data is no image.) When the page with the header is
//! nowhere in memory, the mappings of the same file that follow are taken together; their code must be among them.

use std::sync::Arc;

use super::Linux;
use crate::addr::{AddrRange, Address, Gva};
use crate::os::elf::{ElfError, ElfImage};
use crate::os::object::Budget;
use crate::os::{
    Finding, FindingKind, Imports, Listing, Module, OsError, Process, SymbolTable, Vma,
};

/// How many mappings are looked at for all images of a process. A guest may describe a million images
/// that all claim to reach over a million mappings.
const MAX_LOOKS: usize = 4 << 20;

/// The name of the library that the kernel gives each process.
pub(super) const VDSO: &str = "[vdso]";

/// Whether two mappings are of the same file.
fn same_file(a: &Vma, b: &Vma) -> bool {
    match (&a.file, &b.file) {
        (Some(a), Some(b)) => (a.device, a.inode, &a.path) == (b.device, b.inode, &b.path),
        _ => false,
    }
}

/// Whether a mapping is of the start of a file, or of what stands for one.
fn may_start_image(vma: &Vma) -> bool {
    match &vma.file {
        Some(file) => file.offset == 0,
        None => vma.name.as_deref() == Some(VDSO),
    }
}

impl Linux {
    /// The program and the libraries of a process, by ascending address.
    pub(super) fn images(&self, process: &Process) -> Result<Listing<Module>, OsError> {
        let Listing { items, findings } = self.list_vmas(process)?;
        let memory = self.backed(process, &items)?;
        let mut listing = Listing {
            items: Vec::new(),
            findings,
        };
        let mut budget = Budget(MAX_LOOKS);
        for (index, vma) in items.iter().enumerate() {
            if !may_start_image(vma) {
                continue;
            }
            if !budget.take() {
                listing.findings.push(Finding {
                    kind: FindingKind::Limit,
                    at: Some(vma.range.start()),
                    text: "the images of this process take too long to tell apart".into(),
                });
                break;
            }
            let parts = match ElfImage::open(&memory, vma.range.start()) {
                Ok(image) => parts_of_image(&image, vma, &items, &mut budget),
                Err(ElfError::Unreadable { what, fault }) => {
                    let parts = parts_by_file(vma, &items[index..], &mut budget);
                    if parts.is_some() {
                        let name = vma.name.as_deref().unwrap_or_default();
                        listing.findings.push(Finding {
                            kind: FindingKind::Unreadable,
                            at: Some(vma.range.start()),
                            text: format!(
                                "the {what} of {name} cannot be read, so its range is that of its \
                                 mappings: {fault}"
                            ),
                        });
                    }
                    parts
                }
                Err(_) => None,
            };
            listing.items.extend(parts.map(|parts| module(vma, &parts)));
        }
        listing.items.sort_by_key(|module| module.range);
        Ok(listing)
    }

    /// The symbols of a program or a library.
    pub(super) fn image_symbols(
        &self,
        process: &Process,
        module: &Module,
    ) -> Result<Arc<SymbolTable>, OsError> {
        let symbols = self.of_image(process, module, "symbols", |image, file| {
            image.symbols(file)
        });
        symbols.map(Arc::new)
    }

    /// What a program or a library imports.
    pub(super) fn image_imports(
        &self,
        process: &Process,
        module: &Module,
    ) -> Result<Imports, OsError> {
        self.of_image(process, module, "imports", |image, file| {
            image.imports(file)
        })
    }

    /// Opens an image, and has something read of it and of its file.
    fn of_image<T>(
        &self,
        process: &Process,
        module: &Module,
        view: &'static str,
        read: impl FnOnce(&ElfImage<'_>, &dyn Fn(u64, &mut [u8]) -> bool) -> Result<T, ElfError>,
    ) -> Result<T, OsError> {
        let start = module.range.start();
        let vmas = self.list_vmas(process)?.items;
        let memory = self.backed(process, &vmas)?;
        let first = vmas.iter().find(|vma| vma.range.start() == start);
        let file = |offset: u64, buf: &mut [u8]| {
            first.is_some_and(|first| memory.read_file(first, offset, buf))
        };
        ElfImage::open(&memory, start)
            .and_then(|image| read(&image, &file))
            .map_err(|error| match error {
                ElfError::Unreadable { what, fault } => OsError::Unreadable {
                    what: format!("{what} of {}", module.name),
                    fault,
                },
                error => OsError::Unavailable {
                    view,
                    why: format!("{}: {error}", module.name),
                },
            })
    }
}

/// The mappings of an image, cut to its range; `None` when its code is not mapped as code. `vmas` are
/// all mappings.
fn parts_of_image(
    image: &ElfImage<'_>,
    first: &Vma,
    vmas: &[Vma],
    budget: &mut Budget,
) -> Option<Vec<AddrRange<Gva>>> {
    let behind = |va: Gva| vmas.partition_point(|vma| vma.range.last() < va);
    let mapped_at = |va: Gva| vmas.get(behind(va)).filter(|vma| vma.range.contains(va));
    let is_code = |va: Gva| mapped_at(va).is_some_and(|vma| vma.prot.exec());
    let mut code = image.segments().iter().filter(|s| s.prot.exec()).peekable();
    let borne_out = match code.peek() {
        Some(_) => code.any(|segment| is_code(segment.range.start())),
        // A library without code: all of it must be where it should be.
        None => image.segments().iter().all(|segment| {
            let from = segment.range.start().align_down(4096);
            mapped_at(from).is_some_and(|vma| same_file(vma, first))
        }),
    };
    if !borne_out {
        return None;
    }
    if first.file.is_none() {
        // All of it is the image, whatever of it counts as loaded.
        return Some(vec![first.range]);
    }
    let within = vmas[behind(image.range().start())..].iter();
    let parts = within
        .take_while(|vma| vma.range.start() <= image.range().last() && budget.take())
        .filter(|vma| vma.file.is_none() || vma.range == first.range || same_file(vma, first))
        .filter_map(|vma| vma.range.intersect(image.range()));
    Some(parts.collect())
}

/// The mappings of one file from its start on, when there is code among them. `vmas` are the mappings
/// from the first one on.
fn parts_by_file(first: &Vma, vmas: &[Vma], budget: &mut Budget) -> Option<Vec<AddrRange<Gva>>> {
    let again = |vma: &Vma| may_start_image(vma) && vma.range != first.range;
    let own: Vec<&Vma> = vmas
        .iter()
        .take_while(|_| budget.take())
        .filter(|vma| vma.range == first.range || same_file(vma, first))
        .take_while(|vma| !again(vma))
        .collect();
    let has_code = own.iter().any(|vma| vma.prot.exec());
    has_code.then(|| own.iter().map(|vma| vma.range).collect())
}

fn module(first: &Vma, parts: &[AddrRange<Gva>]) -> Module {
    let path = first.file.as_ref().map(|file| file.path.clone());
    let name = match &path {
        Some(path) => path.rsplit('/').next().unwrap_or(path).to_owned(),
        None => first.name.clone().unwrap_or_default(),
    };
    let last = parts.iter().map(|part| part.last()).max();
    let last = last.unwrap_or_else(|| first.range.last());
    Module {
        name,
        path,
        base: first.range.start(),
        range: AddrRange::inclusive(first.range.start(), last).unwrap_or(first.range),
        size: parts.iter().map(|part| part.len()).sum(),
        object: None,
    }
}
