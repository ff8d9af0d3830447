//! A small memory for tests: parts with protection, pages that are absent, spans that are lost.

use proptest::prelude::*;

use crate::addr::{AddrRange, Address, Gpa};
use crate::memory::{Cause, Fault, Memory, Prot, Span, SpanKind, Spans};

/// Mapped bytes.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) start: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) prot: Prot,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestMemory<A> {
    /// In ascending order, not overlapping.
    pub(crate) parts: Vec<Part>,
    /// Mapped, but reads fail: first address and length.
    pub(crate) absent: Vec<(u64, u64)>,
    /// Not known whether mapped: first address and length; outside the parts.
    pub(crate) lost: Vec<(u64, u64)>,
    /// Whether to lend bytes.
    pub(crate) lends: bool,
    pub(crate) marker: std::marker::PhantomData<A>,
}

impl<A: Address> TestMemory<A> {
    pub(crate) fn new() -> Self {
        Self {
            parts: Vec::new(),
            absent: Vec::new(),
            lost: Vec::new(),
            lends: false,
            marker: std::marker::PhantomData,
        }
    }

    pub(crate) fn of(start: u64, bytes: &[u8]) -> Self {
        Self::new().part(start, bytes, Prot::RWX)
    }

    pub(crate) fn part(mut self, start: u64, bytes: &[u8], prot: Prot) -> Self {
        self.parts.push(Part {
            start,
            bytes: bytes.to_vec(),
            prot,
        });
        self
    }

    pub(crate) fn absent(mut self, start: u64, len: u64) -> Self {
        self.absent.push((start, len));
        self
    }

    pub(crate) fn lost(mut self, start: u64, len: u64) -> Self {
        self.lost.push((start, len));
        self
    }

    pub(crate) fn lending(mut self) -> Self {
        self.lends = true;
        self
    }

    /// The byte at `addr`, one at a time: what everything else is compared with.
    pub(crate) fn byte(&self, addr: u64) -> Result<u8, Cause> {
        let part = self
            .parts
            .iter()
            .find(|part| addr >= part.start && addr - part.start < part.bytes.len() as u64)
            .ok_or(Cause::NotMapped {
                level: 1,
                at: Gpa(0),
                entry: 0,
            })?;
        if self
            .absent
            .iter()
            .any(|&(start, len)| addr >= start && addr - start < len)
        {
            return Err(Cause::Absent { gpa: Gpa(addr) });
        }
        Ok(part.bytes[usize::try_from(addr - part.start).expect("small")])
    }

    /// Maximal readable stretches of selected memory, in order.
    pub(crate) fn readable(&self, perm: Prot, range: Option<AddrRange<A>>) -> Vec<(u64, Vec<u8>)> {
        let mut stretches: Vec<(u64, Vec<u8>)> = Vec::new();
        for part in self.parts.iter().filter(|part| part.prot.contains(perm)) {
            for offset in 0..part.bytes.len() as u64 {
                let addr = part.start + offset;
                if range.is_some_and(|range| !range.contains(A::new(addr))) {
                    continue;
                }
                let Ok(byte) = self.byte(addr) else { continue };
                match stretches.last_mut() {
                    Some((start, bytes)) if *start + bytes.len() as u64 == addr => bytes.push(byte),
                    _ => stretches.push((addr, vec![byte])),
                }
            }
        }
        stretches
    }
}

impl<A: Address> Memory for TestMemory<A> {
    type Addr = A;

    fn spans(&self, range: AddrRange<A>) -> Spans<'_, A> {
        let mut spans: Vec<Span<A>> = self
            .parts
            .iter()
            .map(|part| {
                (
                    part.start,
                    part.bytes.len() as u64,
                    SpanKind::Mapped(part.prot),
                )
            })
            .chain(self.lost.iter().map(|&(start, len)| {
                let cause = Cause::TableAbsent {
                    level: 1,
                    table: Gpa(0),
                };
                (start, len, SpanKind::Lost(cause))
            }))
            .filter_map(|(start, len, kind)| {
                let cut = AddrRange::new(A::new(start), len)?.intersect(range)?;
                Some(Span {
                    start: cut.start(),
                    len: cut.len(),
                    kind,
                })
            })
            .collect();
        spans.sort_by_key(|span| span.start);
        Box::new(spans.into_iter())
    }

    fn read(&self, addr: A, buf: &mut [u8]) -> Result<(), Fault<A>> {
        for (at, out) in buf.iter_mut().enumerate() {
            let here = A::new(addr.raw() + at as u64);
            *out = self
                .byte(here.raw())
                .map_err(|cause| Fault { addr: here, cause })?;
        }
        Ok(())
    }

    fn borrow(&self, range: AddrRange<A>) -> Option<&[u8]> {
        if !self.lends {
            return None;
        }
        let (start, last) = (range.start().raw(), range.last().raw());
        if (start..=last).any(|addr| self.byte(addr).is_err()) {
            return None;
        }
        let part = self
            .parts
            .iter()
            .find(|part| start >= part.start && last - part.start < part.bytes.len() as u64)?;
        let low = usize::try_from(start - part.start).ok()?;
        let high = usize::try_from(last - part.start).ok()?;
        part.bytes.get(low..=high)
    }
}

/// Eight pages from 0x1000 on, each mapped or not, present or not, or lost, with few different bytes
/// and protections.
pub(crate) fn any_memory<A: Address>() -> impl Strategy<Value = TestMemory<A>> {
    let page = prop_oneof![
        5 => (prop::collection::vec(0u8..4, 4096), any::<bool>()).prop_map(Some),
        1 => Just(None),
    ];
    (
        prop::collection::vec((page, 0u8..8), 8),
        any::<bool>(),
        0u64..3,
    )
        .prop_map(|(pages, lends, cut)| {
            let mut memory = TestMemory::new();
            memory.lends = lends;
            for (i, (page, state)) in pages.into_iter().enumerate() {
                let start = 0x1000 * (i as u64 + 1);
                match page {
                    Some((mut bytes, exec)) => {
                        let prot = if exec { Prot::RWX } else { Prot::R };
                        // Some regions end in the middle of a page, as physical memory does.
                        if state == 7 {
                            bytes.truncate(0x1000 - 0x123 * usize::try_from(cut).expect("small"));
                        }
                        if state == 0 {
                            memory = memory.absent(start, 0x1000);
                        }
                        memory = memory.part(start, &bytes, prot);
                    }
                    None if state < 4 => memory = memory.lost(start, 0x1000),
                    None => {}
                }
            }
            memory
        })
}
