//! The one place that turns addresses into names and names into addresses.
//!
//! A [`Resolver`] knows the images of one address space: the kernel and its modules, and for a process
//! the program and its libraries. Their symbols are read when an address or a name first needs them.
//!
//! **Names of addresses.** `symbol+0x10` in the kernel, `module!symbol+0x10` anywhere else, and
//! `module+0x1234` where no symbol covers the address. Whatever is printed can be typed back.
//!
//! **Addresses of names.** The same forms, the offset optional and in hexadecimal with `0x` or in
//! decimal. A mangled symbol may be called as its source calls it, with parameters or, where that is clear, without. A bare name is looked for in three places, and the first that knows it answers: symbols of
//! the process's own images, symbols of the kernel, symbols of its modules; names of images, which
//! stand for the address that the system gives for them, come before the symbols of images other than the
//! kernel. A name that stands for several addresses there is refused with the list of them rather than
//! guessed, and so is one of the kernel's that stands for a place in the memory of each CPU and not for an
//! address.
//!
//! Offsets count from that address of an image. Parts of kernel modules may lie below it; where no symbol
//! covers these, they have no name.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use super::demangle::{demangle, demangle_base, may_be_mangled};
use super::table::{Symbol, SymbolTable};
use crate::addr::{AddrRange, Address, Gva};
use crate::os::{Guest, OsError, Process};

/// The name of the kernel's own image.
const KERNEL: &str = "kernel";

/// How many addresses of an ambiguous name are listed.
const MAX_LISTED: usize = 8;

/// The memory of each CPU is far smaller than this, and the kernel is far above it.
const MAX_PER_CPU: u64 = 1 << 30;

type Load<'g> = Box<dyn Fn() -> Result<Arc<SymbolTable>, OsError> + Send + Sync + 'g>;

/// Which images are asked before which.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Tier {
    /// Those of the process.
    Process,
    /// The kernel itself.
    Kernel,
    /// The kernel's modules.
    KernelModule,
}

/// An image, with symbols that are read on demand.
pub struct Scope<'g> {
    name: String,
    range: AddrRange<Gva>,
    base: Gva,
    tier: Tier,
    load: Load<'g>,
    loaded: OnceLock<Result<Arc<SymbolTable>, OsError>>,
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("name", &self.name)
            .field("range", &self.range)
            .field("tier", &self.tier)
            .finish_non_exhaustive()
    }
}

impl<'g> Scope<'g> {
    /// An image called `name` that takes `range`; `load` reads its symbols, at most once.
    pub fn new(
        name: impl Into<String>,
        range: AddrRange<Gva>,
        tier: Tier,
        load: impl Fn() -> Result<Arc<SymbolTable>, OsError> + Send + Sync + 'g,
    ) -> Self {
        Self {
            name: name.into(),
            range,
            base: range.start(),
            tier,
            load: Box::new(load),
            loaded: OnceLock::new(),
        }
    }

    /// The same image with offsets counted from `base`, instead of from where it starts.
    #[must_use]
    pub fn based_at(mut self, base: Gva) -> Self {
        self.base = base;
        self
    }

    fn symbols(&self) -> Result<&Arc<SymbolTable>, &OsError> {
        self.loaded.get_or_init(|| (self.load)()).as_ref()
    }

    /// What its name stands for.
    fn meant(&self) -> Named {
        Named::Image {
            base: self.base,
            range: self.range,
        }
    }

    /// Whether one of its symbols stands for a place in the memory of each CPU.
    fn is_per_cpu(&self, va: Gva) -> bool {
        self.tier == Tier::Kernel && !self.range.contains(va) && va.raw() <= MAX_PER_CPU
    }
}

/// The name of an address. See the module documentation for how it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'r> {
    /// The image; `None` for the kernel itself.
    pub module: Option<&'r str>,
    /// The symbol; `None` where none covers the address.
    pub symbol: Option<&'r str>,
    /// Bytes from the symbol, or else from the address of the image.
    pub offset: u64,
    /// Whether the symbol is displayed as its source calls it ([`Resolver::demangling`]).
    pub demangles: bool,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.symbol.filter(|_| self.demangles).and_then(demangle);
        match (self.module, plain.as_deref().or(self.symbol)) {
            (None, None) => f.write_str(KERNEL)?,
            (None, Some(symbol)) => f.write_str(symbol)?,
            (Some(module), None) => f.write_str(module)?,
            (Some(module), Some(symbol)) => write!(f, "{module}!{symbol}")?,
        }
        match self.offset {
            0 => Ok(()),
            offset => write!(f, "+{offset:#x}"),
        }
    }
}

