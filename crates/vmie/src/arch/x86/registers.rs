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

impl CpuState {
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
