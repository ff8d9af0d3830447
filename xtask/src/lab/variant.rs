//! The guests of the lab, as data. To add one, add an entry.

use super::kernel::{self, Wanted};
use crate::Fallible;

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
    /// Whether the kernel is made to panic before the snapshot is taken.
    pub(crate) panics: bool,
}

impl Variant {
    /// The smallest machine with a kernel.
    fn new(name: impl Into<String>, kernel: Wanted) -> Self {
        Self {
            name: name.into(),
            kernel,
            machine: "pc",
            ram_mib: 512,
            cpus: 1,
            cpu: None,
            append: "",
            current: "objects-static",
            panics: false,
        }
    }
}

const CLOUD: &str = "cloud-amd64";

/// The variants that every test run uses: both kernel series; RAM in one piece and split around the
/// PCI hole; one and two CPUs; four and five levels; each kind of program once the current one.
pub(crate) fn standard() -> Vec<Variant> {
    vec![
        Variant::new("pc-6.1", Wanted::newest("6.1", CLOUD)),
        Variant {
            machine: "q35",
            ram_mib: 3072,
            cpus: 2,
            current: "objects-dynamic",
            ..Variant::new("q35-6.12", Wanted::newest("6.12", CLOUD))
        },
        Variant {
            cpu: Some("max,la57=on"),
            current: "objects-static-pie",
            ..Variant::new("la57-6.12", Wanted::newest("6.12", CLOUD))
        },
    ]
}

/// More: machines, kernel flavours, and for each series the oldest and the middle build that the
/// archive has today.
pub(crate) fn matrix() -> Fallible<Vec<Variant>> {
    let mut variants = standard();
    variants.extend([
        Variant {
            machine: "microvm",
            ram_mib: 4096,
            ..Variant::new("microvm-6.12", Wanted::newest("6.12", CLOUD))
        },
        Variant {
            ram_mib: 4096,
            cpus: 4,
            current: "objects-dynamic",
            ..Variant::new("pc-4g-6.1", Wanted::newest("6.1", CLOUD))
        },
        // Page-table isolation: in user mode CR3 points at a table of its own.
        Variant {
            append: "pti=on",
            ..Variant::new("pti-6.1", Wanted::newest("6.1", CLOUD))
        },
        Variant {
            append: "pti=on",
            cpu: Some("max,la57=on"),
            ..Variant::new("pti-la57-6.12", Wanted::newest("6.12", CLOUD))
        },
        Variant {
            cpu: Some("max,la57=on"),
            ..Variant::new("la57-6.1", Wanted::newest("6.1", CLOUD))
        },
        Variant {
            panics: true,
            ..Variant::new("panic-6.1", Wanted::newest("6.1", CLOUD))
        },
        Variant {
            panics: true,
            ..Variant::new("panic-6.12", Wanted::newest("6.12", CLOUD))
        },
    ]);
    for series in ["6.1", "6.12"] {
        for flavour in ["amd64", "rt-amd64"] {
            let name = format!("{flavour}-{series}");
            variants.push(Variant::new(name, Wanted::newest(series, flavour)));
        }
        let wanted = Wanted::newest(series, CLOUD);
        let releases = kernel::releases(&wanted)?;
        for release in [releases.last(), releases.get(releases.len() / 2)]
            .into_iter()
            .flatten()
        {
            let kernel = Wanted {
                release: Some(release.clone()),
                ..wanted.clone()
            };
            variants.push(Variant::new(release, kernel));
        }
    }
    Ok(variants)
}
