//! Which memory is meant, and its parts.

use std::fmt;
use std::sync::Arc;

use super::Session;
use super::process::{ProcessError, System};
use crate::addr::{AddrRange, Address, Gpa, Gva};
use crate::memory::Memory;
use crate::os::linux::looks_resident;
use crate::os::{FindError, OsError, Process};
use crate::paging::{AddressSpace, DetectError, Detection, Mode, detect};
use crate::pointers::BuildError;
use crate::snapshot::Snapshot;

/// Whose memory is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Who {
    /// Guest physical memory.
    Physical,
    /// The kernel's address space.
    Kernel,
    /// That of the process of this number.
    Pid(u32),
    /// That of the only process of this name: see [`Session::process`].
    Named(String),
    /// The address space with this root.
    Root(Root),
    /// The one that a snapshot of an address space is of.
    Saved,
}

/// The root of an address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// Physical address of the top page table (CR3).
    pub gpa: Gpa,
    /// The paging mode; `None` to find out.
    pub mode: Option<Mode>,
}

impl Who {
    /// The only process of this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self::Named(name.into())
    }

    /// The address space with this root, whose paging mode is to be found out.
    pub fn root(gpa: Gpa) -> Self {
        Self::Root(Root { gpa, mode: None })
    }
}

/// The memory that is meant.
#[derive(Clone)]
pub enum Target {
    /// Guest physical memory.
    Physical(Arc<dyn Memory<Addr = Gpa>>),
    /// One address space.
    Virtual(AddressSpace),
    /// A snapshot of one address space.
    Saved(Arc<Snapshot<Gva>>),
}

/// Whose address space it is.
#[derive(Clone)]
#[non_exhaustive]
pub enum Owner<'s> {
    /// Nobody's of whom is known.
    Unknown,
    /// The kernel's.
    Kernel(&'s Arc<System>),
    /// A process's.
    Process(&'s Arc<System>, &'s Process),
}

/// One memory of a session, to be looked at.
#[derive(Clone)]
#[non_exhaustive]
pub struct Space<'s> {
    /// The memory.
    pub target: Target,
    /// Whose it is.
    pub owner: Owner<'s>,
    /// What the paging mode was chosen by, where that had to be found out.
    pub detection: Option<Detection>,
}

/// Why there is no such memory.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum SpaceError {
    /// No operating system was found.
    NoSystem(FindError),
    /// There is not the one process that is meant.
    Process(ProcessError),
    /// The operating system cannot say.
    Os(OsError),
    /// The source is a snapshot of one address space, and has no other memory.
    OnlySaved,
    /// The source is no snapshot of one address space.
    NotSaved,
    /// The image does not have the page with the root.
    RootAbsent(Gpa),
    /// No paging mode fits what is at the root.
    NoMode(DetectError),
    /// It is physical memory, and what was asked is asked of address spaces.
    NotVirtual,
    /// There are more pointers than an index takes.
    Pointers(BuildError),
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSystem(error) => error.fmt(f),
            Self::Process(error) => error.fmt(f),
            Self::Os(error) => error.fmt(f),
            Self::OnlySaved => f.write_str("a snapshot of one address space has no other memory"),
            Self::NotSaved => f.write_str("not a snapshot of one address space"),
            Self::RootAbsent(root) => write!(f, "no page table can be read at {root}"),
            Self::NoMode(error) => error.fmt(f),
            Self::NotVirtual => f.write_str("physical memory is no address space"),
            Self::Pointers(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SpaceError {}

impl From<ProcessError> for SpaceError {
    fn from(error: ProcessError) -> Self {
        match error {
            ProcessError::Os(error) => Self::Os(error),
            error => Self::Process(error),
        }
    }
}

impl Target {
    /// The memory, where addresses are virtual.
    pub fn by_virtual(&self) -> Option<&dyn Memory<Addr = Gva>> {
        match self {
            Self::Physical(_) => None,
            Self::Virtual(space) => Some(space),
            Self::Saved(snapshot) => Some(&**snapshot),
        }
    }

    /// The paging mode of an address space.
    pub fn mode(&self) -> Option<Mode> {
        match self {
            Self::Physical(_) => None,
            Self::Virtual(space) => Some(space.mode()),
            Self::Saved(snapshot) => snapshot.origin().space.map(|(_, mode)| mode),
        }
    }
}

impl<'s> Space<'s> {
    pub(super) fn new(target: Target, owner: Owner<'s>) -> Self {
        Self {
            target,
            owner,
            detection: None,
        }
    }

    pub(super) fn select(session: &'s Session, who: &Who) -> Result<Self, SpaceError> {
        match (session.saved(), who) {
            (Some(snapshot), who) if is_of(snapshot, who) => {
                let target = Target::Saved(Arc::clone(snapshot));
                return Ok(Self::new(target, Owner::Unknown));
            }
            (Some(_), _) => return Err(SpaceError::OnlySaved),
            (None, Who::Saved) => return Err(SpaceError::NotSaved),
            (None, _) => {}
        }
        let system = || {
            session
                .system()
                .map_err(|error| SpaceError::NoSystem(error.clone()))
        };
        let of = |system: &'s Arc<System>, process: &'s Process| {
            let space = system.guest().space_of(process).map_err(SpaceError::Os)?;
            Ok(Self::new(
                Target::Virtual(space),
                Owner::Process(system, process),
            ))
        };
        match who {
            Who::Saved | Who::Physical => Ok(Self::new(
                Target::Physical(Arc::clone(session.physical())),
                Owner::Unknown,
            )),
            Who::Kernel => {
                let system = system()?;
                let space = system.guest().kernel_space().clone();
                Ok(Self::new(Target::Virtual(space), Owner::Kernel(system)))
            }
            Who::Pid(pid) => {
                let system = system()?;
                of(system, system.by_pid(*pid)?)
            }
            Who::Named(name) => {
                let system = system()?;
                of(system, system.by_name(name)?)
            }
            Who::Root(root) => Self::of_root(session, *root),
        }
    }

    /// A bare root is the hardware's: nothing is looked for in the operating system.
    fn of_root(session: &Session, root: Root) -> Result<Self, SpaceError> {
        session.lay_by_root(root);
        let phys = session.physical();
        // Flags and the number of the space (PCID) are no part of where the table is.
        let mask = root.mode.unwrap_or(Mode::FourLevel).spec().root_mask;
        if phys.read_u32(Gpa(root.gpa.0 & mask)).is_err() {
            return Err(SpaceError::RootAbsent(root.gpa));
        }
        let detection = match root.mode {
            Some(_) => None,
            None => Some(
                detect(&**phys, root.gpa, &session.info().hints.cpus)
                    .map_err(SpaceError::NoMode)?,
            ),
        };
        let mode = root.mode.or(detection.as_ref().map(|found| found.mode));
        let mode = mode.expect("given or found");
        let space = AddressSpace::new(Arc::clone(phys), root.gpa, mode);
        Ok(Self {
            target: Target::Virtual(space),
            owner: Owner::Unknown,
            detection,
        })
    }

    /// The same, without what the operating system keeps in memory though the CPU faults on it.
    #[must_use]
    pub fn hardware(mut self) -> Self {
        if let Target::Virtual(space) = &mut self.target {
            *space = space.hardware();
        }
        self
    }

    /// The memory, where addresses are virtual.
    pub fn by_virtual(&self) -> Option<&dyn Memory<Addr = Gva>> {
        self.target.by_virtual()
    }

    /// The page tables, where there are some.
    pub fn tables(&self) -> Option<&AddressSpace> {
        match &self.target {
            Target::Virtual(space) => Some(space),
            _ => None,
        }
    }

    /// The process, where it is one's.
    pub fn process(&self) -> Option<&'s Process> {
        match &self.owner {
            Owner::Process(_, process) => Some(process),
            _ => None,
        }
    }

    /// The paging mode of an address space.
    pub fn mode(&self) -> Option<Mode> {
        self.target.mode()
    }

    /// The part that is meant when none is named: of a process what is user mode's, of a snapshot what it was taken
    /// of, else (`None`) all.
    pub fn user_range<A: Address>(&self) -> Option<AddrRange<A>> {
        match &self.target {
            Target::Virtual(space) => self.process().and_then(|_| space.mode().user_range()),
            Target::Saved(snapshot) => {
                let range = snapshot.range();
                AddrRange::inclusive(A::new(range.start().0), A::new(range.last().0))
            }
            Target::Physical(_) => None,
        }
    }

    /// The same, where all is a range too.
    pub fn part<A: Address>(&self) -> AddrRange<A> {
        self.user_range().unwrap_or_else(AddrRange::all)
    }
}

