//! The operating system of a session, its processes, and which of them is meant by a name.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::addr::Gpa;
use crate::os::{Guest, Listing, OsError, Process};
use crate::paging::AddressSpace;
use crate::search::fold_case;
use crate::width::ProgramWidth;

/// Names shorter than this are like any other.
const SHORTEST: usize = 2;

/// An operating system that was found, and its processes, listed once.
pub struct System {
    guest: Arc<dyn Guest>,
    /// Whether the guest goes on meanwhile.
    runs: bool,
    processes: OnceLock<Result<Listing<Process>, OsError>>,
}

/// Why there is not the one process that was meant.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum ProcessError {
    /// The processes cannot be listed.
    Os(OsError),
    /// None has this number.
    NoPid {
        /// The number.
        pid: u32,
        /// How many processes there are.
        processes: usize,
    },
    /// None has this name, nor a program in a file of this name.
    NoName {
        /// The name.
        name: String,
        /// How many processes there are.
        processes: usize,
        /// Those with names that are like it.
        alike: Vec<Process>,
    },
    /// Several have this name.
    Ambiguous {
        /// The name.
        name: String,
        /// They.
        processes: Vec<Process>,
    },
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(error) => error.fmt(f),
            Self::NoPid { pid, processes } => {
                write!(f, "there is no process {pid}, of {processes}")
            }
            Self::NoName {
                name, processes, ..
            } => {
                write!(f, "of {processes} processes none is named {name:?}")
            }
            Self::Ambiguous { name, processes } => {
                let pids: Vec<String> = processes.iter().map(|one| one.pid.to_string()).collect();
                write!(
                    f,
                    "{} processes are named {name:?}: {}",
                    pids.len(),
                    pids.join(", ")
                )
            }
        }
    }
}

impl std::error::Error for ProcessError {}

impl System {
    pub(super) fn new(guest: impl Into<Arc<dyn Guest>>, runs: bool) -> Self {
        Self {
            guest: guest.into(),
            runs,
            processes: OnceLock::new(),
        }
    }

    /// The operating-system layer's view of it.
    pub fn guest(&self) -> &dyn Guest {
        &*self.guest
    }

    /// The same, to be kept.
    pub fn shared_guest(&self) -> &Arc<dyn Guest> {
        &self.guest
    }

    /// The system as it is now: in a guest that runs, its processes are listed again when they are next asked for. For
    /// whoever keeps a session for longer than a question.
    #[must_use]
    pub fn now(self: &Arc<Self>) -> Arc<Self> {
        match self.runs {
            true => Arc::new(Self::new(Arc::clone(&self.guest), true)),
            false => Arc::clone(self),
        }
    }

    /// All processes, listed when first asked for.
    ///
    /// # Errors
    ///
    /// As [`Guest::processes`].
    pub fn processes(&self) -> Result<&Listing<Process>, &OsError> {
        self.processes
            .get_or_init(|| self.guest.processes())
            .as_ref()
    }

    fn all(&self) -> Result<&[Process], ProcessError> {
        let listing = self
            .processes()
            .map_err(|error| ProcessError::Os(error.clone()))?;
        Ok(&listing.items)
    }

    /// The process of this number.
    ///
    /// # Errors
    ///
    /// [`ProcessError::NoPid`], or when processes cannot be listed.
    pub fn by_pid(&self, pid: u32) -> Result<&Process, ProcessError> {
        let all = self.all()?;
        let processes = all.len();
        let found = all.iter().find(|process| process.pid == pid);
        found.ok_or(ProcessError::NoPid { pid, processes })
    }

