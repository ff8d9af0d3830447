//! The code of a process: what it maps, and what it has not mapped yet but the system has in memory.
//!
//! Systems map a page of a file when it is first touched, so of most libraries only a part is mapped.
//! What would be found on the other pages is known as long as the system has them in its cache of the
//! file. A search through code that looked at mapped pages only would miss what the process may execute
//! next.

use std::iter::Peekable;

use crate::addr::{AddrRange, Gpa, Gva, PAGE_SIZE};
use crate::memory::{Cause, Fault, Memory, Prot, Span, SpanKind, Spans};
use crate::paging::AddressSpace;
use crate::view::View;

/// Pages that a process has not mapped and that lie side by side, in virtual and in physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CodePages {
    /// Where the process would have them.
    pub range: AddrRange<Gva>,
    /// Where the first one is.
    pub gpa: Gpa,
    /// What the process may do with them.
    pub prot: Prot,
}

/// What a process would execute and has not mapped.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct UnmappedCode {
    /// What of it is in memory, by ascending address, without overlaps.
    pub cached: Vec<CodePages>,
    /// Bytes that are not in memory.
    pub missing: u64,
    /// The first of these.
    pub first_missing: Option<AddrRange<Gva>>,
}

impl UnmappedCode {
    /// Bytes that are in memory.
    pub fn cached_bytes(&self) -> u64 {
        self.cached.iter().map(|pages| pages.range.len()).sum()
    }
}

impl UnmappedCode {
    /// Whether an address is in memory and not mapped.
    pub fn is_cached(&self, va: Gva) -> bool {
        pages_at(&self.cached, va).is_some()
    }
}

fn pages_at(cached: &[CodePages], va: Gva) -> Option<&CodePages> {
    let behind = cached.partition_point(|pages| pages.range.last() < va);
    cached.get(behind).filter(|pages| pages.range.contains(va))
}

/// The memory of a process with the code that it has not mapped.
#[derive(Debug)]
pub struct Code<'c> {
    space: &'c AddressSpace,
    cached: &'c [CodePages],
}

impl<'c> Code<'c> {
    /// What `space` maps and `unmapped` has.
    pub fn new(space: &'c AddressSpace, unmapped: &'c UnmappedCode) -> Self {
        Self {
            space,
            cached: &unmapped.cached,
        }
    }

    /// Reads within one page.
    fn read_page(&self, va: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        let Some(pages) = pages_at(self.cached, va) else {
            return self.space.read(va, buf);
        };
        let gpa = Gpa(pages.gpa.0.wrapping_add(va.0 - pages.range.start().0));
        let fault = self.space.phys().read(gpa, buf);
        fault.map_err(|fault| Fault {
            addr: Gva(va.0.wrapping_add(fault.addr.0.wrapping_sub(gpa.0))),
            cause: fault.cause,
        })
    }
}

impl Memory for Code<'_> {
    type Addr = Gva;

    fn spans(&self, range: AddrRange<Gva>) -> Spans<'_, Gva> {
        let from = self
            .cached
            .partition_point(|pages| pages.range.last() < range.start());
        let cached = self.cached[from..].iter().map_while(move |pages| {
            let part = pages.range.intersect(range)?;
            Some(Span {
                start: part.start(),
                len: part.len(),
                kind: SpanKind::Mapped(pages.prot),
            })
        });
        Box::new(Joined(
            Merged {
                mapped: self.space.spans(range).peekable(),
                cached: cached.peekable(),
            }
            .peekable(),
        ))
    }

    fn read(&self, addr: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        if self.space.read(addr, buf).is_ok() {
            return Ok(());
        }
        let mut done = 0;
        while done < buf.len() {
            let here = addr.0.checked_add(done as u64).ok_or(Fault {
                addr,
                cause: Cause::NonCanonical,
            })?;
            let left = (PAGE_SIZE - here % PAGE_SIZE) as usize;
            let len = left.min(buf.len() - done);
            self.read_page(Gva(here), &mut buf[done..done + len])?;
            done += len;
        }
        Ok(())
    }

    fn borrow(&self, range: AddrRange<Gva>) -> Option<&[u8]> {
        self.space.borrow(range)
    }

    fn view(&self, addr: Gva) -> Option<View<'_, Gva>> {
        self.space.view(addr)
    }
}

/// Spans of two sorts that do not overlap, by address.
struct Merged<M: Iterator, C: Iterator> {
    mapped: Peekable<M>,
    cached: Peekable<C>,
}

impl<M, C> Iterator for Merged<M, C>
where
    M: Iterator<Item = Span<Gva>>,
    C: Iterator<Item = Span<Gva>>,
{
    type Item = Span<Gva>;

    fn next(&mut self) -> Option<Span<Gva>> {
        match (self.mapped.peek(), self.cached.peek()) {
            (Some(mapped), Some(cached)) if cached.start < mapped.start => self.cached.next(),
            (Some(_), _) => self.mapped.next(),
            (None, _) => self.cached.next(),
        }
    }
}

/// Joins spans that touch and are alike.
struct Joined<I: Iterator<Item = Span<Gva>>>(Peekable<I>);

impl<I: Iterator<Item = Span<Gva>>> Iterator for Joined<I> {
    type Item = Span<Gva>;

    fn next(&mut self) -> Option<Span<Gva>> {
        let mut span = self.0.next()?;
        while let Some(next) = self.0.peek() {
            let touches = span.range().end() == Some(next.start);
            match (span.kind, next.kind) {
                (SpanKind::Mapped(one), SpanKind::Mapped(other)) if touches && one == other => {
                    span.len += next.len;
                    self.0.next();
                }
                _ => break,
            }
        }
        Some(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, len: u64, prot: Prot) -> Span<Gva> {
        Span {
            start: Gva(start),
            len,
            kind: SpanKind::Mapped(prot),
        }
    }

    /// What a search would see as one piece is one span, from wherever its pages come.
    #[test]
    fn spans_that_touch_are_joined_when_they_are_alike() {
        let code = Prot::R.union(Prot::X);
        let mapped = [
            span(0x1000, 0x1000, code),
            span(0x3000, 0x1000, code),
            span(0x4000, 0x1000, Prot::R),
            span(0x9000, 0x1000, code),
        ];
        let cached = [
            span(0x2000, 0x1000, code),
            span(0x5000, 0x1000, code),
            span(0x6000, 0x1000, code),
            span(0xa000, 0x2000, code),
        ];
        let merged = Merged {
            mapped: mapped.into_iter().peekable(),
            cached: cached.into_iter().peekable(),
        };
        let joined: Vec<_> = Joined(merged.peekable()).collect();
        assert_eq!(
            joined,
            [
                span(0x1000, 0x3000, code),
                span(0x4000, 0x1000, Prot::R),
                span(0x5000, 0x2000, code),
                span(0x9000, 0x3000, code),
            ]
        );
    }

    #[test]
    fn pages_are_found_by_any_of_their_addresses() {
        let pages = |start, gpa| CodePages {
            range: AddrRange::new(Gva(start), 0x2000).expect("a range"),
            gpa: Gpa(gpa),
            prot: Prot::R,
        };
        let code = UnmappedCode {
            cached: vec![pages(0x1000, 0x7000), pages(0x8000, 0x1000)],
            ..UnmappedCode::default()
        };
        assert_eq!(code.cached_bytes(), 0x4000);
        let found = [
            0xfff, 0x1000, 0x2fff, 0x3000, 0x7fff, 0x8000, 0x9fff, 0xa000,
        ];
        let found = found.map(|va| code.is_cached(Gva(va)));
        assert_eq!(found, [false, true, true, false, false, true, true, false]);
    }
}