/// What the page tables under a bare root leave out, in bytes: see [`Session::left_out`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LeftOut<'s> {
    /// What looks, by its entries, as if it were in memory though the CPU faults on it.
    pub looks: u64,
    /// The process whose space it is, where that was found, and how much more is mapped in its space.
    pub owner: Option<(&'s Process, u64)>,
}

impl Session {
    /// How much of a process's memory the page tables of a space that was made of a bare root do not show: only the
    /// operating system knows what it keeps behind entries that are not present. It is looked for when entries look as if
    /// there were such pages, and not otherwise, so that whoever has only a root does not wait for that. `None` when
    /// nothing is left out.
    ///
    /// Cost: a walk over the page tables; if there are such entries that of [`Session::system`], and three walks.
    pub fn left_out(&self, space: &AddressSpace) -> Option<LeftOut<'_>> {
        let range = space.mode().user_range().unwrap_or_else(AddrRange::all);
        let looks = looks_resident(space, range);
        if looks == 0 {
            return None;
        }
        let system = self.system().ok();
        let owner = system.and_then(|system| {
            let owner = system.by_root(space.root())?;
            let whole = system.guest().space_of(owner).ok()?;
            let more = mapped(&whole, range).saturating_sub(mapped(&whole.hardware(), range));
            Some((owner, more))
        });
        let nothing = owner.is_some_and(|(_, more)| more == 0);
        (!nothing).then_some(LeftOut { looks, owner })
    }
}

fn mapped(space: &AddressSpace, range: AddrRange<Gva>) -> u64 {
    let lengths = space.regions(range).map(|region| region.len);
    lengths.fold(0, u64::saturating_add)
}

/// Whether it is the space that a snapshot is of which is meant: by its own name, or by its root.
fn is_of(snapshot: &Snapshot<Gva>, who: &Who) -> bool {
    match (who, snapshot.origin().space) {
        (Who::Saved, _) => true,
        (Who::Root(root), Some((own, mode))) => {
            let mask = mode.spec().root_mask;
            root.gpa.0 & mask == own.0 & mask && root.mode.is_none_or(|typed| typed == mode)
        }
        _ => false,
    }
}

impl fmt::Debug for Space<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space")
            .field("mode", &self.mode())
            .field("pid", &self.process().map(|process| process.pid))
            .finish_non_exhaustive()
    }
}
