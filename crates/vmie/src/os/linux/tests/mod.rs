//! Linux guests made up for the purpose: found in every arrangement, and not fooled.

mod areas;
mod cache;
mod display;
mod find;
mod hostile;
mod lists;
mod maple;
mod mm;
mod salvage;
mod scan;
mod swap;
mod tasks;
mod typeinfo;
mod types;
mod width;
pub(in crate::os) mod world;
mod xarray;

use std::sync::Arc;

use vmie_synth::guest::{Machine, Phys};

use crate::addr::{AddrRange, Address, Gpa};
use crate::memory::{Cause, Fault, Memory, Prot, Span, SpanKind, Spans};

/// A synthetic guest's physical memory.
pub(super) struct Ram(pub(super) Phys);

impl Ram {
    pub(super) fn of(machine: Machine) -> Arc<dyn Memory<Addr = Gpa>> {
        Arc::new(Self(machine.phys))
    }
}

impl Memory for Ram {
    type Addr = Gpa;

    fn spans(&self, range: AddrRange<Gpa>) -> Spans<'_, Gpa> {
        let part = move |ram: &std::ops::Range<u64>| {
            let ram = AddrRange::new(Gpa(ram.start), ram.end - ram.start)?;
            let part = ram.intersect(range)?;
            Some(Span {
                start: part.start(),
                len: part.len(),
                kind: SpanKind::Mapped(Prot::RWX),
            })
        };
        Box::new(self.0.ranges().iter().filter_map(part))
    }

    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        self.0.read(addr.raw(), buf).map_err(|absent| {
            let gpa = Gpa(absent.gpa);
            Fault {
                addr: gpa,
                cause: Cause::Absent { gpa },
            }
        })
    }
}
