//! The reference implementation of the comparison, for tests.

use super::segments::State;
use super::{Change, ChangeKind, DiffOptions};
use crate::addr::{AddrRange, Address};
use crate::memory::{Cause, Memory, Prot};

/// Asks both sides about each byte: the reference implementation of [`diff`](super::diff()) for tests.
pub(in crate::snapshot) fn naive<A: Address>(
    before: &dyn Memory<Addr = A>,
    after: &dyn Memory<Addr = A>,
    options: &DiffOptions<A>,
) -> (Vec<Change<A>>, [u64; 3]) {
    let state = |memory: &dyn Memory<Addr = A>, at: A| {
        let mut spans = memory.spans(AddrRange::new(at, 1).expect("a byte"));
        spans
            .next()
            .map_or(State::Nothing, |span| State::of(span.kind))
    };
    let byte = |memory: &dyn Memory<Addr = A>, at: A| {
        let mut byte = [0];
        memory.read(at, &mut byte).map(|()| byte[0])
    };
    let mut rows: Vec<Change<A>> = Vec::new();
    let mut totals = [0; 3];
    let [compared, unreadable, lost] = &mut totals;
    let mut add = |at: A, kind, was, prot| {
        let same = |row: &&mut Change<A>| row.kind == kind && row.prot == prot;
        let same = |row: &&mut Change<A>| {
            same(row)
                && (kind == ChangeKind::Modified || row.was == was)
                && row.start.raw() + row.len == at.raw()
        };
        match rows.iter_mut().rev().find(same) {
            Some(row) => row.len += 1,
            None => rows.push(Change {
                start: at,
                len: 1,
                prot,
                was,
                kind,
            }),
        }
    };
    for at in options.range.start().raw()..=options.range.last().raw() {
        let at = A::new(at);
        let (one, other) = (state(before, at), state(after, at));
        let is_lost = |state| matches!(state, State::Lost(cause) if cause != Cause::NotCaptured);
        let is_left_out = |state| matches!(state, State::Lost(Cause::NotCaptured));
        if is_left_out(one) || is_left_out(other) {
            continue;
        }
        if is_lost(one) || is_lost(other) {
            *lost += 1;
            continue;
        }
        if !one.passes(options.filter) && !other.passes(options.filter) {
            continue;
        }
        match (one, other) {
            (State::Nothing, State::Mapped(prot)) => {
                add(at, ChangeKind::Appeared, Prot::NONE, prot);
            }
            (State::Mapped(was), State::Nothing) => {
                add(at, ChangeKind::Disappeared, was, Prot::NONE);
            }
            (State::Mapped(was), State::Mapped(prot)) => {
                if was != prot {
                    add(at, ChangeKind::Protection, was, prot);
                }
                match (byte(before, at), byte(after, at)) {
                    (Ok(one), Ok(other)) => {
                        *compared += 1;
                        if one != other {
                            add(at, ChangeKind::Modified, was, prot);
                        }
                    }
                    (one, other) => {
                        let left_out = |side: &Result<u8, crate::Fault<A>>| matches!(side, Err(fault) if fault.cause == Cause::NotCaptured);
                        if !left_out(&one) && !left_out(&other) {
                            *unreadable += 1;
                        }
                    }
                }
            }
            _ => {}
        }
    }
    rows.sort_by_key(|row| (row.start, row.kind));
    (rows, totals)
}
