//! Pieces and rows against a memory in which every byte is known.

use std::ops::ControlFlow;

use anstream::ColorChoice;
use vmie::{AddrRange, Address as _, Cause, Coverage, Gpa, Gva, Memory as _, PAGE_SIZE, Prot};

use super::pieces::{self, Piece};
use super::views::{Asm, Hex16, Rows, View, Words64};
use crate::asm::Bits;
use crate::names::Names;
use crate::output::{Format, Output, Sink, SpaceKind, totals};
use crate::report::{Level, Reporter};
use crate::testmem::TestMemory;

/// What a page of the fake memory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Page {
    Present,
    Absent,
    Lost,
    Unmapped,
}

/// Pages from `BASE` on; nothing before and behind.
struct Fake {
    pages: Vec<Page>,
    memory: TestMemory<Gva>,
}

const BASE: u64 = 0x10_0000;

impl Fake {
    fn new(pages: Vec<Page>) -> Self {
        let mut memory = TestMemory::new();
        for (start, page) in (BASE..).step_by(PAGE_SIZE as usize).zip(&pages) {
            let bytes: Vec<u8> = (start..start + PAGE_SIZE).map(Self::byte).collect();
            memory = match page {
                Page::Present => memory.part(start, &bytes, Prot::R),
                Page::Absent => memory.part(start, &bytes, Prot::R).absent(start, PAGE_SIZE),
                Page::Lost => memory.lost(start, PAGE_SIZE),
                Page::Unmapped => memory,
            };
        }
        Self { pages, memory }
    }

    fn page(&self, addr: u64) -> Page {
        let index = addr
            .checked_sub(BASE)
            .map(|offset| (offset / PAGE_SIZE) as usize);
        let page = index.and_then(|index| self.pages.get(index));
        page.copied().unwrap_or(Page::Unmapped)
    }

    fn byte(addr: u64) -> u8 {
        (addr.wrapping_mul(0x9e37_79b9) >> 11) as u8
    }

    fn cause(&self, addr: u64) -> Option<Cause> {
        let at = Gpa(addr);
        match self.page(addr) {
            Page::Present => None,
            Page::Absent => Some(Cause::Absent { gpa: at }),
            Page::Lost => Some(Cause::TableAbsent {
                level: 1,
                table: at,
            }),
            Page::Unmapped => Some(Cause::NotMapped {
                level: 1,
                at,
                entry: 0,
            }),
        }
    }
}

/// Every arrangement of five pages, and one that is longer than a piece.
fn memories() -> impl Iterator<Item = Fake> {
    const KINDS: [Page; 4] = [Page::Present, Page::Absent, Page::Lost, Page::Unmapped];
    let small =
        (0..1024_usize).map(|n| Fake::new((0..5).map(|i| KINDS[n >> (2 * i) & 3]).collect()));
    let mut long = vec![Page::Present; 200];
    long[130] = Page::Absent;
    small.chain([Fake::new(long)])
}

