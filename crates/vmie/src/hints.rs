//! What a source of memory says of the guest, besides its bytes.

use crate::arch::x86::CpuState;

/// What a source of memory says of the guest, besides its bytes: what a search for the operating system may begin
/// with ([`os::find`](crate::os::find)).
///
/// Every format fills in what it knows, and whoever looks for something takes it from here, so neither knows the other.
/// Nothing of it is believed: files are hostile, and what a hint leads to passes the same tests as
/// everything else.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Hints {
    /// CPUs, by their number, where the source knows their registers. The source held them still then.
    pub cpus: Vec<CpuState>,
    /// The text of a VMCOREINFO note, lines of `KEY=VALUE`, in which a Linux kernel says where its page tables and
    /// symbols are. At most [`MAX_VMCOREINFO`](Self::MAX_VMCOREINFO) bytes.
    pub vmcoreinfo: Option<Vec<u8>>,
}

impl Hints {
    /// The longest text of a VMCOREINFO note that is kept, in bytes. Kernels reserve one page for it.
    pub const MAX_VMCOREINFO: usize = 16 << 10;

    /// What a source says that knows CPUs and nothing else.
    pub fn of_cpus(cpus: impl Into<Vec<CpuState>>) -> Self {
        Self {
            cpus: cpus.into(),
            ..Self::default()
        }
    }
}