/// What a name without an offset stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// An image: the address that the system gives for it, and all that it takes.
    Image {
        /// Its address, from which offsets count.
        base: Gva,
        /// From its first byte to its last.
        range: AddrRange<Gva>,
    },
    /// A symbol.
    Symbol {
        /// Its address.
        va: Gva,
        /// How many bytes it takes, where the image says so: kernels do not.
        size: Option<u64>,
    },
}

impl Named {
    /// The address that it stands for.
    pub fn address(&self) -> Gva {
        match *self {
            Self::Image { base, .. } => base,
            Self::Symbol { va, .. } => va,
        }
    }

    /// All that it takes, where that is known.
    pub fn range(&self) -> Option<AddrRange<Gva>> {
        match *self {
            Self::Image { range, .. } => Some(range),
            Self::Symbol { va, size } => AddrRange::new(va, size?),
        }
    }
}

/// Why a name did not lead to an address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Nothing has this name.
    #[error("there is no symbol or module named {0:?}")]
    Unknown(String),
    /// No image has this name.
    #[error("there is no module named {0:?}")]
    NoModule(String),
    /// The image has no such symbol.
    #[error("{module} has no symbol named {symbol:?}")]
    NoSymbol {
        /// The image.
        module: String,
        /// The symbol.
        symbol: String,
    },
    /// The image's symbols could not be read.
    #[error("the symbols of {module} could not be read: {error}")]
    Unreadable {
        /// The image.
        module: String,
        /// Why not.
        error: OsError,
    },
    /// The name stands for several addresses.
    #[error("{name:?} stands for {count} addresses, among them {}; use one of these", list(.addresses))]
    Ambiguous {
        /// The name.
        name: String,
        /// How many addresses it stands for.
        count: usize,
        /// The first of them.
        addresses: Vec<Gva>,
    },
    /// The name is that of a place in the memory of each CPU.
    #[error(
        "{name:?} is not at an address but {offset:#x} bytes into the memory of each CPU, which starts \
         where the words of __per_cpu_offset say"
    )]
    PerCpu {
        /// The name.
        name: String,
        /// Bytes from the start of that memory.
        offset: u64,
    },
    /// The offset leads out of the address space.
    #[error("{0} lies beyond the end of the address space")]
    Beyond(String),
}

impl ResolveError {
    /// Whether nothing has the name, so that it may be a name of another kind.
    fn is_unknown(&self) -> bool {
        matches!(
            self,
            Self::Unknown(_) | Self::NoModule(_) | Self::NoSymbol { .. }
        )
    }
}

fn list(addresses: &[Gva]) -> String {
    let words: Vec<String> = addresses.iter().map(Gva::to_string).collect();
    words.join(", ")
}

/// Names for one address space. See the module documentation.
#[derive(Debug, Default)]
pub struct Resolver<'g> {
    /// By start.
    scopes: Vec<Scope<'g>>,
    demangles: bool,
}

impl<'g> Resolver<'g> {
    /// A resolver for these images.
    pub fn new(mut scopes: Vec<Scope<'g>>) -> Self {
        scopes.sort_by_key(|scope| (scope.range, scope.tier));
        Self {
            scopes,
            demangles: false,
        }
    }

    /// Whether the names that it gives display mangled symbols as their sources call them. Those that it is asked for may be of
    /// either kind, whatever is said here.
    #[must_use]
    pub fn demangling(mut self, demangles: bool) -> Self {
        self.demangles = demangles;
        self
    }

    /// Whether it knows no image at all.
    pub fn is_empty(&self) -> bool {
        self.scopes.is_empty()
    }

    /// Names of the kernel and its modules. What cannot be listed is left out, and said by the second
    /// part of the answer.
    pub fn of_kernel(guest: &'g dyn Guest) -> (Self, Vec<OsError>) {
        Self::of(&guest, None::<&Process>)
    }

