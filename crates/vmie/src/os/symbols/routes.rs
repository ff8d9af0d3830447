//! Ways that lead to an address by imports: what code refers to when it means a function of another image.
//!
//! ```text
//! call malloc@plt     stub  -> slot -> malloc
//! call *slot(%rip)             slot -> malloc
//! mov  slot(%rip),%reg         slot -> malloc
//! ```
//!
//! **The value of a slot is the truth.** A slot leads to what it holds now, whatever it was made for: one
//! that somebody has redirected leads to where he wanted, and no longer to the function it is named
//! after. Only where the value says nothing does the name decide:
//!
//! * a slot that is not bound yet holds the address of code of its own image that binds it;
//! * of a function that exists in several forms (`STT_GNU_IFUNC`: `memcpy`), the slot holds the form that was
//!   chosen, while the symbol stands for the function that chooses;
//! * a slot may not be in memory.
//!
//! Slots that are named after the function and hold something else are told apart, for this is how functions are
//! replaced, by preloading a library or by a rootkit. So are variables that have moved into a program
//! (`COPY`), where the original is no longer used.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::imports::{ImportName, Imports, Slot, SlotKind, Stub};
use super::table::SymbolTable;
use crate::addr::{AddrRange, Gva, PAGE_SIZE};
use crate::memory::Memory;
use crate::os::{Finding, FindingKind, Guest, Module, OsError, Process};

/// How many images of a process are looked at, and how many bytes these may take together.
const MAX_IMAGES: usize = 4096;
const MAX_SPAN: u64 = 16 << 30;

/// How many bytes of read-only pointers of one image are looked at.
const MAX_CONSTANT: u64 = 64 << 20;

/// How many routes, and how many slots that lead elsewhere, are kept.
const MAX_ROUTES: usize = 1 << 20;
const MAX_ASTRAY: usize = 64;

/// What an instruction refers to when it refers to an address by an import.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Via {
    /// A stub (of the procedure linkage table).
    Stub,
    /// A slot (of the global offset table).
    Slot,
    /// A pointer among data that the loader has filled.
    Pointer,
}

impl Via {
    /// One word: `plt`, `got`, `pointer`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stub => "plt",
            Self::Slot => "got",
            Self::Pointer => "pointer",
        }
    }
}

/// How it is known where a slot leads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Binding {
    /// It holds the address.
    Value,
    /// It holds the form that the function at the address has chosen.
    Chosen,
    /// It holds the address of a stub that leads there.
    Stub,
    /// It is to be bound to it at the first call.
    Lazy,
    /// It is named after it, and its value is not in memory.
    Unread,
}

impl Binding {
    /// One word: `value`, `ifunc`, `stub`, `lazy`, `unread`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Chosen => "ifunc",
            Self::Stub => "stub",
            Self::Lazy => "lazy",
            Self::Unread => "unread",
        }
    }
}

/// A way to an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// What code refers to: a stub, or a slot.
    pub at: Gva,
    /// Which of these it is.
    pub via: Via,
    /// The slot.
    pub slot: Gva,
    /// Where it leads: one of the addresses that were asked for.
    pub reaches: Gva,
    /// How that is known.
    pub binding: Binding,
    /// What the slot was made for, with its version, where that is known: `memcpy@GLIBC_2.14`.
    pub symbol: Option<Arc<str>>,
}

/// A slot that is named after an address that was asked for, and leads elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Astray {
    /// The slot.
    pub slot: Gva,
    /// The image that has it.
    pub image: String,
    /// What it was made for.
    pub symbol: Arc<str>,
    /// What it holds.
    pub value: Gva,
}

/// A variable that was asked for, and has moved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// The variable.
    pub symbol: Arc<str>,
    /// The image that it has moved to.
    pub image: String,
    /// Where it is now.
    pub to: Gva,
}

/// All ways that lead to some addresses of a process by imports.
#[derive(Clone, Default, Debug)]
pub struct Routes {
    /// By address, then by way; each once.
    routes: Vec<Route>,
    /// Slots that lead elsewhere, the first [`Routes::MAX_ASTRAY`] of them.
    pub astray: Vec<Astray>,
    /// How many of those there are.
    pub astray_count: usize,
    /// Variables that have moved.
    pub moved: Vec<Moved>,
    /// What could not be looked at.
    pub findings: Vec<Finding>,
}

