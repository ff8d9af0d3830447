//! The few CPU registers that say how a guest translates addresses.
//!
//! Sources that know them (ELF cores with CPU notes, live guests) hand them over in this form; the
//! paging layer decides what they mean.

/// Control registers of one virtual CPU at the moment of the capture.
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
