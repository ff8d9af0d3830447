//! What must hold for *any* bytes in which an operating system is looked for.
//!
//! One body for the tests, which run it on mutated tables of kernels, and for the fuzz target of the
//! same name.

#![allow(unreachable_pub)] // shared by a test and a fuzz target, a library of neither

use std::sync::Arc;

use vmie::{AddrRange, Cause, Fault, Gpa, Memory, Prot, Span, SpanKind, Spans, os};

/// Physical memory from address 0 on.
struct Bytes(Arc<[u8]>);

impl Memory for Bytes {
    type Addr = Gpa;

    fn spans(&self, range: AddrRange<Gpa>) -> Spans<'_, Gpa> {
        let all = AddrRange::new(Gpa(0), self.0.len() as u64);
        let part = all.and_then(|all| all.intersect(range));
        Box::new(part.into_iter().map(|part| Span {
            start: part.start(),
            len: part.len(),
            kind: SpanKind::Mapped(Prot::RWX),
        }))
    }

    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let at = usize::try_from(addr.0).unwrap_or(usize::MAX);
        let rest = self.0.get(at..).unwrap_or(&[]);
        let good = rest.len().min(buf.len());
        buf[..good].copy_from_slice(&rest[..good]);
        if good == buf.len() {
            return Ok(());
        }
        let gpa = Gpa(addr.0.wrapping_add(good as u64));
        Err(Fault {
            addr: gpa,
            cause: Cause::Absent { gpa },
        })
    }
}

/// Looks for an operating system and asks for everything that is found. Answers what the search said.
pub fn find_os(data: &[u8]) -> String {
    let phys: Arc<dyn Memory<Addr = Gpa>> = Arc::new(Bytes(data.into()));
    match os::find(&phys, &vmie::Hints::default()) {
        Ok(guest) => {
            let _ = guest.types();
            let _ = guest.processes();
            let _ = guest.modules(None);
            let steps: Vec<String> = guest.steps().iter().map(ToString::to_string).collect();
            steps.join("\n")
        }
        Err(error) => {
            assert!(error.searches.iter().all(|(_, steps)| !steps.is_empty()));
            error.to_string()
        }
    }
}
