//! Names of a space: what addresses are called, and which address a typed name means.
//!
//! The engine's one resolver does the work; here it is made when a name is first needed, since a list
//! of modules and a symbol table cost more than most verbs do.
//!
//! A space that was given as a plain root (`--cr3`) has names too when they are typed: then the guest's
//! operating system is looked for. Its rows bear none, so that a verb on a bare root never waits for
//! that search.

use std::sync::OnceLock;

use vmie::os::{OsError, Process, ResolveError, Resolver};
use vmie::session::{self, Target};
use vmie::snapshot::Origin;
use vmie::views::Regions;
use vmie::{AddrRange, Gpa, Gva};

use crate::addr::{self, Lookup, Named};
use crate::candidates::Whose;
use crate::escape;
use crate::exit::Failure;
use crate::guest::{self, Os};
use crate::report::Reporter;
use crate::saved;
use crate::source::Source;

/// Decimal numbers below this are typed as addresses by nobody who means hexadecimal.
const FEW: u64 = 0x1000;

/// Whose names they are.
#[derive(Clone, Copy)]
enum Owner<'s> {
    /// Physical memory has none.
    Physical,
    /// A saved snapshot keeps those of regions.
    Snapshot(Option<&'s Origin>),
    /// An address space of which only the root is known.
    Root(&'s Source, Gpa),
    /// The kernel and its modules.
    Kernel(&'s Os),
    /// A process's program and libraries, and the kernel.
    Process(&'s Os, &'s Process),
}

/// The names of a space.
pub(crate) struct Names<'s> {
    owner: Owner<'s>,
    resolver: OnceLock<Result<Resolved<'s>, Failure>>,
    regions: OnceLock<Result<Regions, Failure>>,
    reporter: Reporter,
}

/// A resolver, and what could not be listed for it.
type Resolved<'s> = (Resolver<'s>, Vec<OsError>);

impl<'s> Names<'s> {
    fn new(owner: Owner<'s>, reporter: &Reporter) -> Self {
        Self {
            owner,
            resolver: OnceLock::new(),
            regions: OnceLock::new(),
            reporter: reporter.clone(),
        }
    }

    /// Of a space of `source`; `os` is its system where the space is somebody's.
    pub(crate) fn of(source: &'s Source, os: Option<&'s Os>, space: &session::Space<'s>) -> Self {
        let owner = match (&space.target, &space.owner, os) {
            (Target::Physical(_), ..) => Owner::Physical,
            (Target::Saved(_), ..) => {
                Owner::Snapshot(source.saved().map(|snapshot| snapshot.origin()))
            }
            (_, session::Owner::Kernel(_), Some(os)) => Owner::Kernel(os),
            (_, session::Owner::Process(_, process), Some(os)) => Owner::Process(os, process),
            (Target::Virtual(space), ..) => Owner::Root(source, space.root()),
        };
        Self::new(owner, source.reporter())
    }

    /// Of a process, or of the kernel.
    pub(crate) fn of_owner(os: &'s Os, process: Option<&'s Process>, reporter: &Reporter) -> Self {
        let owner = match process {
            Some(process) => Owner::Process(os, process),
            None => Owner::Kernel(os),
        };
        Self::new(owner, reporter)
    }

    /// Of a saved snapshot; without an origin, none.
    pub(crate) fn of_saved(origin: Option<&'s Origin>, reporter: &Reporter) -> Self {
        Self::new(Owner::Snapshot(origin), reporter)
    }

    /// The process, where the names are those of one.
    pub(crate) fn process(&self) -> Option<(&'s Os, &'s Process)> {
        match self.owner {
            Owner::Process(os, process) => Some((os, process)),
            _ => None,
        }
    }

    /// Whose they are, where the operating system is known.
    pub(crate) fn whose(&self) -> Option<Whose> {
        match self.owner {
            Owner::Physical | Owner::Snapshot(_) | Owner::Root(..) => None,
            Owner::Kernel(os) => Some(Whose::kernel(os.guest())),
            Owner::Process(_, process) => Some(Whose::process(process)),
        }
    }

    /// Whether rows bear names.
    pub(crate) fn shown(&self) -> bool {
        matches!(self.owner, Owner::Kernel(_) | Owner::Process(..))
    }

