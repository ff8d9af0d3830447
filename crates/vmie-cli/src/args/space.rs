//! Which memory of the guest is meant.

use clap::{Args, ValueEnum};
use vmie::os::Process;
use vmie::session::Space;

use crate::addr::parse_u64;

/// Heading in the help.
pub(super) const SPACE: &str = "Space";

/// Whose memory, names or modules are meant.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct OwnerArgs {
    /// This process; `vmie ps` lists them
    #[arg(short, long, help_heading = SPACE, value_name = "N", group = "space")]
    pub(crate) pid: Option<u32>,

    /// The only process of this name, or the only one whose name begins so
    #[arg(long, help_heading = SPACE, value_name = "NAME", group = "space")]
    pub(crate) process: Option<String>,

    /// The kernel
    #[arg(long, help_heading = SPACE, group = "space")]
    pub(crate) kernel: bool,
}

/// Which processes an answer about all of the guest is narrowed to.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct NarrowArgs {
    /// Only this process; `vmie ps` lists them
    #[arg(short, long, value_name = "N", group = "narrow")]
    pub(crate) pid: Option<u32>,

    /// Only the process of this name, or the only one whose name begins so
    #[arg(long, value_name = "NAME", group = "narrow")]
    pub(crate) process: Option<String>,
}

/// Which memory of the guest is meant.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct SpaceArgs {
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,

    /// The address space whose top page table is at this physical address (flag bits are ignored)
    #[arg(long, help_heading = SPACE, value_name = "GPA", group = "space", value_parser = parse_u64)]
    pub(crate) cr3: Option<u64>,

    /// Physical memory itself
    #[arg(long, help_heading = SPACE, group = "space")]
    pub(crate) phys: bool,

    /// Only what the CPU would see: without pages in memory that the operating system makes it fault on
    #[arg(long, help_heading = SPACE, conflicts_with = "phys")]
    pub(crate) hardware: bool,

    /// How the page tables are laid out
    #[arg(
        long,
        value_name = "MODE",
        default_value = "auto",
        conflicts_with_all = ["phys", "pid", "process", "kernel"]
    )]
    pub(crate) paging: Paging,
}

impl OwnerArgs {
    /// Whether a process has the short name that was typed.
    pub(crate) fn names(&self, process: &Process) -> bool {
        self.process.as_deref() == Some(&*process.name)
    }
}

impl SpaceArgs {
    /// Whether any was typed.
    pub(crate) fn is_typed(&self) -> bool {
        let owner = &self.owner;
        let process = owner.pid.is_some() || owner.process.is_some();
        process || owner.kernel || self.phys || self.cr3.is_some()
    }

    /// What is to be seen of a space.
    pub(crate) fn seen<'s>(&self, space: Space<'s>) -> Space<'s> {
        match self.hardware {
            true => space.hardware(),
            false => space,
        }
    }

    /// The same, with the kernel where nothing was typed.
    pub(crate) fn or_kernel(&self) -> Self {
        let mut args = self.clone();
        let owner = &mut args.owner;
        owner.kernel |= !self.is_typed();
        args
    }
}

/// How page tables are laid out, as typed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum)]
pub(crate) enum Paging {
    /// From the CPU state of the image, else by evidence in the tables
    #[default]
    Auto,
    /// Two levels, 32-bit entries
    X86,
    /// Three levels, 64-bit entries
    Pae,
    /// Four levels, 48-bit addresses
    #[value(name = "4level")]
    FourLevel,
    /// Five levels, 57-bit addresses
    #[value(name = "5level")]
    FiveLevel,
}

impl Paging {
    /// The mode of this name; `auto` for all that are none.
    pub(crate) fn of_name(name: &str) -> Self {
        Self::from_str(name, false).unwrap_or_default()
    }
}
