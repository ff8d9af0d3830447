//! State files of Firecracker's snapshots. The memory file beside one is [`raw`](super::raw).
//!
//! Sources: Firecracker `src/vmm/src/persist.rs`, `vstate/memory.rs`, `arch/x86_64/vcpu.rs` and `snapshot/` of
//! the releases; the bitcode crate 0.6. What vmie does not look at is there with plausible lengths.

use std::ops::Range;

use super::kvm::{regs, sregs};
use super::notes::Cpu;

/// How the state is written. Releases in between are like one of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FirecrackerForm {
    /// 0.23: versionize, the memory is all that is said of the machine.
    V0_23,
    /// 1.5: versionize, with the boot source.
    V1_5,
    /// 1.7: bincode, registers as bare structures.
    V1_7,
    /// 1.12: bincode, a length before each structure, vector registers of any size, no offsets.
    V1_12,
    /// 1.14: regions have slots, and are listed in the state of the machine.
    V1_14,
    /// 1.15: bitcode.
    V1_15,
    /// As 1.15, the version written as three numbers.
    Numbers,
}

impl FirecrackerForm {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::V0_23,
        Self::V1_5,
        Self::V1_7,
        Self::V1_12,
        Self::V1_14,
        Self::V1_15,
        Self::Numbers,
    ];
}

/// Memory that can be plugged while the guest runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hotplug {
    /// All of it.
    pub range: Range<u64>,
    /// Which of its slots are plugged.
    pub plugged: Vec<bool>,
}

/// What stands in a state file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Firecracker {
    /// How it is written.
    pub form: FirecrackerForm,
    /// The CPUs.
    pub cpus: Vec<Cpu>,
    /// From 1.14 on; the memory file has all of its range, behind the rest.
    pub hotplug: Option<Hotplug>,
    /// What each guest CPU has put into its vector registers, 3 KiB at most (and as much again behind the usual
    /// area, where the form has it).
    pub vectors: Vec<u8>,
}

impl Default for Firecracker {
    fn default() -> Self {
        Self {
            form: FirecrackerForm::V1_15,
            cpus: Vec::new(),
            hotplug: None,
            vectors: Vec::new(),
        }
    }
}

const MAGIC: u64 = 0x0710_1984_8664_0000;

/// The bytes of a state file for memory in these ranges, which are whole MiB together.
pub fn firecracker(ranges: &[Range<u64>], options: &Firecracker) -> Vec<u8> {
    let mut bytes = match options.form {
        FirecrackerForm::V1_15 | FirecrackerForm::Numbers => columns(ranges, options),
        _ => fields(ranges, options),
    };
    let crc = crc64(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// CRC-64 by Jones, bit by bit.
fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u64::from(*byte), |crc, _| {
            (crc >> 1) ^ ((crc & 1) * 0x95ac_9329_ac4b_c9b5)
        })
    })
}

fn mib(ranges: &[Range<u64>]) -> u64 {
    ranges
        .iter()
        .map(|range| range.end - range.start)
        .sum::<u64>()
        >> 20
}

/// Fields of fixed width.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn word(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn half(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    fn list(&mut self, bytes: &[u8]) -> &mut Self {
        self.word(bytes.len() as u64).bytes(bytes)
    }

    fn zeros(&mut self, count: usize) -> &mut Self {
        self.bytes(&vec![0; count])
    }
}

