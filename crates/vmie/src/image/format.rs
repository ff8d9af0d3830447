//! The kinds of memory image that vmie reads. What there is to say of each stands in the [`table`](super::table).

/// The kinds of memory image that vmie reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Format {
    /// The bytes as they are, without any header.
    Raw,
    /// LiME: ranges with a 32-byte header each. AVML version 1 is the same.
    Lime,
    /// AVML version 2: ranges compressed with snappy.
    Avml,
    /// An ELF core with physical addresses, as QEMU, VirtualBox and kdump write it.
    Elf,
    /// A compressed dump, as makedumpfile and QEMU write it, flattened or not.
    Kdump,
    /// The directory of a Cloud Hypervisor snapshot. Read with the feature `cloud-hypervisor`, for it takes JSON.
    CloudHypervisor,
    /// The memory file of a Firecracker snapshot, laid out by its state file
    /// ([`OpenOptions::state`](super::OpenOptions::state)).
    Firecracker,
}