/// Reads the symbols of an image.
type Symbols<'s> = &'s dyn Fn(&Module) -> Option<Arc<SymbolTable>>;

/// An image of the process.
struct Image {
    module: Module,
    imports: Imports,
    /// By slot.
    stubs: Vec<Stub>,
}

impl Image {
    fn new(module: Module, imports: Imports) -> Self {
        let mut stubs = imports.stubs.clone();
        stubs.sort_by_key(|stub| stub.slot);
        Self {
            module,
            imports,
            stubs,
        }
    }

    /// The stubs that jump through a slot.
    fn stubs_of(&self, slot: Gva) -> impl Iterator<Item = &Stub> {
        let from = self.stubs.partition_point(|stub| stub.slot < slot);
        self.stubs[from..]
            .iter()
            .take_while(move |stub| stub.slot == slot)
    }
}

impl Routes {
    /// How many slots that lead elsewhere are kept one by one.
    pub const MAX_ASTRAY: usize = MAX_ASTRAY;

    /// The ways that lead to `targets` in a process.
    ///
    /// Cost: a pass over the relocations and the code of each image, and the symbols of those in which there
    /// are targets.
    ///
    /// # Errors
    ///
    /// When the process has no memory, or its images cannot be listed. What cannot be known of one image
    /// is a finding.
    pub fn of_process(
        guest: &dyn Guest,
        process: &Process,
        targets: &[AddrRange<Gva>],
    ) -> Result<Self, OsError> {
        let mut routes = Self::default();
        let space = guest.space_of(process)?;
        let listing = guest.modules(Some(process))?;
        routes.findings = listing.findings;
        let mut modules = listing.items;
        let mut span = 0_u64;
        let mut fits = |module: &Module| {
            span = span.saturating_add(module.range.len());
            span <= MAX_SPAN
        };
        let count = modules
            .iter()
            .take(MAX_IMAGES)
            .take_while(|module| fits(module))
            .count();
        if modules.len() > count {
            modules.truncate(count);
            routes.find(
                FindingKind::Limit,
                None,
                "there are more images than are looked at",
            );
        }
        let mut images = Vec::new();
        for module in modules {
            match guest.imports(process, &module) {
                Ok(imports) => {
                    if imports.missing > 0 {
                        let text = format!(
                            "{} imports of {} are not known",
                            imports.missing, module.name
                        );
                        routes.find(FindingKind::Unreadable, Some(module.base), &text);
                    }
                    images.push(Image::new(module, imports));
                }
                Err(error) => {
                    let text = format!("the imports of {} are not known: {error}", module.name);
                    routes.find(FindingKind::Unreadable, Some(module.base), &text);
                }
            }
        }
        let symbols = |module: &Module| guest.module_symbols(Some(process), module).ok();
        routes.search(&images, &space, &symbols, targets);
        Ok(routes)
    }

    /// Looks for the ways among images that are in a memory.
    fn search(
        &mut self,
        images: &[Image],
        memory: &dyn Memory<Addr = Gva>,
        symbols: Symbols<'_>,
        targets: &[AddrRange<Gva>],
    ) {
        let search = Search {
            memory,
            symbols,
            images,
            targets,
            definers: Definers::of(symbols, images, targets),
        };
        search.run(self);
        let key = |route: &Route| (route.at, route.via, route.slot, route.binding);
        self.routes.sort_by_key(key);
        self.routes.dedup_by_key(|route| route.at);
    }

    /// The ways, by the address that code refers to; one for each.
    pub fn all(&self) -> &[Route] {
        &self.routes
    }

    /// The way that begins at an address.
    pub fn at(&self, va: Gva) -> Option<&Route> {
        let index = self.routes.binary_search_by_key(&va, |route| route.at);
        self.routes.get(index.ok()?)
    }

    /// Whether all that leads there is known.
    pub fn is_complete(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, kind: FindingKind, at: Option<Gva>, text: &str) {
        self.findings.push(Finding {
            kind,
            at,
            text: text.to_owned(),
        });
    }