fn fields(ranges: &[Range<u64>], options: &Firecracker) -> Vec<u8> {
    use FirecrackerForm::{V0_23, V1_5, V1_7, V1_12, V1_14};

    let form = options.form;
    let mut out = Fields::default();
    match form {
        V0_23 | V1_5 => {
            let version: u16 = if form == V0_23 { 1 } else { 9 };
            out.word(MAGIC | 1).bytes(&version.to_le_bytes());
        }
        V1_7 => drop(out.word(MAGIC).list(b"1.0.0")),
        V1_12 => drop(out.word(MAGIC).list(b"6.0.0")),
        _ => drop(out.word(MAGIC).list(b"8.0.0")),
    }
    out.word(mib(ranges));
    if form != V0_23 {
        // smt, CPU template, kernel, initrd, command line, huge pages
        out.bytes(&[0]).half(4).list(b"/vmlinux.bin");
        out.bytes(&[0, 1]).list(b"console=ttyS0 reboot=k").half(0);
    }
    if form == V1_12 || form == V1_14 {
        // Capabilities of KVM: one added.
        out.word(1).half(0).half(0x1000);
    }
    let bare = matches!(form, V0_23 | V1_5 | V1_7);
    let regions = ranges.len() + usize::from(options.hotplug.is_some());
    out.word(regions as u64);
    let mut offset = 0;
    for range in ranges {
        let len = range.end - range.start;
        out.word(range.start).word(len);
        if bare {
            out.word(offset);
        }
        if form == V1_14 {
            out.half(0).list(&[1]);
        }
        offset += len;
    }
    if let Some(hotplug) = &options.hotplug {
        let plugged: Vec<u8> = hotplug.plugged.iter().map(|&one| one.into()).collect();
        out.word(hotplug.range.start);
        out.word(hotplug.range.end - hotplug.range.start);
        out.half(1).list(&plugged);
    }
    // Timer, clock, interrupt controllers.
    for len in [112, 48, 520, 520, 520] {
        if !bare {
            out.word(len as u64);
        }
        out.zeros(len);
    }
    out.word(options.cpus.len() as u64);
    for (index, cpu) in options.cpus.iter().enumerate() {
        // A CPUID table and a few MSRs: index, reserved, value.
        out.word(2).zeros(80).word(3);
        for msr in [0x10, 0x174, 0xc000_0080] {
            out.half(msr).half(0).word(0x1234_5678_9abc_def0);
        }
        let mut area = vec![0; 4096];
        area[1024..1024 + options.vectors.len()].copy_from_slice(&options.vectors);
        let parts = [
            vec![0; 128],
            vec![0; 1024],
            vec![0; 4],
            regs(cpu),
            sregs(cpu, index == 0),
            vec![0; 64],
            vec![0; 392],
        ];
        for part in &parts {
            if bare {
                out.bytes(part);
            } else {
                out.list(part);
            }
        }
        if bare {
            out.bytes(&area);
        } else {
            // kvm_xsave2: how many words there are behind the area, then those.
            let mut more = options.vectors.clone();
            more.resize(more.len().next_multiple_of(4), 0);
            let words = (more.len() / 4) as u64;
            out.word(8 + 4096).word(words).bytes(&area);
            out.word(words).bytes(&more);
        }
        out.bytes(&[1]).half(2_900_000);
    }
    // Devices.
    out.word(1).list(b"eth0").zeros(200);
    out.0
}

/// Columns of bitcode.
#[derive(Default)]
struct Packed(Vec<u8>);

impl Packed {
    /// 64-bit integers: of the smallest width that does, or less by the least of them.
    fn ints(&mut self, values: &[u64]) {
        let (Some(&least), Some(&most)) = (values.iter().min(), values.iter().max()) else {
            return;
        };
        let width = |value: u64| match value {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            0x1_0000..=0xffff_ffff => 4,
            _ => 8,
        };
        let code = |width: usize| match width {
            8 => 0,
            4 => 2,
            2 => 4,
            _ => 6,
        };
        let offset = width(most - least) < width(most) && values.len() > 5;
        let (width, less) = if offset {
            (width(most - least), least)
        } else {
            (width(most), 0)
        };
        self.0.push(code(width) - u8::from(offset));
        if offset {
            self.0.extend(least.to_le_bytes());
        }
        let values = values.iter().map(|value| value - less);
        if width == 1 {
            self.bytes(&values.map(|value| value as u8).collect::<Vec<_>>());
        } else {
            for value in values {
                self.0.extend(&value.to_le_bytes()[..width]);
            }
        }
    }

    /// Bytes: several in one where they have few values.
    fn bytes(&mut self, values: &[u8]) {
        if values.len() <= 2 {
            return self.0.extend(values);
        }
        // How many values there may be, how many fit into a byte, the code.
        const KINDS: [(u8, usize, u8); 5] =
            [(2, 8, 10), (3, 5, 8), (4, 4, 6), (6, 3, 4), (16, 2, 2)];
        let kind = |most: u8| KINDS.into_iter().find(|kind| most < kind.0);
        let code = |most: u8| kind(most).map_or(0, |kind| kind.2);
        let least = values.iter().copied().min().unwrap_or(0);
        let most = values.iter().copied().max().unwrap_or(0);
        let offset = code(most - least) > code(most) && values.len() > 5;
        let less = if offset { least } else { 0 };
        self.0.push(code(most - less) - u8::from(offset));
        if offset {
            self.0.push(least);
        }
        match kind(most - less) {
            None => self.0.extend(values),
            Some((states, each, _)) => {
                let values: Vec<u8> = values.iter().map(|value| value - less).collect();
                self.digits(&values, states, each);
            }
        }
    }