    /// The resolver for names in rows.
    pub(crate) fn resolver(&self) -> Option<&Resolver<'s>> {
        match self.resolved() {
            Ok((resolver, _)) if self.shown() => Some(resolver),
            _ => None,
        }
    }

    /// The name of an address, for rows.
    pub(crate) fn name(&self, va: u64) -> Option<String> {
        Some(self.resolver()?.name(Gva(va))?.to_string())
    }

    /// What the regions are called: what a process has arranged to be mapped, or what a snapshot says of that.
    fn regions(&self) -> Result<&Regions, Failure> {
        let regions = self.regions.get_or_init(|| match self.owner {
            Owner::Snapshot(Some(origin)) => Ok(saved::regions(origin)),
            Owner::Root(source, root) => match source.try_os() {
                Ok(os) => os.by_root(root).map_or_else(
                    || Ok(Regions::default()),
                    |process| guest::regions(os, process, &self.reporter),
                ),
                Err(_) => Ok(Regions::default()),
            },
            Owner::Process(os, process) => guest::regions(os, process, &self.reporter),
            Owner::Physical | Owner::Snapshot(None) | Owner::Kernel(_) => Ok(Regions::default()),
        });
        regions.as_ref().map_err(Clone::clone)
    }

    /// The name of what a value points at, for rows: of the symbol or image, or else of what the process has mapped there (`[heap]`, a
    /// file).
    pub(crate) fn pointee(&self, va: u64) -> Option<String> {
        self.name(va).or_else(|| {
            self.process()?;
            // Without the list there are no such names; whoever asks for regions is told why.
            self.regions().ok()?.name(Gva(va), None)
        })
    }

    /// Where a region lies.
    fn region(&self, name: &str) -> Result<Option<Named>, Failure> {
        let regions = self.regions()?;
        let mut found = regions.range_of(name);
        if found == Ok(None) {
            // As tables show it.
            let shown = |(_, region): &(AddrRange<Gva>, &str)| escape::plain(region) == name;
            if let Some((_, region)) = regions.named().find(shown) {
                found = regions.range_of(region);
            }
        }
        match found {
            Ok(found) => Ok(found.map(|range| Named {
                at: range.start().0,
                extent: Some((range.start().0, range.last().0)),
                holds: true,
            })),
            Err(places) => Err(several(name, &places)),
        }
    }

    /// What a symbol or a module means.
    fn image_or_symbol(&self, name: &str) -> Result<Named, Failure> {
        let (resolver, missing) = match self.resolved() {
            Ok(resolved) => resolved,
            Err(failure) => return Err(unknown(name, failure.clone())),
        };
        let named = resolver.named(name).map_err(|error| {
            let mut failure = unknown(name, Failure::new("").found(error.to_string()));
            if let ResolveError::Ambiguous { addresses, .. } = &error {
                failure.hints = addresses.iter().map(ToString::to_string).collect();
            }
            missing
                .iter()
                .fold(failure, |failure, one| failure.found(one.to_string()))
        })?;
        let extent = named.range();
        Ok(Named {
            at: named.address().0,
            extent: extent.map(|range| (range.start().0, range.last().0)),
            holds: matches!(named, vmie::os::Named::Image { .. }),
        })
    }

    fn resolved(&self) -> &Result<Resolved<'s>, Failure> {
        self.resolver.get_or_init(|| match self.owner {
            Owner::Physical => Err(Failure::new("")
                .found("a name, but physical addresses have none")
                .hint("--kernel, --pid N or --process NAME instead of --phys")),
            Owner::Snapshot(_) => Err(Failure::new("")
                .found("a name, and a snapshot of an address space keeps those of regions alone")
                .hint("`vmie symbols` and `vmie modules` on the image or guest it was taken of")),
            Owner::Root(source, root) => {
                let os = source.try_os().map_err(|_| {
                    Failure::new("")
                        .found("a name, but no names are known here: no operating system was found")
                })?;
                Ok(resolver(os, os.by_root(root)))
            }
            Owner::Kernel(os) => Ok(resolver(os, None)),
            Owner::Process(os, process) => Ok(resolver(os, Some(process))),
        })
    }
}

impl Lookup for Names<'_> {
    fn named(&self, name: &str) -> Result<Named, Failure> {
        // What no symbol is called needs no symbols.
        if name.starts_with(['[', '/'])
            && let Some(region) = self.region(name)?
        {
            return Ok(region);
        }
        let failure = match self.image_or_symbol(name) {
            Ok(named) => return Ok(named),
            Err(failure) => failure,
        };
        self.region(name)?.ok_or(failure)
    }

    fn decimal(&self, text: &str, value: u64) {
        if value >= FEW {
            let said = addr::taken_as_decimal(text, u128::from(value));
            self.reporter.warn_once(&said);
        }
    }
}

/// A name of several places.
fn several(name: &str, places: &[AddrRange<Gva>]) -> Failure {
    const SHOWN: usize = 8;
    let failure = Failure::new(format!(
        "{} regions are called `{}`",
        places.len(),
        escape::plain(name)
    ));
    let failure = places.iter().take(SHOWN).fold(failure, |failure, range| {
        failure.hint(format!("{}..+{:#x}", range.start(), range.len()))
    });
    match places.len().saturating_sub(SHOWN) {
        0 => failure,
        more => failure.hint(format!("{more} more; `vmie maps` lists them")),
    }
}

/// The names of a process, or of the kernel, as they are to be shown.
fn resolver<'s>(os: &'s Os, process: Option<&'s Process>) -> Resolved<'s> {
    let (resolver, missing) = match process {
        Some(process) => Resolver::of_process(os.guest(), process),
        None => Resolver::of_kernel(os.guest()),
    };
    (resolver.demangling(os.demangles()), missing)
}

/// A name that leads nowhere, for the reasons in `why`.
fn unknown(name: &str, why: Failure) -> Failure {
    let failure = Failure {
        what: format!("`{name}` is not an address"),
        ..why
    };
    if name.chars().all(|c| c.is_ascii_hexdigit() || c == '_') {
        failure.hint(format!("0x{name}, if it is a hexadecimal number"))
    } else {
        failure
            .hint("a number: 0x and hexadecimal digits, or decimal")
            .hint(
                "`vmie symbols`, `vmie modules` or `vmie maps` with the same space, for its names",
            )
    }
}
