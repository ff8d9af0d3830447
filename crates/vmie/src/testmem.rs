//! The memory of tests: parts with protection, pages that are absent, spans that are lost.
//!
//! Tests from outside and the bodies of fuzz targets include this very file by its path, so it knows the engine from
//! outside only.
#![allow(dead_code)] // whoever includes it uses a part

use vmie::{AddrRange, Address, Cause, Fault, Gpa, Memory, Prot, Span, SpanKind, Spans, View};

/// Why nothing is read where no part is.
const NOT_MAPPED: Cause = Cause::NotMapped {
    level: 1,
    at: Gpa(0),
    entry: 0,
};

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
    /// Whether to offer views, as long as nothing is absent.
    pub(crate) views: bool,
    pub(crate) marker: std::marker::PhantomData<A>,
}

impl<A: Address> TestMemory<A> {
    pub(crate) fn new() -> Self {
        Self {
            parts: Vec::new(),
            absent: Vec::new(),
            lost: Vec::new(),
            lends: false,
            views: false,
            marker: std::marker::PhantomData,
        }
    }

    pub(crate) fn of(start: u64, bytes: &[u8]) -> Self {
        Self::new().part(start, bytes, Prot::RWX)
    }

    pub(crate) fn part(mut self, start: u64, bytes: &[u8], prot: Prot) -> Self {
        let part = Part {
            start,
            bytes: bytes.to_vec(),
            prot,
        };
        let index = self.parts.partition_point(|part| part.start < start);
        self.parts.insert(index, part);
        self
    }

    /// Writes into the part that holds all of these addresses.
    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) {
        let index = self.index(at).expect("nothing is there");
        let part = &mut self.parts[index];
        let offset = usize::try_from(at - part.start).expect("small");
        part.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
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
            .ok_or(NOT_MAPPED)?;
        if self
            .absent
            .iter()
            .any(|&(start, len)| addr >= start && addr - start < len)
        {
            return Err(Cause::Absent { gpa: Gpa(addr) });
        }
        Ok(part.bytes[usize::try_from(addr - part.start).expect("small")])
    }

    /// The part that `addr` is in, if it is in one.
    fn index(&self, addr: u64) -> Option<usize> {
        let index = self.parts.partition_point(|part| part.start <= addr);
        let index = index.checked_sub(1)?;
        let part = &self.parts[index];
        (addr - part.start < part.bytes.len() as u64).then_some(index)
    }

    /// What can be read from `addr` on in the part that it is in.
    fn stretch(&self, addr: u64) -> Result<&[u8], Cause> {
        let Some(index) = self.index(addr) else {
            return Err(NOT_MAPPED);
        };
        let part = &self.parts[index];
        let mut end = part.start + (part.bytes.len() as u64 - 1);
        for &(start, len) in &self.absent {
            if start > addr {
                end = end.min(start - 1);
            } else if addr - start < len {
                return Err(Cause::Absent { gpa: Gpa(addr) });
            }
        }
        let at = |addr: u64| usize::try_from(addr - part.start).expect("small");
        Ok(&part.bytes[at(addr)..=at(end)])
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
        let (first, last) = (range.start().raw(), range.last().raw());
        let cut = move |start: u64, len: u64, kind| {
            let cut = AddrRange::new(A::new(start), len)?.intersect(range)?;
            Some(Span {
                start: cut.start(),
                len: cut.len(),
                kind,
            })
        };
        let from = self.index(first);
        let from = from.unwrap_or_else(|| self.parts.partition_point(|part| part.start < first));
        let parts = self.parts[from..]
            .iter()
            .take_while(move |part| part.start <= last)
            .filter_map(move |part| {
                let kind = SpanKind::Mapped(part.prot);
                cut(part.start, part.bytes.len() as u64, kind)
            });
        if self.lost.is_empty() {
            return Box::new(parts);
        }
        let lost = self.lost.iter().filter_map(|&(start, len)| {
            let cause = Cause::TableAbsent {
                level: 1,
                table: Gpa(0),
            };
            cut(start, len, SpanKind::Lost(cause))
        });
        let mut spans: Vec<Span<A>> = parts.chain(lost).collect();
        spans.sort_by_key(|span| span.start);
        Box::new(spans.into_iter())
    }

    fn read(&self, addr: A, buf: &mut [u8]) -> Result<(), Fault<A>> {
        let mut done = 0;
        while done < buf.len() {
            let here = A::new(addr.raw().wrapping_add(done as u64));
            let stretch = self.stretch(here.raw());
            let stretch = stretch.map_err(|cause| Fault { addr: here, cause })?;
            let len = stretch.len().min(buf.len() - done);
            buf[done..done + len].copy_from_slice(&stretch[..len]);
            done += len;
        }
        Ok(())
    }

    fn borrow(&self, range: AddrRange<A>) -> Option<&[u8]> {
        if !self.lends {
            return None;
        }
        let stretch = self.stretch(range.start().raw()).ok()?;
        stretch.get(..usize::try_from(range.len()).ok()?)
    }

    fn view(&self, addr: A) -> Option<View<'_, A>> {
        if !self.views || !self.absent.is_empty() {
            return None;
        }
        let part = &self.parts[self.index(addr.raw())?];
        Some(View::of_slice(A::new(part.start), &part.bytes))
    }
}

/// A memory that is two functions, what is mapped and what a read says: for one without end, one that fades, one that
/// lies.
pub(crate) struct Made<S, R, A> {
    spans: S,
    read: R,
    /// What is lent, whatever is asked for.
    pub(crate) lent: Option<&'static [u8]>,
    marker: std::marker::PhantomData<fn(A)>,
}

impl<S, R, A> Made<S, R, A>
where
    S: Fn(AddrRange<A>) -> Spans<'static, A> + Send + Sync,
    R: Fn(A, &mut [u8]) -> Result<(), Fault<A>> + Send + Sync,
    A: Address,
{
    pub(crate) fn of(spans: S, read: R) -> Self {
        Self {
            spans,
            read,
            lent: None,
            marker: std::marker::PhantomData,
        }
    }
}

impl<S, R, A> Memory for Made<S, R, A>
where
    S: Fn(AddrRange<A>) -> Spans<'static, A> + Send + Sync,
    R: Fn(A, &mut [u8]) -> Result<(), Fault<A>> + Send + Sync,
    A: Address,
{
    type Addr = A;

    fn spans(&self, range: AddrRange<A>) -> Spans<'_, A> {
        (self.spans)(range)
    }

    fn read(&self, addr: A, buf: &mut [u8]) -> Result<(), Fault<A>> {
        (self.read)(addr, buf)
    }

    fn borrow(&self, _: AddrRange<A>) -> Option<&[u8]> {
        self.lent
    }
}
