//! Names of a space: what addresses are called, and which address a typed name means.
//!
//! The engine's one resolver does the work; here it is made when a name is first needed, since a list
//! of modules and a symbol table cost more than most verbs do.
//!
//! A space that was given as a plain root (`--cr3`) has names too when they are typed: then the guest's
//! operating system is looked for. Its rows bear none, so that a verb on a bare root never waits for
//! that search.

use std::sync::OnceLock;

use vmie::os::{OsError, Process, Resolver};
use vmie::session::{self, Target};
use vmie::{Gpa, Gva};

use crate::candidates::Whose;
use crate::exit::Failure;
use crate::guest::Os;
use crate::source::Source;

/// Whose names they are.
#[derive(Clone, Copy)]
enum Owner<'s> {
    /// Physical memory has none.
    Physical,
    /// A saved moment keeps none.
    Snapshot,
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
}

/// A resolver, and what could not be listed for it.
type Resolved<'s> = (Resolver<'s>, Vec<OsError>);

impl<'s> Names<'s> {
    fn new(owner: Owner<'s>) -> Self {
        Self {
            owner,
            resolver: OnceLock::new(),
        }
    }

    /// Of a space of `source`; `os` is its system where the space is somebody's.
    pub(crate) fn of(source: &'s Source, os: Option<&'s Os>, space: &session::Space<'s>) -> Self {
        let owner = match (&space.target, &space.owner, os) {
            (Target::Physical(_), ..) => Owner::Physical,
            (Target::Saved(_), ..) => Owner::Snapshot,
            (_, session::Owner::Kernel(_), Some(os)) => Owner::Kernel(os),
            (_, session::Owner::Process(_, process), Some(os)) => Owner::Process(os, process),
            (Target::Virtual(space), ..) => Owner::Root(source, space.root()),
        };
        Self::new(owner)
    }

    /// Of a process, or of the kernel.
    pub(crate) fn of_owner(os: &'s Os, process: Option<&'s Process>) -> Self {
        Self::new(match process {
            Some(process) => Owner::Process(os, process),
            None => Owner::Kernel(os),
        })
    }

    /// None: those of a snapshot of an address space.
    pub(crate) fn of_snapshot() -> Self {
        Self::new(Owner::Snapshot)
    }

    /// The process, where the names are those of one.
    pub(crate) fn process(&self) -> Option<(&'s Os, &'s Process)> {
        match self.owner {
            Owner::Process(os, process) => Some((os, process)),
            _ => None,
        }
    }

    /// The operating system, and the process where the names are those of one.
    pub(crate) fn system(&self) -> Option<(&'s Os, Option<&'s Process>)> {
        match self.owner {
            Owner::Physical | Owner::Snapshot | Owner::Root(..) => None,
            Owner::Kernel(os) => Some((os, None)),
            Owner::Process(os, process) => Some((os, Some(process))),
        }
    }

    /// Whose they are, where the operating system is known.
    pub(crate) fn whose(&self) -> Option<Whose> {
        match self.owner {
            Owner::Physical | Owner::Snapshot | Owner::Root(..) => None,
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

    /// The address that a typed name means.
    pub(crate) fn lookup(&self, name: &str) -> Result<u64, Failure> {
        let (resolver, missing) = match self.resolved() {
            Ok(resolved) => resolved,
            Err(failure) => return Err(unknown(name, failure.clone())),
        };
        resolver.address(name).map(|va| va.0).map_err(|error| {
            let failure = unknown(name, Failure::new("").found(error.to_string()));
            missing
                .iter()
                .fold(failure, |failure, one| failure.found(one.to_string()))
        })
    }

    fn resolved(&self) -> &Result<Resolved<'s>, Failure> {
        self.resolver.get_or_init(|| match self.owner {
            Owner::Physical => Err(Failure::new("")
                .found("a name, but physical addresses have none")
                .hint("--kernel, --pid N or --process NAME instead of --phys")),
            Owner::Snapshot => Err(Failure::new("")
                .found("a name, but a snapshot of an address space keeps none")
                .hint("`vmie symbols` and `vmie modules` on the image or guest it was taken of")),
            Owner::Root(source, root) => {
                let os = source.try_os().map_err(|_| {
                    Failure::new("")
                        .found("a name, but no names are known here: no operating system was found")
                })?;
                Ok(match os.by_root(root) {
                    Some(process) => Resolver::of_process(os.guest(), process),
                    None => Resolver::of_kernel(os.guest()),
                })
            }
            Owner::Kernel(os) => Ok(Resolver::of_kernel(os.guest())),
            Owner::Process(os, process) => Ok(Resolver::of_process(os.guest(), process)),
        })
    }
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
        failure.hint("a number: 0x and hexadecimal digits, or decimal")
    }
}