    fn push(&mut self, image: &Image, slot: &Slot, via: Via, reaches: Gva, binding: Binding) {
        if self.routes.len() >= MAX_ROUTES {
            if self.routes.len() == MAX_ROUTES
                && self.findings.iter().all(|f| f.kind != FindingKind::Limit)
            {
                self.find(
                    FindingKind::Limit,
                    None,
                    "there are more slots than are looked at",
                );
            }
            return;
        }
        let symbol = image.imports.name_of(slot).map(full_name);
        let route = Route {
            at: slot.va,
            via,
            slot: slot.va,
            reaches,
            binding,
            symbol,
        };
        for stub in image.stubs_of(slot.va) {
            self.routes.push(Route {
                at: stub.va,
                via: Via::Stub,
                ..route.clone()
            });
        }
        self.routes.push(route);
    }
}

/// A name with its version.
fn full_name(name: &ImportName) -> Arc<str> {
    match &name.version {
        Some(version) => format!("{}@{version}", name.symbol).into(),
        None => name.symbol.as_str().into(),
    }
}

/// Whether a letter of `nm` may be that of a symbol which other images can be bound to.
fn is_global(letter: char) -> bool {
    letter.is_ascii_uppercase() || matches!(letter, 'i' | 'u')
}

/// Symbols of the images in which there are targets.
struct Definers {
    /// Index of the image, and its symbols.
    tables: Vec<(usize, Arc<SymbolTable>)>,
}

impl Definers {
    fn of(symbols: Symbols<'_>, images: &[Image], targets: &[AddrRange<Gva>]) -> Self {
        let mut tables = Vec::new();
        for (index, image) in images.iter().enumerate() {
            let range = image.module.range;
            if targets
                .iter()
                .any(|target| target.intersect(range).is_some())
            {
                // Without symbols nothing is known by name; what slots hold is known all the same.
                tables.extend(symbols(&image.module).map(|symbols| (index, symbols)));
            }
        }
        Self { tables }
    }

    /// What a name stands for in these images: index of the image, address, and whether it is a function
    /// that chooses.
    fn defined<'d>(
        &'d self,
        name: &'d ImportName,
    ) -> impl Iterator<Item = (usize, Gva, bool)> + 'd {
        let versioned = name
            .version
            .as_ref()
            .map(|version| format!("{}@{version}", name.symbol));
        self.tables.iter().flat_map(move |(index, symbols)| {
            let of_version = versioned.as_ref().and_then(|name| {
                let symbol = symbols.named(name).next()?;
                Some((symbol.va, symbol.kind))
            });
            let found: Vec<(Gva, char)> = match of_version {
                Some(one) => vec![one],
                None => symbols
                    .named(&name.symbol)
                    .filter(|symbol| is_global(symbol.kind))
                    .map(|symbol| (symbol.va, symbol.kind))
                    .collect(),
            };
            found
                .into_iter()
                .map(move |(va, kind)| (*index, va, kind == 'i'))
        })
    }
}

/// The search for the ways to some addresses.
struct Search<'s> {
    memory: &'s dyn Memory<Addr = Gva>,
    symbols: Symbols<'s>,
    images: &'s [Image],
    targets: &'s [AddrRange<Gva>],
    definers: Definers,
}