    fn digits(&mut self, values: &[u8], states: u8, each: usize) {
        for part in values.chunks(each) {
            let packed = part.iter().rev().fold(0, |sum, digit| sum * states + digit);
            self.0.push(packed);
        }
    }

    fn lengths(&mut self, values: &[usize]) {
        let short: Vec<u8> = values.iter().map(|&len| len.min(255) as u8).collect();
        let long: Vec<u64> = values
            .iter()
            .filter(|len| **len >= 255)
            .map(|&len| len as u64)
            .collect();
        self.bytes(&short);
        self.ints(&long);
    }

    /// A text: not packed.
    fn text(&mut self, text: &str) {
        self.lengths(&[text.len()]);
        self.0.extend(text.as_bytes());
    }

    /// The same structure of each CPU.
    fn structures(&mut self, parts: &[Vec<u8>]) {
        self.lengths(&parts.iter().map(Vec::len).collect::<Vec<_>>());
        self.bytes(&parts.concat());
    }
}

fn columns(ranges: &[Range<u64>], options: &Firecracker) -> Vec<u8> {
    let mut out = Packed::default();
    out.ints(&[MAGIC]);
    if options.form == FirecrackerForm::Numbers {
        for number in [12, 0, 0] {
            out.ints(&[number]);
        }
    } else {
        out.text("9.0.0");
    }
    out.ints(&[mib(ranges)]);
    // smt, CPU template, kernel, no initrd, a command line, no huge pages, no capabilities
    out.digits(&[0], 2, 8);
    out.bytes(&[4]);
    out.text("/vmlinux.bin");
    out.bytes(&[0]);
    out.bytes(&[1]);
    out.text("console=ttyS0 reboot=k");
    out.bytes(&[0]);
    out.lengths(&[0]);

    let mut regions: Vec<(&Range<u64>, u8, &[bool])> =
        ranges.iter().map(|range| (range, 0, &[true][..])).collect();
    if let Some(hotplug) = &options.hotplug {
        regions.push((&hotplug.range, 1, &hotplug.plugged));
    }
    out.lengths(&[regions.len()]);
    out.ints(&regions.iter().map(|one| one.0.start).collect::<Vec<_>>());
    out.ints(
        &regions
            .iter()
            .map(|one| one.0.end - one.0.start)
            .collect::<Vec<_>>(),
    );
    out.bytes(&regions.iter().map(|one| one.1).collect::<Vec<_>>());
    out.lengths(&regions.iter().map(|one| one.2.len()).collect::<Vec<_>>());
    let plugged: Vec<u8> = regions
        .iter()
        .flat_map(|one| one.2)
        .map(|&one| one.into())
        .collect();
    out.digits(&plugged, 2, 8);
    for len in [112, 48, 520, 520, 520] {
        out.structures(&[vec![0; len]]);
    }

    let cpus = &options.cpus;
    out.lengths(&[cpus.len()]);
    let each = |len: usize| vec![vec![0; len]; cpus.len()];
    for len in [80, 128, 1024, 4] {
        out.structures(&each(len));
    }
    out.structures(&cpus.iter().map(regs).collect::<Vec<_>>());
    let numbered = cpus.iter().enumerate();
    out.structures(
        &numbered
            .map(|(index, cpu)| sregs(cpu, index == 0))
            .collect::<Vec<_>>(),
    );
    out.structures(&each(64));
    out.structures(&each(392));
    let mut area = vec![0; 8 + 4096];
    area[1032..1032 + options.vectors.len()].copy_from_slice(&options.vectors);
    out.structures(&vec![area; cpus.len()]);
    out.ints(&vec![2_900_000; cpus.len()]);
    out.text("eth0");
    out.0
}
