//! Physical memory as if it were an address space: every address maps to itself.
//!
//! So every function that takes a cr3 works on physical memory as well, and is written once.

use std::sync::Arc;

use vmie::{AddrRange, Address, Fault, Gpa, Gva, Memory, Span, Spans};

/// See the module documentation.
pub(crate) struct Phys(pub(crate) Arc<dyn Memory<Addr = Gpa>>);

fn to_phys(range: AddrRange<Gva>) -> Option<AddrRange<Gpa>> {
    AddrRange::inclusive(Gpa(range.start().raw()), Gpa(range.last().raw()))
}

impl Memory for Phys {
    type Addr = Gva;

    fn spans(&self, range: AddrRange<Gva>) -> Spans<'_, Gva> {
        let spans = to_phys(range).map(|range| self.0.spans(range));
        Box::new(spans.into_iter().flatten().map(|span| Span {
            start: Gva(span.start.raw()),
            len: span.len,
            kind: span.kind,
        }))
    }

    fn read(&self, addr: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        self.0.read(Gpa(addr.raw()), buf).map_err(|fault| Fault {
            addr: Gva(fault.addr.raw()),
            cause: fault.cause,
        })
    }

    fn borrow(&self, range: AddrRange<Gva>) -> Option<&[u8]> {
        self.0.borrow(to_phys(range)?)
    }
}
