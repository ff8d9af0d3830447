//! Variables of which each CPU has its own copy, as Linux keeps them.
//!
//! The address of such a variable, be it a symbol or a pointer, is a distance from where each CPU's area starts:
//! `__per_cpu_offset[cpu]`. Which CPUs have an area stands in `__cpu_possible_mask`. A kernel for one CPU has neither.

use crate::addr::{Address, Gva};
use crate::memory::Memory;
use crate::os::symbols::SymbolTable;

use super::pointer::BadLink;

/// The kernel's own bound on the number of CPUs (`CONFIG_MAXSMP`).
const MAX_CPUS: u32 = 8192;

/// What to add to the address of a variable, for each CPU that there may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PerCpu {
    /// Ascending by the number of the CPU.
    areas: Vec<(u32, u64)>,
}

impl PerCpu {
    pub(super) fn read(
        memory: &dyn Memory<Addr = Gva>,
        symbols: &SymbolTable,
    ) -> Result<Self, BadLink> {
        let Some(offsets) = symbols.address_of("__per_cpu_offset") else {
            return Ok(Self {
                areas: vec![(0, 0)],
            });
        };
        let fault = |at: Gva| {
            move |fault| BadLink::Fault {
                pointer: at.raw(),
                fault,
            }
        };
        let count = match symbols.address_of("nr_cpu_ids") {
            Some(at) => {
                let mut count = [0; 4];
                memory.read(at, &mut count).map_err(fault(at))?;
                u32::from_le_bytes(count).clamp(1, MAX_CPUS)
            }
            // The number is fixed in the kernel's text.
            None => 64,
        };
        let possible = symbols
            .address_of("__cpu_possible_mask")
            .or_else(|| symbols.address_of("cpu_possible_bits"));
        let mut areas = Vec::new();
        for word in 0..count.div_ceil(64) {
            let mask = match possible {
                Some(at) => {
                    let at = Gva(at.raw().wrapping_add(u64::from(word) * 8));
                    memory.read_u64(at).map_err(fault(at))?
                }
                None => u64::MAX,
            };
            for cpu in
                (word * 64..count.min(word * 64 + 64)).filter(|cpu| mask >> (cpu % 64) & 1 == 1)
            {
                let at = Gva(offsets.raw().wrapping_add(u64::from(cpu) * 8));
                areas.push((cpu, memory.read_u64(at).map_err(fault(at))?));
            }
        }
        Ok(Self { areas })
    }

    /// The numbers of the CPUs, ascending.
    pub(super) fn cpus(&self) -> impl Iterator<Item = u32> + use<'_> {
        self.areas.iter().map(|&(cpu, _)| cpu)
    }

    /// Where a CPU has its copy of the variable at `va`; `None` where there is no such CPU.
    pub(super) fn place(&self, va: Gva, cpu: u32) -> Option<Gva> {
        let found = self.areas.binary_search_by_key(&cpu, |&(cpu, _)| cpu);
        let (_, offset) = self.areas[found.ok()?];
        Some(Gva(va.raw().wrapping_add(offset)))
    }
}
