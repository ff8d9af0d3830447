//! Looking at memory without trusting it: protections, words, bytes with holes.

use std::collections::HashMap;

use super::MAX_LEN;
use super::vtable::Vtable;
use crate::addr::{AddrRange, Address, PAGE_SIZE};
use crate::memory::{Cause, Memory, Prot, read_around_holes};
use crate::pointers::Width;

/// How many pages and tables are remembered before everything is forgotten again.
const REMEMBERED: usize = 1 << 16;

/// Numbers below this are no pointers: no system maps it for programs, and most small integers would be
/// pointers in a memory that begins at zero, as physical memory does.
const LOWEST: u64 = 0x1_0000;

/// A memory, and what is known of it.
pub(super) struct Look<'m, A: Address> {
    memory: &'m dyn Memory<Addr = A>,
    pub(super) width: Width,
    /// The mapped parts of pages, by page.
    pages: HashMap<u64, Vec<(u64, u64, Prot)>>,
    pub(super) vtables: HashMap<u64, Option<Vtable>>,
}

/// Bytes of an instance.
pub(super) struct Bytes {
    /// Address of the first one.
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
    /// First offset, offset behind the last, why; ascending.
    pub(super) holes: Vec<(usize, usize, Cause)>,
}

impl Bytes {
    /// Whether all of this part was read.
    pub(super) fn is_read(&self, from: usize, to: usize) -> bool {
        self.holes.iter().all(|hole| hole.1 <= from || to <= hole.0)
    }
}

impl<'m, A: Address> Look<'m, A> {
    pub(super) fn new(memory: &'m dyn Memory<Addr = A>, width: Width) -> Self {
        Self {
            memory,
            width,
            pages: HashMap::new(),
            vtables: HashMap::new(),
        }
    }

    /// The bytes from `at` on: what there is of them.
    pub(super) fn bytes(&self, at: u64, len: u64) -> Bytes {
        let len = len.min(MAX_LEN).min((u64::MAX - at).saturating_add(1)) as usize;
        let mut bytes = vec![0; len];
        let mut holes: Vec<(usize, usize, Cause)> = Vec::new();
        read_around_holes(
            self.memory,
            A::new(at),
            &mut bytes,
            PAGE_SIZE,
            |from, len, fault| match holes.last_mut() {
                Some(last) if last.1 == from && last.2.label() == fault.cause.label() => {
                    last.1 = from + len;
                }
                _ => holes.push((from, from + len, fault.cause)),
            },
        );
        // What a failed read leaves behind is not specified.
        for &(from, to, _) in &holes {
            bytes[from..to].fill(0);
        }
        Bytes { at, bytes, holes }
    }

    /// Reads what can be read from `at` on, at most `N` bytes.
    pub(super) fn some<const N: usize>(&self, at: u64) -> Vec<u8> {
        let room = (u64::MAX - at).saturating_add(1).min(N as u64) as usize;
        let mut buf = vec![0; room];
        let good = match self.memory.read(A::new(at), &mut buf) {
            Ok(()) => room,
            Err(fault) => usize::try_from(fault.addr.raw().saturating_sub(at)).unwrap_or(0),
        };
        buf.truncate(good.min(room));
        buf
    }

    /// The word at `at`.
    pub(super) fn word(&self, at: u64) -> Option<u64> {
        word(&self.some::<8>(at), self.width)
    }

    /// The 32-bit number at `at`.
    pub(super) fn u32(&self, at: u64) -> Option<u32> {
        self.memory.read_u32(A::new(at)).ok()
    }

    /// What may be done at `at`; `None` where nothing is mapped or that is not known.
    pub(super) fn prot(&mut self, at: u64) -> Option<Prot> {
        if self.pages.len() > REMEMBERED {
            self.pages.clear();
        }
        let page = at & !(PAGE_SIZE - 1);
        let memory = self.memory;
        let parts = self.pages.entry(page).or_insert_with(|| {
            let range = AddrRange::inclusive(A::new(page), A::new(page | (PAGE_SIZE - 1)));
            let regions = range.into_iter().flat_map(|range| memory.regions(range));
            regions
                .map(|region| {
                    let range = region.range();
                    (range.start().raw(), range.last().raw(), region.prot)
                })
                .collect()
        });
        parts
            .iter()
            .find(|part| part.0 <= at && at <= part.1)
            .map(|part| part.2)
    }

    /// What may be done where a pointer leads; `None` for what is no pointer.
    pub(super) fn pointee(&mut self, value: u64) -> Option<Prot> {
        (value >= LOWEST).then(|| self.prot(value)).flatten()
    }

    /// Whether a pointer leads to code: what may be written too is more often data.
    pub(super) fn is_code(&mut self, value: u64) -> bool {
        self.pointee(value)
            .is_some_and(|prot| prot.exec() && !prot.write())
    }

    /// Whether all pages from `first` to `last` are mapped, so that a program can use them as one piece.
    /// Looks at no more than the first and last 16 of them.
    pub(super) fn one_piece(&mut self, first: u64, last: u64) -> bool {
        let pages = (last / PAGE_SIZE) - (first / PAGE_SIZE);
        let near = (0..=pages.min(15)).map(|page| (first / PAGE_SIZE + page) * PAGE_SIZE);
        let far = (0..=pages.min(15)).map(|page| (last / PAGE_SIZE - page) * PAGE_SIZE);
        near.chain(far)
            .map(|page| page.clamp(first, last))
            .all(|at| self.prot(at).is_some())
    }
}

/// The word that `bytes` begin with.
pub(super) fn word(bytes: &[u8], width: Width) -> Option<u64> {
    match width {
        Width::Four => u32_at(bytes, 0).map(u64::from),
        Width::Eight => Some(u64::from_le_bytes(*bytes.first_chunk()?)),
    }
}

/// The 32-bit number at an offset.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
