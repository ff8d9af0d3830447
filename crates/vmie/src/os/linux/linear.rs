//! The kernel's memory where its own page tables are damaged.
//!
//! Two parts of it are maps of physical memory with a constant between both addresses: the image, and the
//! map of all memory, in which nearly every object lies. One overwritten table of a few takes gigabytes
//! out of these. So what the tables do not map there is read at the physical address that it must have.
//! Tables come first: where they lead, they are believed.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::addr::{AddrRange, Address, Gpa, Gva, PAGE_SIZE};
use crate::memory::{Cause, Fault, Memory, Spans};
use crate::paging::AddressSpace;

/// Addresses that are physical ones plus a constant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) range: AddrRange<Gva>,
    /// What to subtract, modulo 2^64.
    pub(super) shift: u64,
}

/// The kernel's space with what is known of it beside its page tables.
#[derive(Debug)]
pub(super) struct Linear<'k> {
    space: &'k AddressSpace,
    lines: Vec<Line>,
    /// How often the tables did not do.
    used: AtomicUsize,
}

impl<'k> Linear<'k> {
    /// `space` with these lines.
    pub(super) fn new(space: &'k AddressSpace, lines: Vec<Line>) -> Self {
        Self {
            space,
            lines,
            used: AtomicUsize::new(0),
        }
    }

    /// How many reads went beside the page tables.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The physical memory behind it.
    pub(super) fn phys(&self) -> &dyn Memory<Addr = Gpa> {
        &**self.space.phys()
    }

    /// Where an address leads.
    pub(super) fn translate(&self, va: Gva) -> Result<Gpa, Fault<Gva>> {
        let fault = match self.space.translate(va) {
            Ok(mapped) => return Ok(mapped.gpa),
            Err(fault) => fault,
        };
        let beside = self.beside(va, fault);
        beside
            .filter(|&gpa| self.phys().read(gpa, &mut [0]).is_ok())
            .ok_or(fault)
    }

    /// Where an address must lead that the tables do not map.
    fn beside(&self, va: Gva, fault: Fault<Gva>) -> Option<Gpa> {
        let damaged = matches!(
            fault.cause,
            Cause::NotMapped { .. } | Cause::Malformed { .. } | Cause::TableAbsent { .. }
        );
        let line = self.lines.iter().find(|line| line.range.contains(va));
        let gpa = line.filter(|_| damaged)?;
        self.used.fetch_add(1, Ordering::Relaxed);
        Some(Gpa(va.raw().wrapping_sub(gpa.shift)))
    }
}

impl Memory for Linear<'_> {
    type Addr = Gva;

    fn spans(&self, range: AddrRange<Gva>) -> Spans<'_, Gva> {
        self.space.spans(range)
    }

    fn read(&self, addr: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        let Err(first) = self.space.read(addr, buf) else {
            return Ok(());
        };
        if self.lines.is_empty() {
            return Err(first);
        }
        let mut at = 0;
        while at < buf.len() {
            let here = addr.checked_add(at as u64).ok_or(first)?;
            let len = (PAGE_SIZE - here.raw() % PAGE_SIZE).min((buf.len() - at) as u64) as usize;
            let piece = &mut buf[at..at + len];
            if let Err(fault) = self.space.read(here, piece) {
                // A fault may be of an address further on.
                let gpa = self.beside(here, fault).ok_or(fault)?;
                self.phys().read(gpa, piece).map_err(|_| fault)?;
            }
            at += len;
        }
        Ok(())
    }
}