impl Search<'_> {
    fn run(&self, routes: &mut Routes) {
        let mut unbound: Vec<(Arc<str>, ImportName, usize)> = Vec::new();
        // Slots that lead there by their values, and those of which that is not known yet.
        let mut others = Vec::new();
        for (index, image) in self.images.iter().enumerate() {
            let mut taken = HashSet::new();
            for slot in &image.imports.slots {
                let name = image.imports.name_of(slot);
                if slot.kind == SlotKind::Copy {
                    self.moved(routes, image, slot, name);
                    continue;
                }
                let value = self.value(image, slot.va);
                let via = match slot.kind {
                    SlotKind::Pointer => Via::Pointer,
                    _ => Via::Slot,
                };
                if let Some(value) = value.filter(|&value| self.is_target(value)) {
                    routes.push(image, slot, via, value, Binding::Value);
                    taken.insert(slot.va);
                    continue;
                }
                match self.by_name(image, slot, name, value) {
                    Named::Bound(reaches, binding) => {
                        routes.push(image, slot, via, reaches, binding);
                        taken.insert(slot.va);
                        if let (Binding::Lazy, Some(name)) = (binding, name) {
                            unbound.push((full_name(name), name.clone(), index));
                        }
                    }
                    Named::Astray => others.extend(value.map(|value| (index, *slot, value, true))),
                    Named::No => others.extend(value.map(|value| (index, *slot, value, false))),
                }
            }
            self.constants(routes, image, &taken);
        }
        self.through_stubs(routes, &others);
        self.ambiguous(routes, unbound);
    }

    fn is_target(&self, va: Gva) -> bool {
        self.targets.iter().any(|target| target.contains(va))
    }

    /// What a slot holds, if it is in the process's memory.
    fn value(&self, image: &Image, va: Gva) -> Option<Gva> {
        let word = match image.imports.width {
            4 => self.memory.read_u32(va).map(u64::from),
            _ => self.memory.read_u64(va),
        };
        word.ok().map(Gva)
    }

    /// Where a slot leads by its name, the value being another.
    fn by_name(
        &self,
        image: &Image,
        slot: &Slot,
        name: Option<&ImportName>,
        value: Option<Gva>,
    ) -> Named {
        if let Some(resolver) = slot.resolver.filter(|&resolver| self.is_target(resolver)) {
            return Named::Bound(resolver, Binding::Chosen);
        }
        let Some(name) = name else {
            return Named::No;
        };
        let wanted = |&(_, va, _): &(usize, Gva, bool)| {
            let va = Gva(va.0.wrapping_add(slot.addend.cast_unsigned()));
            self.is_target(va)
        };
        let Some((definer, va, chooses)) = self.definers.defined(name).find(wanted) else {
            return Named::No;
        };
        let reaches = Gva(va.0.wrapping_add(slot.addend.cast_unsigned()));
        let Some(value) = value else {
            return Named::Bound(reaches, Binding::Unread);
        };
        if slot.kind == SlotKind::Jump && self.binds(image, value) {
            return Named::Bound(reaches, Binding::Lazy);
        }
        match chooses && !self.is_replaced(definer, name, value) {
            true => Named::Bound(reaches, Binding::Chosen),
            false => Named::Astray,
        }
    }

    /// Whether the value of a slot is code of its own image that binds it: it pushes the slot's number.
    fn binds(&self, image: &Image, value: Gva) -> bool {
        if !image.module.range.contains(value) {
            return false;
        }
        let mut code = [0; 6];
        if self.memory.read(value, &mut code).is_err() {
            // Code that is there and was never run: nothing else has its address put into a slot.
            return true;
        }
        let code = match code {
            [0xf3, 0x0f, 0x1e, 0xfa | 0xfb, rest @ ..] => [rest[0], rest[1]],
            [first, second, ..] => [first, second],
        };
        matches!(code, [0x68, _] | [0x41, 0x53])
    }

    /// Whether a value is that of another image's function of the same name. What has no file is in no
    /// search for names, and forms of functions may be chosen from it.
    fn is_replaced(&self, definer: usize, name: &ImportName, value: Gva) -> bool {
        let within = |image: &Image| image.module.range.contains(value);
        if within(&self.images[definer]) {
            return false;
        }
        let other = self.images.iter().find(|image| within(image));
        other.is_none_or(|image| {
            image.module.path.is_some() || self.names(image, name) == Some(false)
        })
    }

    /// Whether an image defines a name; `None` when that is not known.
    fn names(&self, image: &Image, name: &ImportName) -> Option<bool> {
        let symbols = (self.symbols)(&image.module);
        Some(symbols?.named(&name.symbol).next().is_some())
    }

    /// Pointers that were made read-only when they were filled, and are no slots.
    fn constants(&self, routes: &mut Routes, image: &Image, taken: &HashSet<Gva>) {
        let Some(range) = image.imports.constant else {
            return;
        };
        let width = image.imports.width.max(4);
        let (mut at, end) = (range.start().0, range.last().0);
        if end - at > MAX_CONSTANT {
            let text = format!(
                "{} has more constant pointers than are looked at",
                image.module.name
            );
            routes.find(FindingKind::Limit, Some(range.start()), &text);
        }
        let end = end.min(at.saturating_add(MAX_CONSTANT));
        while at <= end {
            let to = end.min(at | (PAGE_SIZE - 1));
            let mut bytes = vec![0; (to - at + 1) as usize];
            if self.memory.read(Gva(at), &mut bytes).is_ok() {
                let skip = at.wrapping_neg() % width;
                let words = bytes.get(skip as usize..).unwrap_or_default();
                for (index, word) in words.chunks_exact(width as usize).enumerate() {
                    let mut number = [0; 8];
                    number[..word.len()].copy_from_slice(word);
                    let value = Gva(u64::from_le_bytes(number));
                    let va = Gva(at + skip + index as u64 * width);
                    if self.is_target(value) && !taken.contains(&va) {
                        let pointer = Slot {
                            va,
                            kind: SlotKind::Pointer,
                            name: None,
                            addend: 0,
                            resolver: None,
                        };
                        routes.push(image, &pointer, Via::Pointer, value, Binding::Value);
                    }
                }
            }
            match to.checked_add(1) {
                Some(next) => at = next,
                None => break,
            }
        }
    }

    /// Slots that hold the address of a stub that leads there: a program that is not to be moved has its
    /// own stub as the address of a function, for everybody.
    fn through_stubs(&self, routes: &mut Routes, others: &[(usize, Slot, Gva, bool)]) {
        let stubs: HashMap<Gva, Gva> = routes
            .routes
            .iter()
            .filter(|route| route.via == Via::Stub)
            .map(|route| (route.at, route.reaches))
            .collect();
        for (index, slot, value, named) in others {
            let image = &self.images[*index];
            if let Some(&reaches) = stubs.get(value) {
                let via = match slot.kind {
                    SlotKind::Pointer => Via::Pointer,
                    _ => Via::Slot,
                };
                routes.push(image, slot, via, reaches, Binding::Stub);
            } else if let (true, Some(name)) = (named, image.imports.name_of(slot)) {
                routes.astray_count += 1;
                if routes.astray.len() < MAX_ASTRAY {
                    routes.astray.push(Astray {
                        slot: slot.va,
                        image: image.module.name.clone(),
                        symbol: full_name(name),
                        value: *value,
                    });
                }
            }
        }
    }

    /// A variable that was asked for and has moved into this image.
    fn moved(&self, routes: &mut Routes, image: &Image, slot: &Slot, name: Option<&ImportName>) {
        let Some(name) = name else { return };
        let mut defined = self.definers.defined(name);
        let asked = defined.any(|(definer, va, _)| {
            self.is_target(va) && self.images[definer].module.range != image.module.range
        });
        if asked {
            routes.moved.push(Moved {
                symbol: full_name(name),
                image: image.module.name.clone(),
                to: slot.va,
            });
        }
    }

    /// Says which other images define what slots are not bound to yet.
    fn ambiguous(&self, routes: &mut Routes, mut unbound: Vec<(Arc<str>, ImportName, usize)>) {
        unbound.sort_by(|a, b| a.0.cmp(&b.0));
        unbound.dedup_by(|a, b| a.0 == b.0);
        if unbound.is_empty() {
            return;
        }
        let asked: HashSet<usize> = self
            .definers
            .tables
            .iter()
            .map(|(index, _)| *index)
            .collect();
        for (index, image) in self.images.iter().enumerate() {
            if asked.contains(&index) || image.module.path.is_none() {
                continue;
            }
            let Some(symbols) = (self.symbols)(&image.module) else {
                continue;
            };
            for (name, import, _) in &unbound {
                if symbols
                    .named(&import.symbol)
                    .any(|symbol| is_global(symbol.kind))
                {
                    let text = format!(
                        "slots for {name} that are not bound yet may get that of {} as well",
                        image.module.name
                    );
                    let at = Some(image.module.base);
                    routes.find(FindingKind::Inconsistent, at, &text);
                }
            }
        }
    }
}

/// Where a slot leads by its name.
enum Named {
    /// There, and how that is known.
    Bound(Gva, Binding),
    /// It is named after a target, and holds something else.
    Astray,
    /// Nothing is known of it.
    No,
}
