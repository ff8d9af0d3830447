//! What rows say of Linux and of no other system.

use crate::addr::Gva;

/// What Linux has of a process beside what every system has.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct LinuxProcess {
    /// The user it belongs to: the real one, not the one it acts as while it runs a program with the rights of another.
    pub uid: Option<u32>,
    /// The user it acts as.
    pub euid: Option<u32>,
    /// The kernel's record of its memory (`struct mm_struct`). Processes that share their memory share this.
    pub mm: Option<Gva>,
}
