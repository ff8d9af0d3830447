//! The guests of the lab, as data. To add one, add an entry.

use std::path::Path;

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
    /// Whether RAM is in a file that QEMU shares; else it is QEMU's own.
    pub(crate) shares: bool,
    /// RAM of a second NUMA node in MiB, part of all RAM; its CPUs are all in the first one. With 0 there are
    /// no nodes.
    pub(crate) second_node_mib: u64,
    /// Modules that it loads beside those that every guest has.
    pub(crate) modules: &'static [&'static str],
    /// Whether all is planted in it that a responder asks about, in place of the inhabitants of other guests.
    pub(crate) scene: bool,
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
            shares: true,
            second_node_mib: 0,
            modules: &[],
            scene: false,
        }
    }

    /// The smallest machine, with a scene.
    fn scene(name: impl Into<String>, kernel: Wanted) -> Self {
        Self {
            append: "lab.scene",
            // Pairs of interfaces, a file as a disk with a file system (whose checksums are a module that nothing
            // depends on), and what gives the kernel's ciphers to programs.
            modules: &["veth", "loop", "crc32c_generic", "ext4", "algif_hash"],
            scene: true,
            ..Self::new(name, kernel)
        }
    }

    /// A machine with two NUMA nodes, of which the kernel samples accesses. The CPU is in the first node, and
    /// what programs use is there: pages are moved by the program that moves its own, and not by the kernel,
    /// whose guest would not stand still.
    fn numa(name: impl Into<String>, kernel: Wanted) -> Self {
        Self {
            ram_mib: 640,
            second_node_mib: 128,
            // A process can be interrupted while it moves a page; and that on the only CPU, for with two of them
            // emulation spends its time on their waiting for each other before each move.
            append: "preempt=full",
            ..Self::new(name, kernel)
        }
    }
}

const CLOUD: &str = "cloud-amd64";

/// Those of Debian 12 and of its backports.
const STANDARD_SERIES: [&str; 2] = ["6.1", "6.12"];

/// The variants that every test run uses: both kernel series; RAM in one piece and split around the
/// PCI hole; one and two CPUs; four and five levels; one and two NUMA nodes; each kind of program once the
/// current one.
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
        Variant::numa("numa-6.1", Wanted::newest("6.1", CLOUD)),
    ]
}

/// The guests with a scene. Another kernel is another entry.
pub(crate) fn scenes() -> Vec<Variant> {
    let scene = |name, series| Variant::scene(name, Wanted::newest(series, CLOUD));
    vec![scene("scene-6.1", "6.1"), scene("scene-6.12", "6.12")]
}

/// The guests that run while they are looked at: RAM in a file and in one piece; RAM of QEMU's own, split
/// around the PCI hole.
pub(crate) fn live() -> [Variant; 2] {
    let [first, second] = ["shared", "private"];
    [
        Variant {
            append: "lab.breathing",
            ..Variant::new(first, Wanted::newest("6.1", CLOUD))
        },
        Variant {
            machine: "q35",
            ram_mib: 3072,
            cpus: 2,
            shares: false,
            ..Variant::new(second, Wanted::newest("6.12", CLOUD))
        },
    ]
}

/// More machines with the same two kernels: each way in which they differ in memory, paging, number
/// of CPUs and state.
pub(crate) fn machines() -> Vec<Variant> {
    let old = |name| Variant::new(name, Wanted::newest("6.1", CLOUD));
    let new = |name| Variant::new(name, Wanted::newest("6.12", CLOUD));
    let five_levels = Some("max,la57=on");
    vec![
        new("pc-6.12"),
        Variant {
            cpus: 2,
            ..old("2cpu-6.1")
        },
        Variant {
            cpus: 2,
            cpu: five_levels,
            ..new("2cpu-la57-6.12")
        },
        Variant {
            cpu: five_levels,
            ..old("la57-6.1")
        },
        Variant {
            ram_mib: 4096,
            cpus: 4,
            current: "objects-dynamic",
            ..old("pc-4g-6.1")
        },
        Variant {
            machine: "microvm",
            ..old("microvm-6.1")
        },
        Variant {
            machine: "microvm",
            ram_mib: 4096,
            ..new("microvm-6.12")
        },
        Variant::numa("numa-6.12", Wanted::newest("6.12", CLOUD)),
        Variant {
            cpu: five_levels,
            ..Variant::numa("numa-la57-6.12", Wanted::newest("6.12", CLOUD))
        },
        // Pages of every size that there is; of RAM a whole GiB on its border is left when the kernel reserves it.
        Variant {
            cpu: Some("max"),
            ram_mib: 4096,
            append: "hugepagesz=1G hugepages=1",
            ..old("giant-6.1")
        },
        Variant {
            machine: "q35",
            cpu: Some("max"),
            ram_mib: 4096,
            append: "hugepagesz=1G hugepages=1",
            ..new("giant-6.12")
        },
        Variant {
            append: "nokaslr",
            ..new("nokaslr-6.12")
        },
        // Page-table isolation: in user mode CR3 points at a table of its own.
        Variant {
            append: "pti=on",
            ..old("pti-6.1")
        },
        Variant {
            append: "pti=on",
            cpus: 2,
            ..new("pti-6.12")
        },
        Variant {
            append: "pti=on",
            cpu: five_levels,
            ..new("pti-la57-6.12")
        },
        Variant {
            panics: true,
            ..old("panic-6.1")
        },
        Variant {
            panics: true,
            ..new("panic-6.12")
        },
        Variant {
            panics: true,
            append: "pti=on",
            cpu: five_levels,
            cpus: 2,
            ..new("panic-pti-la57-6.12")
        },
    ]
}

/// All: the standard ones, more machines, all flavours, every build of the standard kernels that the
/// archive has today, and the newest of every other series.
pub(crate) fn matrix(lab: &Path) -> Fallible<Vec<Variant>> {
    let mut variants = standard();
    variants.extend(machines());
    for series in STANDARD_SERIES {
        variants.push(Variant::new(
            format!("amd64-{series}"),
            Wanted::newest(series, "amd64"),
        ));
        variants.push(Variant {
            cpus: 2,
            ..Variant::new(format!("rt-{series}"), Wanted::newest(series, "rt-amd64"))
        });
        // Swaps to a RAM disk, with compressed memory before it.
        variants.push(Variant {
            append: "zswap.enabled=1",
            modules: &["brd"],
            ..Variant::new(format!("zswap-{series}"), Wanted::newest(series, "amd64"))
        });
    }
    let releases = kernel::releases(CLOUD, lab)?;
    for series in STANDARD_SERIES {
        // The newest is in the standard variants.
        for release in releases.get(series).into_iter().flatten().skip(1) {
            let kernel = Wanted {
                release: Some(release.clone()),
                ..Wanted::newest(series, CLOUD)
            };
            variants.push(Variant::new(release, kernel));
        }
    }
    for series in releases.keys() {
        if !STANDARD_SERIES.contains(&series.as_str()) {
            let kernel = Wanted::newest(series, CLOUD);
            variants.push(Variant::new(format!("pc-{series}"), kernel));
        }
    }
    Ok(variants)
}
