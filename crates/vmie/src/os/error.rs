//! Why a question about a guest, or the search for its system, has no answer.

use std::fmt;

use super::object::ObjectError;
use super::rows::{Process, ProcessState};
use super::search::{Kind, Step};
use super::types::TypeError;
use crate::addr::Gva;
use crate::memory::Fault;

/// Why a view of a guest could not be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OsError {
    /// This guest, or this operating system, does not have it.
    #[error("{view} cannot be had from this guest: {why}")]
    Unavailable {
        /// What was asked for.
        view: &'static str,
        /// Why there is none.
        why: String,
    },
    /// The process has no memory of its own.
    #[error("process {pid} ({name}) has no address space: it {why}")]
    NoMemory {
        /// Its number.
        pid: u32,
        /// Its name.
        name: String,
        /// `is a kernel thread`, `has exited`.
        why: &'static str,
    },
    /// Something that is needed could not be read.
    #[error("{what} could not be read: {fault}")]
    Unreadable {
        /// What.
        what: String,
        /// Where and why.
        fault: Fault<Gva>,
    },
    /// The kernel has no symbol of this name.
    #[error("the kernel has no symbol {0}")]
    NoSymbol(&'static str),
    /// The kernel's types are not what they should be.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// An object of the system's could not be read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// What was read cannot be right.
    #[error("{what} at {at} cannot be right: {why}")]
    Damaged {
        /// What.
        what: String,
        /// Where.
        at: Gva,
        /// What was seen.
        why: String,
    },
}

impl OsError {
    /// Why a process has no memory.
    pub(crate) fn no_memory(process: &Process) -> Self {
        Self::NoMemory {
            pid: process.pid,
            name: process.name.clone(),
            why: match process {
                Process { kernel: true, .. } => "is a kernel thread",
                Process {
                    state: ProcessState::Zombie | ProcessState::Dead,
                    ..
                } => "has exited",
                _ => "has a damaged record, or is about to exit",
            },
        }
    }
}

/// No operating system was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FindError {
    /// For each operating system, what its search saw.
    pub searches: Vec<(Kind, Vec<Step>)>,
    /// Whether anything was met that leads to a system, though none verified.
    pub led: bool,
}

impl std::error::Error for FindError {}

impl fmt::Display for FindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no operating system was found")?;
        for (kind, steps) in &self.searches {
            for step in steps {
                write!(f, "\n  {kind}: {step}")?;
            }
        }
        Ok(())
    }
}