/// The reference implementation: byte by byte, runs of one kind of answer joined.
fn naive(memory: &Fake, range: AddrRange<Gva>) -> Vec<(u64, u64, Option<&'static str>)> {
    let mut parts: Vec<(u64, u64, Option<&'static str>)> = Vec::new();
    for addr in range.start().0..=range.last().0 {
        let label = memory.cause(addr).map(Cause::label);
        match parts.last_mut() {
            Some(last) if last.2 == label => last.1 += 1,
            _ => parts.push((addr, 1, label)),
        }
    }
    parts
}

#[test]
fn pieces_are_what_is_there() {
    for memory in memories() {
        let len = memory.pages.len() as u64 * PAGE_SIZE;
        for range in [
            AddrRange::new(Gva(BASE - 10), len + 20),
            AddrRange::new(Gva(BASE + 7), len - 9),
        ] {
            let range = range.expect("not empty");
            let mut parts: Vec<(u64, u64, Option<&'static str>)> = Vec::new();
            let mut coverage = Coverage::default();
            let flow = pieces::walk(&memory.memory, range, &mut coverage, &mut |piece| {
                match piece {
                    Piece::Bytes { start, bytes } => {
                        for (offset, &byte) in bytes.iter().enumerate() {
                            assert_eq!(byte, Fake::byte(start.0 + offset as u64));
                        }
                        match parts.last_mut() {
                            Some(last) if last.2.is_none() => last.1 += bytes.len() as u64,
                            _ => parts.push((start.0, bytes.len() as u64, None)),
                        }
                    }
                    Piece::Gap { start, len, cause } => {
                        parts.push((start.0, len, Some(cause.label())));
                    }
                }
                Ok(ControlFlow::Continue(()))
            });
            assert!(flow.is_ok_and(|flow| flow.is_continue()));
            assert_eq!(parts, naive(&memory, range), "{:?}", memory.pages);
            let all = coverage.read + coverage.absent + coverage.lost + coverage.unmapped;
            assert_eq!(all, range.len());
        }
    }
}

/// Rows of `pieces`, each a run's bytes as they come, as JSON lines.
fn rows<V: View>(
    view: V,
    memory: &TestMemory<Gva>,
    range: AddrRange<Gva>,
    pieces: &[&[u8]],
) -> String {
    let reporter = Reporter::new(Level::Quiet, ColorChoice::Never);
    let output = Output {
        format: Format::Jsonl,
        color: false,
        terminal: false,
        width: None,
        limit: None,
    };
    let mut out = Vec::new();
    let sink = Sink::new(
        output,
        <V::Row as vmie_rows::Row>::SHAPE,
        SpaceKind::Virtual,
        &reporter,
        Box::new(&mut out),
    );
    let mut rows = Rows::new(view, sink, None);
    let mut at = range.start();
    for bytes in pieces {
        let flow = rows.piece(&Piece::Bytes { start: at, bytes });
        assert!(flow.is_ok_and(|flow| flow.is_continue()));
        at = at.checked_add(bytes.len() as u64).expect("does not wrap");
    }
    rows.end(memory, range).expect("a Vec takes every byte");
    rows.finish(&totals(&Coverage::<Gva>::default()))
        .expect("a Vec takes every byte");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn rows_do_not_depend_on_how_the_bytes_come() {
    let memory = Fake::new(vec![Page::Present; 2]).memory;
    let range = AddrRange::new(Gva(BASE + 3), 300).expect("not empty");
    let mut bytes = vec![0; 300];
    memory.read(range.start(), &mut bytes).expect("present");
    let check = |name: &str, of: &dyn Fn(&[&[u8]]) -> String| {
        let whole = of(&[&bytes]);
        assert!(whole.lines().count() > 10, "{name}");
        for size in [1, 2, 3, 7, 16, 64] {
            let parts: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(of(&parts), whole, "{name}, pieces of {size}");
        }
    };
    check("hex", &|parts| rows(Hex16, &memory, range, parts));
    let names = &Names::of_saved(None, &Reporter::new(Level::Quiet, ColorChoice::Never));
    check("u64", &|parts| {
        rows(Words64 { names }, &memory, range, parts)
    });
    check("asm", &|parts| {
        rows(
            Asm::new(
                Bits::B64,
                &Names::of_saved(
                    None,
                    &Reporter::new(Level::Quiet, anstream::ColorChoice::Never),
                ),
            ),
            &memory,
            range,
            parts,
        )
    });
}

#[test]
fn only_code_looks_behind_the_range() {
    let memory = Fake::new(vec![Page::Present; 2]).memory;
    let range = AddrRange::new(Gva(BASE), 20).expect("not empty");
    let mut bytes = vec![0; 20];
    memory.read(range.start(), &mut bytes).expect("present");
    let taken = |text: String| -> u64 {
        text.lines()
            .map(|line| {
                let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
                row["len"].as_u64().expect("a number")
            })
            .sum()
    };
    assert_eq!(taken(rows(Hex16, &memory, range, &[&bytes])), 20);
    let words = Words64 {
        names: &Names::of_saved(None, &Reporter::new(Level::Quiet, ColorChoice::Never)),
    };
    assert_eq!(taken(rows(words, &memory, range, &[&bytes])), 20);
    assert!(
        taken(rows(
            Asm::new(
                Bits::B64,
                &Names::of_saved(
                    None,
                    &Reporter::new(Level::Quiet, anstream::ColorChoice::Never)
                )
            ),
            &memory,
            range,
            &[&bytes]
        )) >= 20
    );
}
