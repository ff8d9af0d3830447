//! The guests of the lab, as data. To add one, add a line.

use super::kernel::Wanted;

/// One guest: a kernel on a machine.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    /// Its name, also of its directory.
    pub(crate) name: String,
    /// Its kernel.
    pub(crate) kernel: Wanted,
    /// QEMU's machine type.
    pub(crate) machine: &'static str,
    /// RAM in MiB.
    pub(crate) ram_mib: u64,
    /// Number of CPUs.
    pub(crate) cpus: u32,
    /// QEMU's CPU model and features; the default has four paging levels.
    pub(crate) cpu: Option<&'static str>,
    /// More words for the kernel's command line.
    pub(crate) append: &'static str,
    /// Which program is running when the snapshot is taken.
    pub(crate) current: &'static str,
}

/// The variants that every test run uses: both kernel series; RAM in one piece and split around the
/// PCI hole; one and two CPUs; four and five levels; each kind of program once the current one.
pub(crate) fn standard() -> Vec<Variant> {
    vec![
        Variant {
            name: "pc-6.1".into(),
            kernel: Wanted::newest("6.1", "cloud-amd64"),
            machine: "pc",
            ram_mib: 512,
            cpus: 1,
            cpu: None,
            append: "",
            current: "objects-static",
        },
        Variant {
            name: "q35-6.12".into(),
            kernel: Wanted::newest("6.12", "cloud-amd64"),
            machine: "q35",
            ram_mib: 3072,
            cpus: 2,
            cpu: None,
            append: "",
            current: "objects-dynamic",
        },
        Variant {
            name: "la57-6.12".into(),
            kernel: Wanted::newest("6.12", "cloud-amd64"),
            machine: "pc",
            ram_mib: 512,
            cpus: 1,
            cpu: Some("max,la57=on"),
            append: "",
            current: "objects-static-pie",
        },
    ]
}
