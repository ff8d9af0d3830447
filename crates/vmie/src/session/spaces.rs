//! The address spaces of a guest, looked at together.

use super::Session;
use super::space::{Owner, Space, SpaceError, Target};
use crate::os::{Finding, OsError, Process};
use crate::paging::AddressSpace;
use crate::sweep::SpacePart;

/// The spaces of all processes that have memory, each with what [`Space::user_range`] says is meant, and the kernel's where
/// that was asked for: see [`Session::spaces`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Spaces<'s> {
    /// The spaces, in the order of the list of processes, the kernel's last. All have page tables.
    pub members: Vec<Space<'s>>,
    /// What did not add up in the list of processes.
    pub findings: &'s [Finding],
    /// Processes that have memory of which the space is not known, and why.
    pub failed: Vec<(&'s Process, OsError)>,
    /// How many processes there are, those without memory included.
    pub processes: usize,
}

impl Spaces<'_> {
    /// Whether no space is missing, as far as the list of processes can be trusted.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && !self.findings.iter().any(Finding::costs_rows)
    }

    /// What a scan is sent over, in the order of the members.
    pub fn parts(&self) -> Vec<SpacePart<'_>> {
        let part = |member| SpacePart {
            space: tables(member),
            range: member.part(),
        };
        self.members.iter().map(part).collect()
    }
}

fn tables<'a>(member: &'a Space<'_>) -> &'a AddressSpace {
    member.tables().expect("made of page tables")
}

impl Session {
    /// The spaces of all processes that have memory, and the kernel's with `kernel`.
    ///
    /// Cost: that of listing the processes, and of a look at what each keeps in memory behind entries that are not present.
    ///
    /// # Errors
    ///
    /// When there is no operating system, or its processes cannot be listed.
    pub fn spaces(&self, kernel: bool) -> Result<Spaces<'_>, SpaceError> {
        let system = self
            .system()
            .map_err(|error| SpaceError::NoSystem(error.clone()))?;
        let listing = self.processes()?;
        let (mut members, mut failed) = (Vec::new(), Vec::new());
        for process in &listing.items {
            match system.guest().space_of(process) {
                Ok(space) => members.push(Space::new(
                    Target::Virtual(space),
                    Owner::Process(system, process),
                )),
                // Kernel threads and what has exited have no memory to look at.
                Err(OsError::NoMemory { .. }) => {}
                Err(error) => failed.push((process, error)),
            }
        }
        if kernel {
            let space = system.guest().kernel_space().clone();
            members.push(Space::new(Target::Virtual(space), Owner::Kernel(system)));
        }
        Ok(Spaces {
            members,
            findings: &listing.findings,
            failed,
            processes: listing.items.len(),
        })
    }
}
