//! snapdiff.h: a moment of an address space, and what is different now.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::ops::ControlFlow;
use std::ptr;

use vmie::snapshot::{self, Change, ChangeKind, Filter, Snapshot, TakeError, TakeOptions};
use vmie::{Gva, Prot};

use crate::coverage;
use crate::error::{Code, Error};
use crate::guard::guard;
use crate::handle::{prot, range};
use crate::list::List;
use crate::memmodel::{CRegion, Mem, handle};
use crate::text::{destroy, shared};

/// `snapshot` of snapdiff.h.
pub struct Moment(Snapshot<Gva>);

const _: () = {
    const fn usable_from_any_thread<T: Send + Sync>() {}
    usable_from_any_thread::<Moment>();
};

/// See snapdiff.h.
///
/// # Safety
///
/// `m` is NULL or an open handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn snap_take(
    m: *mut Mem,
    cr3: usize,
    lo: u64,
    hi: u64,
    prot_any: u32,
) -> *mut Moment {
    guard(ptr::null_mut(), || {
        coverage::clear();
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        let options = TakeOptions {
            range: range(lo, hi)?,
            filter: Filter {
                all: Prot::NONE,
                any: prot(prot_any)?,
            },
            max_bytes: m.session.sweep_bound(),
            max_kept: snapshot::memory_available(),
        };
        let space = m.space(cr3)?;
        let taken = snapshot::take(&*space.memory, &options, m.run());
        let taken = taken.map_err(not_taken)?;
        let covered = taken.coverage();
        if covered.is_complete() {
            // Also when nothing is mapped there, which is something to compare with.
            coverage::set(covered, false);
        } else {
            coverage::searched(covered, false)?;
        }
        Ok(Box::into_raw(Box::new(Moment(taken))))
    })
}

fn not_taken(error: TakeError) -> Error {
    Error::new(Code::Limit, error.to_string())
}

/// See snapdiff.h.
///
/// # Safety
///
/// `s` is NULL, or came from `snap_take`, was not freed, and is not in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn snap_free(s: *mut Moment) {
    // SAFETY: the caller's contract.
    unsafe { destroy(s) };
}

/// See snapdiff.h.
///
/// # Safety
///
/// `s` is NULL or a snapshot, `m` is NULL or an open handle, and `changed` is NULL or has room for `max` regions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn snap_diff(
    s: *const Moment,
    m: *mut Mem,
    cr3: usize,
    changed: *mut CRegion,
    max: c_int,
) -> c_int {
    guard(-1, || {
        coverage::clear();
        // SAFETY: the caller's contract.
        let Moment(then) = unsafe { shared(s, "the snapshot") }?;
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        // SAFETY: the caller's contract.
        let list = unsafe { List::new(changed, max) }?;
        let space = m.space(cr3)?;
        let options = then.diff_options();
        let mut runs = Runs { list, open: None };
        let outcome = snapshot::diff(then, &*space.memory, &options, m.run(), |change| {
            if let Some((run, prot)) = counts(&change, options.filter) {
                runs.add(run, prot);
            }
            ControlFlow::Continue(())
        });
        let total = runs.finish();
        if total > 0 || outcome.coverage.is_complete() {
            coverage::set(&outcome.coverage, false);
        } else {
            coverage::searched(&outcome.coverage, false)?;
        }
        Ok(total)
    })
}

/// First address and length.
type Run = (u64, u64);

/// Whether a change is one of what has a bit that is asked for, and its current protection. What lost its last such
/// bit has disappeared, and what has got its first one appeared.
fn counts(change: &Change<Gva>, filter: Filter) -> Option<(Run, Prot)> {
    let run = ((change.start.0, change.len), change.prot);
    let counts = match change.kind {
        ChangeKind::Modified | ChangeKind::Appeared | ChangeKind::Disappeared => true,
        ChangeKind::Protection => filter.passes(change.was) != filter.passes(change.prot),
    };
    counts.then_some(run)
}

/// Joins runs that touch or lie over each other: bytes change in what has disappeared by its protection.
struct Runs {
    list: List<CRegion>,
    open: Option<(Run, Prot)>,
}

impl Runs {
    /// Takes runs in the order of their first addresses. What is at one address has one current protection.
    fn add(&mut self, (start, len): Run, prot: Prot) {
        if let Some(((first, so_far), same)) = &mut self.open
            && *same == prot
            && start - *first <= *so_far
        {
            *so_far = (*so_far).max(start - *first + len);
            return;
        }
        self.flush();
        self.open = Some(((start, len), prot));
    }

    fn flush(&mut self) {
        if let Some(((va, len), prot)) = self.open.take() {
            let prot = u32::from(prot.bits());
            self.list.push(CRegion { va, len, prot });
        }
    }

    fn finish(mut self) -> c_int {
        self.flush();
        self.list.total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(runs: &[(u64, u64, Prot)]) -> Vec<(u64, u64)> {
        let empty = CRegion {
            va: 0,
            len: 0,
            prot: 0,
        };
        let mut room = [empty; 8];
        // SAFETY: there is room for eight.
        let list = unsafe { List::new(room.as_mut_ptr(), 8) }.expect("8 is not negative");
        let mut all = Runs { list, open: None };
        for &(start, len, prot) in runs {
            all.add((start, len), prot);
        }
        let total = all.finish() as usize;
        room[..total].iter().map(|run| (run.va, run.len)).collect()
    }

    #[test]
    fn runs_that_touch_are_one() {
        let (r, w) = (Prot::R, Prot::W);
        assert_eq!(joined(&[(0, 4, r), (4, 4, r), (9, 1, r)]), [(0, 8), (9, 1)]);
        assert_eq!(joined(&[(0, 4, r), (4, 4, w)]), [(0, 4), (4, 4)]);
        // Bytes that changed in what has disappeared.
        let over = [(0, 0x1000, r), (4, 4, r), (0xffe, 4, r)];
        assert_eq!(joined(&over), [(0, 0x1002)]);
        assert_eq!(
            joined(&[(u64::MAX - 1, 1, r), (u64::MAX, 1, r)]),
            [(u64::MAX - 1, 2)]
        );
        assert_eq!(joined(&[]), []);
    }

    #[test]
    fn what_loses_or_gets_its_bits_counts() {
        let change = |was, prot| Change {
            start: Gva(0x1000),
            len: 0x1000,
            prot,
            was,
            kind: ChangeKind::Protection,
        };
        let writable = Filter {
            all: Prot::NONE,
            any: Prot::W,
        };
        let (r, rw) = (Prot::R, Prot::R.union(Prot::W));
        assert!(counts(&change(r, rw), writable).is_some());
        assert!(counts(&change(rw, r), writable).is_some());
        assert!(counts(&change(rw, rw.union(Prot::X)), writable).is_none());
        assert!(counts(&change(rw, r), Filter::default()).is_none());
    }
}
