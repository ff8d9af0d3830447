//! What a file of candidates says about itself: whose memory they are in, and what was searched for.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RECORD;
use crate::addr::Gpa;
use crate::os::{Guest, Process};
use crate::paging::Mode;

/// The header of a file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The image that was searched last. For messages.
    pub source: String,
    /// What was typed to say whose memory is meant.
    pub scope: Scope,
    /// The spaces that were searched.
    pub spaces: Vec<SpaceId>,
    /// What was searched for.
    pub queries: Vec<Sought>,
    /// Bytes of the longest value.
    pub value_len: u16,
}

impl Header {
    /// The size of a record.
    pub(super) fn stride(&self) -> usize {
        RECORD + usize::from(self.value_len)
    }
}

/// One space, or many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One space.
    One,
    /// All processes, and the kernel if `kernel`.
    All {
        /// Whether the kernel was asked for too.
        kernel: bool,
    },
}

/// Whose memory a space is, in terms that hold at another moment: root addresses and the places of kernel records differ
/// from moment to moment, so processes are known by number and start.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SpaceId {
    /// A process's user-space range.
    Process {
        /// Its number.
        pid: u32,
        /// Its name.
        name: String,
        /// Nanoseconds from boot, where the system tells.
        started: Option<u64>,
    },
    /// The kernel's.
    Kernel {
        /// As the kernel puts it.
        version: String,
        /// How far it was moved, which differs from boot to boot.
        slide: u64,
    },
    /// Of which only the root is known.
    Root {
        /// The root.
        cr3: u64,
        /// The paging mode.
        paging: String,
    },
    /// Physical memory.
    Phys,
}

/// Whether a space is the one that was saved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Likeness {
    /// It is.
    Same,
    /// It is the same program or kernel, but not the same run of it: addresses may mean something else.
    OtherRun,
    /// It is not.
    Different,
}

impl SpaceId {
    /// A process.
    pub fn process(process: &Process) -> Self {
        let started = process.started;
        Self::Process {
            pid: process.pid,
            name: process.name.clone(),
            started: started.and_then(|since| u64::try_from(since.as_nanos()).ok()),
        }
    }

    /// The kernel.
    pub fn kernel(guest: &dyn Guest) -> Self {
        Self::Kernel {
            version: guest.version().to_owned(),
            slide: guest.slide(),
        }
    }

    /// Of which only the root is known.
    pub fn root(root: Gpa, mode: Mode) -> Self {
        Self::Root {
            cr3: root.0,
            paging: mode.to_string(),
        }
    }

    /// Whether `now` is what was saved as `self`.
    pub fn likeness(&self, now: &Self) -> Likeness {
        let is = |same: bool, alike: bool| match (same, alike) {
            (true, _) => Likeness::Same,
            (false, true) => Likeness::OtherRun,
            (false, false) => Likeness::Different,
        };
        match (self, now) {
            (
                Self::Process { pid, name, started },
                Self::Process {
                    pid: pid_now,
                    name: name_now,
                    started: started_now,
                },
            ) => {
                let alike = name == name_now;
                // A process may rename itself, but neither its number nor its start change.
                let known = started.is_some() && started == started_now;
                let unknown = started.is_none() && started_now.is_none() && alike;
                is(pid == pid_now && (known || unknown), alike)
            }
            (
                Self::Kernel { version, slide },
                Self::Kernel {
                    version: version_now,
                    slide: slide_now,
                },
            ) => {
                let alike = version == version_now;
                is(alike && slide == slide_now, alike)
            }
            _ => is(self == now, false),
        }
    }

    /// Where it is among those there are now: itself, or else another run of it.
    pub fn find_in(&self, now: &[Self]) -> Option<usize> {
        let same = |now: &Self| self.likeness(now) == Likeness::Same;
        // Many processes have the same name, so only the number can tell which one is meant.
        let other = |now: &Self| match (self, now) {
            (Self::Process { pid, .. }, Self::Process { pid: pid_now, .. }) if pid != pid_now => {
                false
            }
            _ => self.likeness(now) == Likeness::OtherRun,
        };
        let same = now.iter().position(same);
        same.or_else(|| now.iter().position(other))
    }
}

impl fmt::Display for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name, started } => {
                write!(f, "process {pid} ({name})")?;
                match started {
                    Some(started) => write!(f, ", started {} s after boot", seconds(*started)),
                    None => Ok(()),
                }
            }
            Self::Kernel { version, .. } => write!(f, "the kernel ({})", version.trim_end()),
            Self::Root { cr3, paging } => {
                write!(f, "the space with its root at {cr3:#x} ({paging})")
            }
            Self::Phys => f.write_str("physical memory"),
        }
    }
}

/// Nanoseconds as seconds with two digits behind the point.
fn seconds(nanos: u64) -> String {
    let hundredths = nanos / 10_000_000;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// What was searched for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sought {
    /// As `type` is in rows.
    #[serde(rename = "type")]
    pub kind: String,
    /// As it was typed first.
    pub typed: String,
    /// Bytes of a value.
    pub len: u16,
}
