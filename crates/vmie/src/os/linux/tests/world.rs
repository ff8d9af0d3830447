//! A kernel's memory made by hand: objects at addresses, and types that say how they look.

use std::collections::{BTreeMap, HashMap};

use vmie_synth::linux::Btf as Writer;

use crate::addr::{AddrRange, Address, Gpa, Gva};
use crate::memory::{Cause, Fault, Memory, Prot, Span, SpanKind, Spans};
use crate::os::linux::btf::Btf;
use crate::os::{SymbolTable, SymbolTableBuilder, Types};

const PAGE: u64 = 4096;

/// Where objects are put.
const HEAP: u64 = 0xffff_8880_0010_0000;

/// Memory of which only those pages are mapped that something was put into.
pub(in crate::os) struct World {
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
    /// What is mapped, but not in the image.
    lost: Vec<std::ops::Range<u64>>,
    next: u64,
    symbols: Vec<(&'static str, u64)>,
}

impl World {
    pub(in crate::os) fn new() -> Self {
        Self {
            pages: BTreeMap::new(),
            lost: Vec::new(),
            next: HEAP,
            symbols: Vec::new(),
        }
    }

    /// Room for an object, aligned to 256 bytes as the pickiest of them need.
    pub(in crate::os) fn room(&mut self, len: u64) -> u64 {
        let at = self.next;
        self.next += len.next_multiple_of(256);
        self.put(at, &vec![0; len as usize]);
        at
    }

    /// The same under a name.
    pub(in crate::os) fn symbol(&mut self, name: &'static str, len: u64) -> u64 {
        let at = self.room(len);
        self.symbols.push((name, at));
        at
    }

    pub(in crate::os) fn symbols(&self) -> SymbolTable {
        let mut symbols = SymbolTableBuilder::default();
        for &(name, va) in &self.symbols {
            symbols.push(name.as_bytes(), Gva(va), b'D');
        }
        symbols.build(AddrRange::new(Gva(HEAP), self.next - HEAP))
    }

    /// Maps what is needed and writes.
    pub(in crate::os) fn put(&mut self, at: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = at + done as u64;
            let page = self.pages.entry(at / PAGE);
            let page = page.or_insert_with(|| Box::new([0; PAGE as usize]));
            let room = &mut page[(at % PAGE) as usize..];
            let len = room.len().min(bytes.len() - done);
            room[..len].copy_from_slice(&bytes[done..done + len]);
            done += len;
        }
    }

    pub(in crate::os) fn put64(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    pub(in crate::os) fn put32(&mut self, at: u64, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    /// Takes bytes out of the image.
    pub(in crate::os) fn lose(&mut self, at: u64, len: u64) {
        self.lost.push(at..at + len);
    }

    /// All addresses in use, for tests that damage anything.
    pub(in crate::os) fn extent(&self) -> std::ops::Range<u64> {
        HEAP..self.next
    }

    /// Links nodes into a ring through `head`, which comes first.
    pub(in crate::os) fn ring(&mut self, head: u64, nodes: &[u64]) {
        let all: Vec<u64> = std::iter::once(head).chain(nodes.iter().copied()).collect();
        for (i, &node) in all.iter().enumerate() {
            let next = all[(i + 1) % all.len()];
            self.put64(node, next);
            self.put64(next + 8, node);
        }
    }
}

impl Memory for World {
    type Addr = Gva;

    fn spans(&self, range: AddrRange<Gva>) -> Spans<'_, Gva> {
        let page = move |page: &u64| {
            let page = AddrRange::new(Gva(page * PAGE), PAGE)?;
            let part = page.intersect(range)?;
            Some(Span {
                start: part.start(),
                len: part.len(),
                kind: SpanKind::Mapped(Prot::R),
            })
        };
        Box::new(self.pages.keys().filter_map(page))
    }

    fn read(&self, addr: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        let mut done = 0;
        while done < buf.len() {
            let at = addr.raw().wrapping_add(done as u64);
            let page = self.pages.get(&(at / PAGE)).ok_or(Fault {
                addr: Gva(at),
                cause: Cause::NotMapped {
                    level: 1,
                    at: Gpa(0x1000),
                    entry: 0,
                },
            })?;
            let lost = |at| self.lost.iter().any(|lost| lost.contains(&at));
            if lost(at) {
                return Err(Fault {
                    addr: Gva(at),
                    cause: Cause::Absent {
                        gpa: Gpa(at & 0xffff_ffff),
                    },
                });
            }
            let rest = &page[(at % PAGE) as usize..];
            let next = self.lost.iter().filter(|lost| lost.start > at);
            let good = next.map(|lost| (lost.start - at) as usize).min();
            let len = rest.len().min(buf.len() - done);
            let len = good.map_or(len, |good| good.min(len));
            buf[done..done + len].copy_from_slice(&rest[..len]);
            done += len;
        }
        Ok(())
    }
}

/// Name, size, and members: name, type and offset in bytes.
pub(in crate::os) type Definition<'d> = (&'d str, u32, &'d [(&'d str, &'d str, u32)]);

/// Types from definitions, each of which may use those before it. Members are of type `ptr`, `char`,
/// `u8`, `u16`, `u32`, `u64`, of a record, or an array of one, as in `char[16]`.
pub(in crate::os) fn types(
    definitions: &[Definition<'_>],
    enums: &[(&str, &[(&str, i32)])],
) -> Types {
    let mut writer = Writer::default();
    let mut known: HashMap<String, u32> = HashMap::new();
    let long = writer.int("u64", 8, 0);
    let void = writer.pointer(0);
    known.extend([("u64".to_owned(), long), ("ptr".to_owned(), void)]);
    for (name, size) in [("u32", 4), ("u16", 2), ("u8", 1), ("char", 1)] {
        known.insert(name.to_owned(), writer.int(name, size, 0));
    }
    for &(name, values) in enums {
        writer.enumeration(name, false, values);
    }
    for &(name, size, members) in definitions {
        let members: Vec<(&str, u32, u32)> = members
            .iter()
            .map(|&(member, ty, offset)| {
                let ty = match ty.split_once('[') {
                    Some((element, count)) => {
                        let count = count.trim_end_matches(']').parse().expect("a count");
                        writer.array(known[element], long, count)
                    }
                    None => known[ty],
                };
                (member, ty, offset * 8)
            })
            .collect();
        let id = writer.structure(name, size, &members);
        known.insert(name.to_owned(), id);
    }
    let btf = Btf::parse(writer.bytes()).expect("well-formed");
    Types::new(Box::new(btf))
}