    /// The only process of this name that has memory of its own: of this short name, or else of a program in a file of
    /// this name, for a short name has 15 bytes, and processes may change it; or else the only one of which either begins
    /// with this, at least two bytes.
    ///
    /// # Errors
    ///
    /// [`ProcessError::NoName`], [`ProcessError::Ambiguous`], or when processes cannot be listed.
    pub fn by_name(&self, name: &str) -> Result<&Process, ProcessError> {
        let all = self.all()?;
        let named = self.named(all, name);
        let live: Vec<&Process> = named
            .iter()
            .filter(|one| one.root.is_some())
            .copied()
            .collect();
        match (&live[..], &named[..]) {
            // One without memory is chosen too: what is done with it says why it has none.
            (&[only], _) | (&[], &[only]) => Ok(only),
            (_, []) => {
                let alike = all.iter().filter(|process| self.is_like(process, name));
                Err(ProcessError::NoName {
                    name: name.to_owned(),
                    processes: all.len(),
                    alike: alike.cloned().collect(),
                })
            }
            (several, _) => {
                let several = if several.is_empty() { &named } else { several };
                Err(ProcessError::Ambiguous {
                    name: name.to_owned(),
                    processes: several.iter().copied().cloned().collect(),
                })
            }
        }
    }

    fn named<'s>(&self, all: &'s [Process], name: &str) -> Vec<&'s Process> {
        let by_short: Vec<&Process> = all.iter().filter(|process| process.name == name).collect();
        if !by_short.is_empty() {
            return by_short;
        }
        let of_file = |process: &&Process| self.file_name(process).is_some_and(|own| own == name);
        let by_file: Vec<&Process> = all.iter().filter(of_file).collect();
        if !by_file.is_empty() || name.len() < SHORTEST {
            return by_file;
        }
        let begins = |process: &&Process| {
            let names = [Some(process.name.clone()), self.file_name(process)];
            names.into_iter().flatten().any(|own| own.starts_with(name))
        };
        let mut begin = all.iter().filter(begins).filter(|one| one.root.is_some());
        match (begin.next(), begin.next()) {
            (Some(only), None) => vec![only],
            // Several are told as being like it.
            _ => Vec::new(),
        }
    }

    /// The name of the file of a process's program, without folders.
    fn file_name(&self, process: &Process) -> Option<String> {
        // Not worth asking for: kernel threads have none.
        process.root?;
        let path = self.guest.program(process).ok()??;
        let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
        path.rsplit('/').next().map(str::to_owned)
    }

    /// Whether a process may have been meant by a name that it does not have.
    fn is_like(&self, process: &Process, name: &str) -> bool {
        let name = fold_case(name);
        let names = [Some(process.name.clone()), self.file_name(process)];
        name.len() >= SHORTEST
            && names.into_iter().flatten().any(|own| {
                let own = fold_case(&own);
                own.contains(&name) || own.len() >= SHORTEST && name.contains(&own)
            })
    }

    /// The process whose address space, as the kernel or as user mode sees it, has this root.
    pub fn by_root(&self, root: Gpa) -> Option<&Process> {
        let all = self.all().ok()?;
        all.iter().find(|process| process.has_root(root))
    }

    /// The same space with what the operating system keeps in memory though the CPU faults on it, under the root that
    /// `space` has; `None` when it is no process's.
    pub fn with_resident(&self, space: &AddressSpace) -> Option<AddressSpace> {
        let owner = self.by_root(space.root())?;
        let whole = self.guest.space_of(owner).ok()?;
        if whole.mode() != space.mode() {
            return None;
        }
        // Either root of a process whose kernel keeps its own pages out of user mode's.
        let software = whole.software()?.clone();
        Some(whole.with_root(space.root()).with_software(software))
    }

    /// How wide the program is whose space, as the kernel or as user mode sees it, has this root; unknown when it is no
    /// process's.
    pub fn width_of_root(&self, root: Gpa) -> ProgramWidth {
        let told = self.by_root(root).map(|owner| self.guest.width_of(owner));
        match told {
            Some(Ok(told)) => told.width,
            _ => ProgramWidth::UNKNOWN,
        }
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System")
            .field("version", &self.guest.version())
            .finish_non_exhaustive()
    }
}