    /// Names of a process's program and libraries, and of the kernel.
    pub fn of_process(guest: &'g dyn Guest, process: &'g Process) -> (Self, Vec<OsError>) {
        Self::of(&guest, Some(process))
    }

    /// As [`Resolver::of_kernel`], or with a process [`Resolver::of_process`], for whoever has the guest in
    /// common with others.
    pub fn shared(
        guest: &Arc<dyn Guest>,
        process: Option<Process>,
    ) -> (Resolver<'static>, Vec<OsError>) {
        Resolver::of(guest, process.map(Arc::new))
    }

    /// Names by way of any pointers to a guest and a process.
    fn of<G, P>(guest: &G, process: Option<P>) -> (Self, Vec<OsError>)
    where
        G: Deref<Target: Guest> + Clone + Send + Sync + 'g,
        P: Deref<Target = Process> + Clone + Send + Sync + 'g,
    {
        let mut scopes = Vec::new();
        let mut missing = Vec::new();
        match guest.symbols() {
            Ok(symbols) => {
                if let Some(range) = symbols.extent() {
                    let load = move || Ok(Arc::clone(&symbols));
                    scopes.push(Scope::new(KERNEL, range, Tier::Kernel, load));
                }
            }
            Err(error) => missing.push(error),
        }
        let mut images = |owner: Option<P>, tier| match guest.modules(owner.as_deref()) {
            Ok(listing) => scopes.extend(listing.items.into_iter().map(|module| {
                let (guest, owner) = (guest.clone(), owner.clone());
                let (name, range, base) = (module.name.clone(), module.range, module.base);
                let load = move || guest.module_symbols(owner.as_deref(), &module);
                Scope::new(name, range, tier, load).based_at(base)
            })),
            Err(error) => missing.push(error),
        };
        images(None, Tier::KernelModule);
        if process.is_some() {
            images(process, Tier::Process);
        }
        (Self::new(scopes), missing)
    }

