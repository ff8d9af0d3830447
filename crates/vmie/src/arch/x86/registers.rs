//! Registers of a CPU.
//!
//! Sources that know them (ELF cores with CPU notes, live guests, states of hypervisors) hand them over in this form. The
//! control registers say how a guest translates addresses; what they mean is the paging layer's to decide.

/// General-purpose registers, and the flags. Of a 32-bit CPU the upper halves, and those with numbers, are zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "each is the register of its name")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rflags: u64,
}

/// A segment register: what was loaded, and where the segment begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// The selector.
    pub selector: u16,
    /// The first address.
    pub base: u64,
}

/// Where a descriptor table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DescriptorTable {
    /// The first address.
    pub base: u64,
    /// The offset of its last byte.
    pub limit: u32,
}

/// Segment registers and descriptor tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "each is the register of its name")]
pub struct Segments {
    pub cs: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ss: Segment,
    /// The task register.
    pub tr: Segment,
    /// The local descriptor table.
    pub ldt: Segment,
    /// The global descriptor table.
    pub gdt: DescriptorTable,
    /// The interrupt descriptor table.
    pub idt: DescriptorTable,
}

/// Registers of one virtual CPU at the moment of the capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuState {
    /// Number of the CPU, from 0, in the order of the source.
    pub index: u32,
    /// CR0.
    pub cr0: u64,
    /// CR3 as it stands, PCID and flag bits included.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// The EFER register, where the source records it.
    pub efer: Option<u64>,
    /// Whether the CPU is in long mode, where the source says so without recording EFER.
    pub long_mode: Option<bool>,
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// CR2, the address of the last page fault, where the source records it.
    pub cr2: Option<u64>,
    /// The other general registers, where the source records them.
    pub general: Option<Registers>,
    /// Segments and descriptor tables, where the source records them.
    pub segments: Option<Segments>,
    /// What `swapgs` puts in the place of the base of GS (the MSR `KERNEL_GS_BASE`), where the source records it.
    pub kernel_gs_base: Option<u64>,
}

impl Registers {
    /// What a source knows by the names of the fields; `None` unless it knows them all.
    pub(crate) fn from_names(register: impl Fn(&str) -> Option<u64>) -> Option<Self> {
        Some(Self {
            rax: register("rax")?,
            rbx: register("rbx")?,
            rcx: register("rcx")?,
            rdx: register("rdx")?,
            rsi: register("rsi")?,
            rdi: register("rdi")?,
            rbp: register("rbp")?,
            r8: register("r8")?,
            r9: register("r9")?,
            r10: register("r10")?,
            r11: register("r11")?,
            r12: register("r12")?,
            r13: register("r13")?,
            r14: register("r14")?,
            r15: register("r15")?,
            rflags: register("rflags")?,
        })
    }
}

impl Segments {
    /// What a source knows by the names of the fields; `None` unless it knows them all.
    pub(crate) fn from_names(
        segment: impl Fn(&str) -> Option<Segment>,
        table: impl Fn(&str) -> Option<DescriptorTable>,
    ) -> Option<Self> {
        Some(Self {
            cs: segment("cs")?,
            ds: segment("ds")?,
            es: segment("es")?,
            fs: segment("fs")?,
            gs: segment("gs")?,
            ss: segment("ss")?,
            tr: segment("tr")?,
            ldt: segment("ldt")?,
            gdt: table("gdt")?,
            idt: table("idt")?,
        })
    }
}

impl CpuState {
    /// What a source knows by the names of the registers, those of the fields: `None` unless it knows `cr0`, `cr3`,
    /// `cr4`, `rip` and `rsp`. General registers and segments are there only as a whole.
    pub(crate) fn from_names(
        index: u32,
        register: impl Fn(&str) -> Option<u64>,
        segments: Option<Segments>,
    ) -> Option<Self> {
        Some(Self {
            index,
            cr0: register("cr0")?,
            cr3: register("cr3")?,
            cr4: register("cr4")?,
            efer: register("efer"),
            long_mode: None,
            rip: register("rip")?,
            rsp: register("rsp")?,
            cr2: register("cr2"),
            general: Registers::from_names(&register),
            segments,
            kernel_gs_base: register("kernel_gs_base"),
        })
    }

    /// CR0.PG, CR4.PSE, CR4.PAE, CR4.LA57 and EFER.LMA, as masks.
    const CR0_PG: u64 = 1 << 31;
    const CR4_PAE: u64 = 1 << 5;
    const CR4_LA57: u64 = 1 << 12;
    const EFER_LMA: u64 = 1 << 10;

    /// Whether paging is on (CR0.PG).
    pub fn paging_enabled(&self) -> bool {
        self.cr0 & Self::CR0_PG != 0
    }

    /// Whether physical address extension is on (CR4.PAE).
    pub fn pae(&self) -> bool {
        self.cr4 & Self::CR4_PAE != 0
    }

    /// Whether 57-bit virtual addresses are on (CR4.LA57).
    pub fn la57(&self) -> bool {
        self.cr4 & Self::CR4_LA57 != 0
    }

    /// Whether long mode is active, or `None` where the source does not tell.
    pub fn is_long_mode(&self) -> Option<bool> {
        self.efer
            .map(|efer| efer & Self::EFER_LMA != 0)
            .or(self.long_mode)
    }
}

#[cfg(test)]
impl CpuState {
    /// A CPU in long mode whose registers are all known and all different: what a test of a source writes down, and reads
    /// again. A source that does not record a register has `None` there.
    pub(crate) fn sample() -> Self {
        let segment = |number: u16| Segment {
            selector: 0x30 + number,
            base: 0xffff_8000_0000_0200 + u64::from(number),
        };
        let table = |number: u16| DescriptorTable {
            base: 0xffff_fe00_0000_0300 + u64::from(number),
            limit: 0x7f + u32::from(number),
        };
        Self {
            index: 0,
            cr0: 0x8005_0033,
            cr3: 0x1a7_6000,
            cr4: 0x75_1ef0,
            efer: Some(0xd01),
            long_mode: None,
            rip: 0xffff_ffff_8100_0110,
            rsp: 0xffff_c900_0000_0106,
            cr2: Some(0x4c_8000),
            general: Some(Registers {
                rax: 0x8000_0000_0000_0100,
                rbx: 0x101,
                rcx: 0x102,
                rdx: 0x103,
                rsi: 0x104,
                rdi: 0x105,
                rbp: 0x107,
                r8: 0x108,
                r9: 0x109,
                r10: 0x10a,
                r11: 0x10b,
                r12: 0x10c,
                r13: 0x10d,
                r14: 0x10e,
                r15: 0x10f,
                rflags: 0x246,
            }),
            segments: Some(Segments {
                cs: segment(0),
                ds: segment(1),
                es: segment(2),
                fs: segment(3),
                gs: segment(4),
                ss: segment(5),
                tr: segment(6),
                ldt: segment(7),
                gdt: table(0),
                idt: table(1),
            }),
            kernel_gs_base: Some(0xffff_8880_0000_0400),
        }
    }
}
