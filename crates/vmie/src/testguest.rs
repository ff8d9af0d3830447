//! The memory of a guest that `vmie-synth` made, as the engine sees it. What was never written costs nothing, so a
//! guest may be large.
//!
//! Tests from outside include this very file by its path, so it knows the engine from outside only.
#![allow(dead_code)] // whoever includes it uses a part

use std::sync::Arc;

use vmie::{AddrRange, Cause, Fault, Gpa, Memory, Prot, Span, SpanKind, Spans};
use vmie_synth::guest::{Machine, Phys};

/// Physical memory of a synthetic guest, of which more may be missing than whole declared pages.
pub(crate) struct Synthetic {
    pub(crate) phys: Phys,
    /// Declared, but reads fail: first address and length.
    pub(crate) unreadable: Vec<(u64, u64)>,
    /// The last region ends this much earlier.
    pub(crate) cut: u64,
    /// All bytes up to the end of the last region, to be lent.
    lent: Option<Vec<u8>>,
}

impl Synthetic {
    pub(crate) fn new(phys: Phys) -> Self {
        Self {
            phys,
            unreadable: Vec::new(),
            cut: 0,
            lent: None,
        }
    }

    /// All of a machine's, to be shared.
    pub(crate) fn of(machine: Machine) -> Arc<dyn Memory<Addr = Gpa>> {
        Arc::new(Self::new(machine.phys))
    }

    pub(crate) fn lending(mut self) -> Self {
        self.lent = Some(self.phys.clone().into_dense());
        self
    }

    fn end(&self) -> u64 {
        self.phys.ranges().last().map_or(0, |range| range.end) - self.cut
    }

    /// The first address from `gpa` on, below `end`, that cannot be read.
    fn fault(&self, gpa: u64, end: u64) -> Option<u64> {
        let holes = self.unreadable.iter().copied();
        holes
            .chain([(self.end(), u64::MAX - self.end())])
            .filter(|&(start, len)| start < end && start.saturating_add(len) > gpa)
            .map(|(start, _)| start.max(gpa))
            .min()
    }
}

impl Memory for Synthetic {
    type Addr = Gpa;

    fn spans(&self, range: AddrRange<Gpa>) -> Spans<'_, Gpa> {
        Box::new(self.phys.ranges().iter().filter_map(move |ram| {
            let len = ram.end.min(self.end()).checked_sub(ram.start)?;
            let cut = AddrRange::new(Gpa(ram.start), len)?.intersect(range)?;
            Some(Span {
                start: cut.start(),
                len: cut.len(),
                kind: SpanKind::Mapped(Prot::RWX),
            })
        }))
    }

    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let end = addr.0.saturating_add(buf.len() as u64);
        let hole = self.fault(addr.0, end);
        let fits = hole.map_or(buf.len(), |hole| (hole - addr.0) as usize);
        let absent = |gpa| Fault {
            addr: Gpa(gpa),
            cause: Cause::Absent { gpa: Gpa(gpa) },
        };
        let read = self.phys.read(addr.0, &mut buf[..fits]);
        read.map_err(|fault| absent(fault.gpa))?;
        hole.map_or(Ok(()), |hole| Err(absent(hole)))
    }

    fn borrow(&self, range: AddrRange<Gpa>) -> Option<&[u8]> {
        let (start, len) = (range.start().0, range.len());
        if !self.phys.contains(start, len) || self.fault(start, start + len).is_some() {
            return None;
        }
        let start = start as usize;
        self.lent.as_ref()?.get(start..start + len as usize)
    }
}