    /// The name of an address; `None` outside of all images.
    ///
    /// Cost: two binary searches, once the image's symbols are read.
    pub fn name(&self, va: Gva) -> Option<Place<'_>> {
        // Images may interleave, since each has gaps: the one that starts last is meant, and one that
        // starts long before is not worth looking for.
        const REACH: usize = 16;
        let behind = self.scopes.partition_point(|s| s.range.start() <= va);
        let candidates = self.scopes[..behind].iter().rev().take(REACH);
        let mut within = candidates.filter(|scope| scope.range.contains(va));
        let first = within.next()?;
        let named = std::iter::once(first).chain(within).find_map(|scope| {
            let (symbol, offset) = scope.symbols().ok()?.nearest(va)?;
            Some((scope, symbol.name, offset))
        });
        let module = |scope: &'_ Scope<'_>| scope.tier != Tier::Kernel;
        Some(match named {
            Some((scope, symbol, offset)) => Place {
                module: module(scope).then_some(scope.name.as_str()),
                symbol: Some(symbol),
                offset,
                demangles: self.demangles,
            },
            None => Place {
                module: module(first).then_some(first.name.as_str()),
                symbol: None,
                offset: va.offset_from(first.base)?,
                demangles: self.demangles,
            },
        })
    }

    /// The address that a text stands for. Plain numbers are not looked at: the caller knows them.
    ///
    /// # Errors
    ///
    /// [`ResolveError`].
    pub fn address(&self, text: &str) -> Result<Gva, ResolveError> {
        // Names may contain a plus (`libstdc++.so.6`), so the text is a name as a whole first. What linkers call things comes before
        // what sources call them, which takes longer to find.
        let (name, offset) = split_offset(text);
        let mut why = None;
        for naming in [Naming::Linker, Naming::Source] {
            if offset != 0
                && let Ok(named) = self.named_by(text, naming)
            {
                return Ok(named.address());
            }
            match self.named_by(name, naming) {
                Ok(named) => {
                    let va = named.address().checked_add(offset);
                    return va.ok_or_else(|| ResolveError::Beyond(text.to_owned()));
                }
                Err(error) if error.is_unknown() => {
                    why.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(why.unwrap_or_else(|| ResolveError::Unknown(name.to_owned())))
    }

    /// What a name stands for: `symbol`, `module` or `module!symbol`, without an offset, as linkers or as sources call it.
    ///
    /// # Errors
    ///
    /// [`ResolveError`].
    pub fn named(&self, name: &str) -> Result<Named, ResolveError> {
        let why = match self.named_by(name, Naming::Linker) {
            Err(error) if error.is_unknown() => error,
            found => return found,
        };
        match self.named_by(name, Naming::Source) {
            Err(error) if error.is_unknown() => Err(why),
            found => found,
        }
    }

    fn named_by(&self, name: &str, naming: Naming) -> Result<Named, ResolveError> {
        match name.split_once('!') {
            // In C++ there are names with such a sign.
            Some((module, symbol)) if !module.ends_with("operator") => {
                self.in_module(module, symbol, naming)
            }
            _ => match naming {
                Naming::Linker => self.anywhere(name),
                Naming::Source => self.anywhere_in_source(name),
            },
        }
    }

    fn in_module(&self, module: &str, symbol: &str, naming: Naming) -> Result<Named, ResolveError> {
        let mut found = Vec::new();
        let mut known = false;
        for scope in self.scopes.iter().filter(|scope| scope.name == module) {
            known = true;
            let symbols = scope.symbols().map_err(|error| ResolveError::Unreadable {
                module: module.to_owned(),
                error: error.clone(),
            })?;
            found.extend(
                symbols
                    .named(symbol)
                    .map(|symbol| (scope, of_symbol(symbol))),
            );
        }
        if naming == Naming::Source {
            let scopes = self.scopes.iter().filter(|scope| scope.name == module);
            found = demangled(scopes, symbol);
        }
        if !known {
            return Err(ResolveError::NoModule(module.to_owned()));
        }
        let none = || ResolveError::NoSymbol {
            module: module.to_owned(),
            symbol: symbol.to_owned(),
        };
        only(&format!("{module}!{symbol}"), found)?.ok_or_else(none)
    }

    fn anywhere(&self, name: &str) -> Result<Named, ResolveError> {
        let of_tier = |tier| self.scopes.iter().filter(move |scope| scope.tier == tier);
        let symbols = |tier| {
            let tables = of_tier(tier).filter_map(|scope| Some((scope, scope.symbols().ok()?)));
            let all = tables.flat_map(|(scope, table)| {
                let named = table.named(name);
                named.map(move |symbol| (scope, of_symbol(symbol)))
            });
            only(name, all.collect())
        };
        let images = |tier| {
            let named = of_tier(tier).filter(|scope| scope.name == name);
            only(name, named.map(|scope| (scope, scope.meant())).collect())
        };
        for found in [
            images(Tier::Process),
            symbols(Tier::Process),
            symbols(Tier::Kernel),
            images(Tier::Kernel),
            images(Tier::KernelModule),
            symbols(Tier::KernelModule),
        ] {
            if let Some(named) = found? {
                return Ok(named);
            }
        }
        Err(ResolveError::Unknown(name.to_owned()))
    }

    fn anywhere_in_source(&self, name: &str) -> Result<Named, ResolveError> {
        for tier in [Tier::Process, Tier::Kernel, Tier::KernelModule] {
            let scopes = self.scopes.iter().filter(|scope| scope.tier == tier);
            if let Some(va) = only(name, demangled(scopes, name))? {
                return Ok(va);
            }
        }
        Err(ResolveError::Unknown(name.to_owned()))
    }
}

/// Who gave a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Naming {
    /// The linker, to a symbol.
    Linker,
    /// The source, to what was mangled.
    Source,
}

/// The symbols of some images that have this name where they are demangled, with parameters or without.
///
/// Cost: microseconds for each mangled name that has the name's most telling word in it; for all mangled names where none does.
fn demangled<'s, 'g>(
    scopes: impl Iterator<Item = &'s Scope<'g>> + Clone,
    name: &str,
) -> Vec<(&'s Scope<'g>, Named)>
where
    'g: 's,
{
    let is_meant = |symbol: &str| {
        let is = |plain: Option<String>| plain.is_some_and(|plain| plain == name);
        is(demangle(symbol)) || is(demangle_base(symbol))
    };
    let among = |wanted: &dyn Fn(&str) -> bool| -> Vec<(&'s Scope<'g>, Named)> {
        let tables = scopes
            .clone()
            .filter_map(|scope| Some((scope, scope.symbols().ok()?)));
        let all = tables.flat_map(|(scope, table)| table.iter().map(move |one| (scope, one)));
        let meant = all.filter(|(_, one)| may_be_mangled(one.name) && wanted(one.name));
        let meant = meant.filter(|(_, one)| is_meant(one.name));
        meant.map(|(scope, one)| (scope, of_symbol(one))).collect()
    };
    // Manglings keep words as they are, all but a few of the standard library.
    let words = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let telling = words.max_by_key(|word| word.len()).unwrap_or_default();
    match among(&|symbol| symbol.contains(telling)) {
        none if none.is_empty() => among(&|symbol| !symbol.contains(telling)),
        found => found,
    }
}

fn of_symbol(symbol: Symbol<'_>) -> Named {
    Named::Symbol {
        va: symbol.va,
        size: symbol.size,
    }
}

/// The only one of these by its address, `None` when there is none. Of several at one address, the largest.
fn only(name: &str, all: Vec<(&Scope<'_>, Named)>) -> Result<Option<Named>, ResolveError> {
    let is_address = |(scope, named): &&(&Scope<'_>, Named)| !scope.is_per_cpu(named.address());
    let mut found: Vec<Named> = all.iter().filter(is_address).map(|&(_, one)| one).collect();
    if let (true, Some((_, named))) = (found.is_empty(), all.first()) {
        return Err(ResolveError::PerCpu {
            name: name.to_owned(),
            offset: named.address().raw(),
        });
    }
    let len = |named: &Named| named.range().map(AddrRange::len);
    found.sort_by_key(|named| (named.address(), std::cmp::Reverse(len(named))));
    found.dedup_by_key(|named| named.address());
    match found[..] {
        [] => Ok(None),
        [named] => Ok(Some(named)),
        _ => {
            let count = found.len();
            found.truncate(MAX_LISTED);
            Err(ResolveError::Ambiguous {
                name: name.to_owned(),
                count,
                addresses: found.iter().map(Named::address).collect(),
            })
        }
    }
}

/// Splits a text into what stands before its last plus and the number behind it; the whole text and 0
/// when there is no such number.
fn split_offset(text: &str) -> (&str, u64) {
    let parts = text.rsplit_once('+').and_then(|(name, number)| {
        let digits = number.strip_prefix("0x").map(|hex| (hex, 16));
        let (digits, radix) = digits.unwrap_or((number, 10));
        // `from_str_radix` takes a sign, which has no business here.
        let plain = digits.starts_with(|c: char| c.is_ascii_hexdigit());
        let offset = u64::from_str_radix(digits, radix).ok().filter(|_| plain)?;
        Some((name, offset))
    });
    parts.unwrap_or((text, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::SymbolTableBuilder;

    fn table(symbols: &[(&str, u64, u64)], range: AddrRange<Gva>) -> Arc<SymbolTable> {
        let mut builder = SymbolTableBuilder::default();
        for &(name, va, size) in symbols {
            builder.push_sized(name.as_bytes(), Gva(va), b'T', size);
        }
        Arc::new(builder.build(Some(range)))
    }

    fn scope(
        name: &str,
        tier: Tier,
        (start, end): (u64, u64),
        symbols: &[(&str, u64, u64)],
    ) -> Scope<'static> {
        let range = AddrRange::inclusive(Gva(start), Gva(end)).expect("not empty");
        let table = table(symbols, range);
        Scope::new(name, range, tier, move || Ok(Arc::clone(&table)))
    }

    /// A resolver for a kernel whose addresses are as high as they are in reality.
    fn high() -> Resolver<'static> {
        const KERNEL: u64 = 0xffff_ffff_8000_0000;
        Resolver::new(vec![
            scope(
                "kernel",
                Tier::Kernel,
                (KERNEL, KERNEL + 0xfff),
                &[
                    ("fixed_percpu_data", 0, 0),
                    ("pcpu_hot", 0x1_f440, 0),
                    ("_text", KERNEL, 0),
                ],
            ),
            scope(
                "ext4",
                Tier::KernelModule,
                (KERNEL + 0x10_0000, KERNEL + 0x10_ffff),
                &[],
            )
            .based_at(Gva(KERNEL + 0x10_8000)),
        ])
    }

    #[test]
    fn offsets_count_from_the_address_of_an_image() {
        let resolver = high();
        let base = 0xffff_ffff_8010_8000;
        assert_eq!(resolver.address("ext4"), Ok(Gva(base)));
        assert_eq!(resolver.address("ext4+0x10"), Ok(Gva(base + 0x10)));
        let name = |va| resolver.name(Gva(va)).map(|place| place.to_string());
        assert_eq!(name(base + 0x10).as_deref(), Some("ext4+0x10"));
        assert_eq!(name(base - 0x10), None);
    }

    #[test]
    fn places_in_the_memory_of_each_cpu_are_no_addresses() {
        let resolver = high();
        for (text, offset) in [
            ("fixed_percpu_data", 0),
            ("pcpu_hot", 0x1_f440),
            ("kernel!pcpu_hot+8", 0x1_f440),
        ] {
            match resolver.address(text) {
                Err(ResolveError::PerCpu { offset: told, .. }) => assert_eq!(told, offset),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(resolver.address("_text").is_ok());
    }

    fn resolver() -> Resolver<'static> {
        let lost = AddrRange::new(Gva(0x7000), 0x1000).expect("not empty");
        Resolver::new(vec![
            scope(
                "kernel",
                Tier::Kernel,
                (0xf000, 0xf7ff),
                &[
                    ("start", 0xf000, 0),
                    ("twice", 0xf100, 0),
                    ("twice", 0xf200, 0),
                    ("strlen", 0xf300, 0),
                    ("ext4", 0xf400, 0),
                ],
            ),
            scope(
                "ext4",
                Tier::KernelModule,
                (0xf800, 0xf8ff),
                &[("mount", 0xf810, 0)],
            ),
            scope(
                "fat",
                Tier::KernelModule,
                (0xf900, 0xf9ff),
                &[("mount", 0xf910, 0)],
            ),
            scope(
                "libc.so.6",
                Tier::Process,
                (0x1000, 0x5000),
                &[("strlen", 0x1100, 0x40), ("malloc", 0x1200, 0x10)],
            ),
            scope(
                "libstdc++.so.6",
                Tier::Process,
                (0x2000, 0x3000),
                &[("_Znwm", 0x2010, 0x10)],
            ),
            Scope::new("stripped", lost, Tier::Process, || {
                Err(OsError::NoSymbol("x"))
            }),
        ])
    }

    #[test]
    fn addresses_have_names_that_lead_back() {
        let resolver = resolver();
        for (va, name) in [
            (0xf000, "start"),
            (0xf0ff, "start+0xff"),
            (0xf210, "twice+0x10"),
            (0xf300, "strlen"),
            (0xf812, "ext4!mount+0x2"),
            (0xf800, "ext4"),
            (0x1000, "libc.so.6"),
            (0x1104, "libc.so.6!strlen+0x4"),
            (0x1140, "libc.so.6+0x140"),
            (0x2010, "libstdc++.so.6!_Znwm"),
            (0x2030, "libstdc++.so.6+0x30"),
            (0x3001, "libc.so.6+0x2001"),
            (0x7004, "stripped+0x4"),
        ] {
            let place = resolver.name(Gva(va)).expect(name);
            assert_eq!(place.to_string(), name);
            // Names that mean something else, or several things, elsewhere.
            if !["twice+0x10", "strlen", "ext4"].contains(&name) {
                assert_eq!(resolver.address(name), Ok(Gva(va)), "{name}");
            }
        }
        for va in [0, 0xfff, 0x5001, 0xfa00, u64::MAX] {
            assert_eq!(resolver.name(Gva(va)), None);
        }
    }

    #[test]
    fn names_lead_to_the_nearest_meaning() {
        let resolver = resolver();
        for (text, va) in [
            ("strlen", 0x1100),
            ("kernel!strlen", 0xf300),
            ("libc.so.6!strlen+16", 0x1110),
            ("libc.so.6+0x1234", 0x2234),
            ("libstdc++.so.6", 0x2000),
            ("libstdc++.so.6+0x10", 0x2010),
            ("ext4", 0xf400),
            ("ext4!mount", 0xf810),
            ("fat", 0xf900),
            ("kernel", 0xf000),
            ("start+0", 0xf000),
        ] {
            assert_eq!(resolver.address(text), Ok(Gva(va)), "{text}");
        }
    }

    #[test]
    fn names_stand_for_ranges() {
        let resolver = resolver();
        let range = |name: &str| {
            let range = resolver.named(name).expect(name).range()?;
            Some((range.start().raw(), range.last().raw()))
        };
        assert_eq!(range("libc.so.6"), Some((0x1000, 0x5000)));
        assert_eq!(range("libc.so.6!strlen"), Some((0x1100, 0x113f)));
        assert_eq!(range("malloc"), Some((0x1200, 0x120f)));
        assert_eq!(range("start"), None);
        assert_eq!(range("kernel"), Some((0xf000, 0xf7ff)));
    }

    #[test]
    fn mangled_symbols_bear_the_names_of_their_sources() {
        let mut builder = SymbolTableBuilder::default();
        for (name, va) in [
            ("_ZN6Player6updateEi", 0x1000),
            ("_ZN6Player4moveEi", 0x1100),
            ("_ZN6Player4moveEd", 0x1200),
            ("_ZNSsC1Ev", 0x1300),
            ("_ZNK3VecneERKS_", 0x1400),
            ("_ZN3VecplERKS_", 0x1500),
            ("main", 0x1600),
        ] {
            builder.push(name.as_bytes(), Gva(va), b'T');
        }
        let range = AddrRange::new(Gva(0x1000), 0x1000).expect("a range");
        let table = Arc::new(builder.build(Some(range)));
        let load = move || Ok(Arc::clone(&table));
        let resolver = Resolver::new(vec![Scope::new("game", range, Tier::Process, load)]);
        let address = |name: &str| resolver.address(name).map(|va| va.0).ok();
        for (name, va) in [
            ("_ZN6Player6updateEi", 0x1000),
            ("Player::update", 0x1000),
            ("Player::update(int)", 0x1000),
            ("game!Player::update", 0x1000),
            ("Player::update(int)+0x10", 0x1010),
            ("game!Player::update+16", 0x1010),
            ("Player::move(double)", 0x1200),
            // The words of the standard library are not in its manglings.
            ("std::string::string()", 0x1300),
            ("Vec::operator!=", 0x1400),
            ("Vec::operator!=(Vec const&) const", 0x1400),
            ("Vec::operator+", 0x1500),
            ("main+0x10", 0x1610),
        ] {
            assert_eq!(address(name), Some(va), "{name}");
        }
        for name in ["Player", "update", "Player::update(long)", "game!nosuch"] {
            assert_eq!(address(name), None, "{name}");
        }
        let several = resolver.address("Player::move").expect_err("two");
        assert!(
            matches!(several, ResolveError::Ambiguous { count: 2, .. }),
            "{several}"
        );

        let name =
            |resolver: &Resolver<'_>| resolver.name(Gva(0x1008)).map(|place| place.to_string());
        assert_eq!(
            name(&resolver).as_deref(),
            Some("game!_ZN6Player6updateEi+0x8")
        );
        let resolver = resolver.demangling(true);
        let text = name(&resolver).expect("a name");
        assert_eq!(text, "game!Player::update(int)+0x8");
        assert_eq!(resolver.address(&text), Ok(Gva(0x1008)));
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let resolver = resolver();
        let said = |text: &str| resolver.address(text).expect_err(text).to_string();
        assert_eq!(
            said("absent"),
            "there is no symbol or module named \"absent\""
        );
        assert_eq!(
            said("absent+0x10"),
            "there is no symbol or module named \"absent\""
        );
        assert_eq!(said("absent!x"), "there is no module named \"absent\"");
        assert_eq!(said("libc.so.6!x"), "libc.so.6 has no symbol named \"x\"");
        assert_eq!(
            said("strlen+0xffffffffffffffff"),
            "strlen+0xffffffffffffffff lies beyond the end of the address space"
        );
        assert_eq!(
            said("twice"),
            "\"twice\" stands for 2 addresses, among them 0xf100, 0xf200; use one of these"
        );
        assert!(said("mount").starts_with("\"mount\" stands for 2 addresses"));
        assert!(said("stripped!x").starts_with("the symbols of stripped could not be read"));
        for text in [
            "strlen+",
            "strlen+-1",
            "strlen+0x",
            "strlen++1",
            "",
            "!",
            "+1",
        ] {
            assert!(resolver.address(text).is_err(), "{text}");
        }
    }
}
