//! What the search for a kernel goes over memory for, in as few passes as will do.
//!
//! A glance at the start of every page finds notes; it touches one cache line of each, and ends with
//! the first note that verifies. Only when none does is all of memory searched for digit tokens.

use std::ops::ControlFlow;

use super::kallsyms::{self, DIGITS, Kallsyms, NotFound};
use super::log::{Log, MAX_CANDIDATES};
use super::vmcoreinfo;
use crate::addr::{AddrRange, Address, Gpa, PAGE_SIZE};
use crate::memory::{Memory, Prot};
use crate::sweep::{Stretch, Stretches, SweepOptions};

/// How many runs of digits are looked at. Real memory has dozens.
const MAX_DIGITS: usize = 200_000;

/// Bytes that are searched at a time where memory has to be copied.
const CHUNK: usize = 1 << 20;

/// Calls `found` for each page that starts like a VMCOREINFO note; answers how many pages there were.
pub(super) fn each_note(
    phys: &dyn Memory<Addr = Gpa>,
    mut found: impl FnMut(Gpa) -> ControlFlow<()>,
) -> u64 {
    let mut pages = 0;
    let _ = each_chunk(
        phys,
        AddrRange::all(),
        |_| true,
        0,
        |start, bytes| {
            let skip = (start.raw().wrapping_neg() % PAGE_SIZE) as usize;
            for at in (skip..bytes.len()).step_by(PAGE_SIZE as usize) {
                pages += 1;
                if vmcoreinfo::is_note(&bytes[at..]) {
                    found(Gpa(start.raw() + at as u64))?;
                }
            }
            ControlFlow::Continue(())
        },
    );
    pages
}

/// How many token tables are salvaged from damage before giving up.
const MAX_SALVAGED: usize = 8;

/// Looks for token tables by their digits, where `keep` accepts the protection, and answers the first find that `accept` makes something of.
/// With `salvage`, tables of which parts are damaged count as well.
pub(super) fn each_table<A: Address, R>(
    memory: &dyn Memory<Addr = A>,
    range: AddrRange<A>,
    keep: impl Fn(Prot) -> bool + Send,
    salvage: bool,
    log: &mut Log,
    mut accept: impl FnMut(Kallsyms<A>, &mut Log) -> Option<R>,
) -> Option<R> {
    let finder = memchr::memmem::Finder::new(DIGITS);
    let (mut runs, mut tables, mut salvaged) = (0, 0, 0);
    let mut accepted = None;
    let _ = each_chunk(memory, range, keep, DIGITS.len() - 1, |start, bytes| {
        for at in finder.find_iter(bytes) {
            runs += 1;
            let digits = A::new(start.raw() + at as u64);
            match kallsyms::locate(memory, digits) {
                Ok(found) => {
                    tables += 1;
                    accepted = accept(found, log);
                }
                Err(seen) => {
                    if let NotFound::Table(seen) = seen {
                        tables += 1;
                        log.say("kallsyms", seen);
                    }
                    if salvage && salvaged < MAX_SALVAGED {
                        match kallsyms::around_digits(memory, digits) {
                            Ok(found) => {
                                salvaged += 1;
                                accepted = accept(found, log);
                            }
                            Err(NotFound::Table(why)) => {
                                salvaged += 1;
                                log.say("kallsyms", why);
                            }
                            // Most runs of digits are not part of a table at all.
                            Err(NotFound::NoTable) => {}
                        }
                    }
                }
            }
            if accepted.is_some() || tables == MAX_CANDIDATES || runs == MAX_DIGITS {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    if tables == 0 {
        log.say(
            "kallsyms",
            format!("no token table; {runs} runs of digits are not part of one"),
        );
    }
    accepted
}

/// Goes over what is readable of a memory and of a protection that `keep` accepts, piece by piece and
/// in ascending order. A piece does not
/// reach over a hole, and starts `overlap` bytes before the end of the one before it when there is no
/// hole between them.
pub(super) fn each_chunk<A: Address>(
    memory: &dyn Memory<Addr = A>,
    range: AddrRange<A>,
    keep: impl Fn(Prot) -> bool + Send,
    overlap: usize,
    mut look: impl FnMut(A, &[u8]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let options = SweepOptions {
        range: Some(range),
        part: true,
        window: CHUNK,
        behind: overlap,
        max_bytes: u64::MAX,
        ..SweepOptions::default()
    };
    let mut stretches = Stretches::new(memory, &options).keeping(keep);
    while let Some(stretch) = stretches.next() {
        if let Stretch::Bytes { start, bytes, .. } = stretch {
            look(start, bytes)?;
        }
    }
    ControlFlow::Continue(())
}
