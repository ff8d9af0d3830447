//! scan.h: searches through an address space.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ops::ControlFlow::{Break, Continue};

use vmie::pointers::{BuildError, PathOptions, PointerOptions, find_paths_once};
use vmie::scan::{Match, Run, Selection, scan_each};
use vmie::search::{Amount, Finder, Inexact, Query, ValueError, ValueQuery, ValueType};
use vmie::signature::Set;
use vmie::xref::{CodeBits, XrefKind, Xrefs};
use vmie::{
    Address as _, DEFAULT_WINDOW, Found, Gva, MAX_WINDOW, Piece, Prot, Scanner, SweepOptions,
    Window, quiet, sweep,
};

use crate::coverage::{self, searched};
use crate::error::{Code, Error};
use crate::guard::guard;
use crate::handle::{Mem, Space, asked, prot, range};
use crate::list::List;
use crate::memmodel::handle;
use crate::sigscan::{CSig, CSigset};
use crate::text::shared;

/// `SCAN_PATH_DEPTH`.
const PATH_DEPTH: usize = 8;

/// `scan_window`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CWindow {
    va: u64,
    bytes: *const u8,
    len: usize,
    owned: usize,
}

/// `scan_window_fn`.
pub type WindowFn = unsafe extern "C" fn(*const CWindow, *mut c_void) -> c_int;

/// `sig_match`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct CMatch {
    va: u64,
    sig: u32,
    reserved: u32,
}

/// `code_xref`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct CXref {
    va: u64,
    target: u64,
    kind: u32,
    len: u16,
    linear: u16,
}

/// `gva_value`.
#[derive(Clone, Copy)]
#[repr(C)]
pub union CValue {
    u: u64,
    i: i64,
    f: f64,
}

/// `value_hit`. Of the value the bits, as the member that goes with the type has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct CHit {
    va: u64,
    value: u64,
}

/// `scan_path`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct CPath {
    base: u64,
    depth: u32,
    reserved: u32,
    offsets: [i64; PATH_DEPTH],
}

const _: () = {
    assert!(size_of::<CMatch>() == 16);
    assert!(size_of::<CXref>() == 24);
    assert!(size_of::<CValue>() == 8);
    assert!(size_of::<CHit>() == 16);
    assert!(size_of::<CPath>() == 80);
};

/// Sends a scanner over a space, and fails when nothing of it could be looked at.
pub(crate) fn find<S: Scanner>(
    space: &Space,
    scanner: &S,
    selection: &Selection<Gva>,
    run: Run<'_>,
    mut each: impl FnMut(Gva, S::Item),
) -> Result<(), Error> {
    let emit = |found: Match<Gva, S::Item>| {
        each(found.start, found.item);
        Continue(())
    };
    let outcome = match &space.tables {
        Some(tables) => scan_each(tables, scanner, selection, run, emit),
        None => scan_each(&*space.memory, scanner, selection, run, emit),
    };
    searched(&outcome.coverage, outcome.stopped)
}

/// `[lo, hi]`, where memory allows all of `prot_all`.
pub(crate) fn selection(lo: u64, hi: u64, prot_all: u32) -> Result<Selection<Gva>, Error> {
    let range = asked(range(lo, hi)?);
    Ok(Selection::all().range(range).perm(prot(prot_all)?))
}

/// A window on its way to the caller: a copy, so that it stays as it is while it is looked at.
struct Copy {
    va: u64,
    bytes: Vec<u8>,
    owned: usize,
}

/// See scan.h.
///
/// # Safety
///
/// `m` is NULL or an open handle. `callback` is NULL or may be called with `user`, and returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gva_sweep(
    m: *mut Mem,
    cr3: usize,
    lo: u64,
    hi: u64,
    prot_all: u32,
    window: usize,
    overlap: usize,
    callback: Option<WindowFn>,
    user: *mut c_void,
) -> c_int {
    guard(-1, || {
        coverage::clear();
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        let callback = callback.ok_or_else(|| Error::argument("the callback is NULL"))?;
        let most = window.max(overlap);
        if most > MAX_WINDOW {
            return Err(Error::argument(format!(
                "{most:#x} bytes; windows and overlaps have up to {MAX_WINDOW:#x}"
            )));
        }
        let selection = selection(lo, hi, prot_all)?;
        let options = SweepOptions {
            range: selection.range,
            perm: selection.perm,
            window: if window == 0 { DEFAULT_WINDOW } else { window },
            overlap,
            // A window is copied when the one before has been looked at, so there is never more than one.
            threads: 1,
            max_bytes: m.session.sweep_bound(),
            ..SweepOptions::default()
        };
        let space = m.space(cr3)?;
        let outcome = sweep(
            &*space.memory,
            &options,
            &mut quiet,
            |window: &Window<'_, Gva>, found: &mut Found<Copy>| {
                found.push(Copy {
                    va: window.start.raw(),
                    bytes: window.bytes.to_vec(),
                    owned: window.owned,
                });
            },
            |copy| {
                let window = CWindow {
                    va: copy.va,
                    bytes: copy.bytes.as_ptr(),
                    len: copy.bytes.len(),
                    owned: copy.owned,
                };
                // SAFETY: the caller's contract; the window lives until the callback has returned.
                match unsafe { callback(&raw const window, user) } {
                    0 => Continue(()),
                    _ => Break(()),
                }
            },
        );
        searched(&outcome.coverage, outcome.stopped)?;
        Ok(outcome.stopped.into())
    })
}

/// See scan.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `sig` is NULL or not freed; `out` is NULL or has room for `max` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gva_sig_scan(
    m: *mut Mem,
    cr3: usize,
    lo: u64,
    hi: u64,
    prot_all: u32,
    sig: *const CSig,
    out: *mut u64,
    max: c_int,
) -> c_int {
    guard(-1, || {
        coverage::clear();
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        // SAFETY: the caller's contract.
        let sig = unsafe { shared(sig, "the vmie_sig") }?;
        // SAFETY: the caller's contract.
        let mut list = unsafe { List::new(out, max) }?;
        let selection = selection(lo, hi, prot_all)?;
        find(&m.space(cr3)?, &sig.set, &selection, m.run(), |at, _| {
            list.push(at.raw());
        })?;
        Ok(list.total())
    })
}

/// See scan.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `set` is NULL or not freed; `out` is NULL or has room for `max` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gva_sig_scan_multi(
    m: *mut Mem,
    cr3: usize,
    lo: u64,
    hi: u64,
    prot_all: u32,
    set: *const CSigset,
    out: *mut CMatch,
    max: c_int,
) -> c_int {
    guard(-1, || {
        coverage::clear();
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        // SAFETY: the caller's contract.
        let set: &Set = unsafe { shared(set, "the sigset") }.map(|set| &set.set)?;
        // SAFETY: the caller's contract.
        let mut list = unsafe { List::new(out, max) }?;
        let selection = selection(lo, hi, prot_all)?;
        find(&m.space(cr3)?, set, &selection, m.run(), |at, matched| {
            list.push(CMatch {
                va: at.raw(),
                // Sets have at most some millions of signatures.
                sig: u32::try_from(matched.sig).unwrap_or(u32::MAX),
                reserved: 0,
            });
        })?;
        Ok(list.total())
    })
}

fn kind_number(kind: XrefKind) -> u32 {
    match kind {
        XrefKind::Call => 1,
        XrefKind::Jump => 2,
        XrefKind::Branch => 3,
        XrefKind::CallThrough => 4,
        XrefKind::JumpThrough => 5,
        XrefKind::Address => 6,
        XrefKind::Memory => 7,
        XrefKind::Immediate => 8,
    }
}

/// See scan.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `out` is NULL or has room for `max` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gva_code_xref(
    m: *mut Mem,
    cr3: usize,
    lo: u64,
    hi: u64,
    prot_all: u32,
    bits: c_int,
    target_lo: u64,
    target_hi: u64,
    out: *mut CXref,
    max: c_int,
) -> c_int {
    guard(-1, || {
        coverage::clear();
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        // SAFETY: the caller's contract.
        let mut list = unsafe { List::new(out, max) }?;
        let targets = range(target_lo, target_hi)?;
        let prot_all = match prot_all {
            0 => Prot::X.bits().into(),
            some => some,
        };
        let selection = selection(lo, hi, prot_all)?;
        let space = m.space(cr3)?;
        let Some(mode) = space.mode else {
            return Err(Error::argument(
                "code refers to virtual addresses; a cr3 is needed",
            ));
        };
        let usual = |va| m.width(&space, va).code.unwrap_or(CodeBits::B64);
        // A 32-bit program's half and the kernel's may be asked for together.
        let passes = match bits {
            0 => match (usual(lo), usual(hi)) {
                (low, high) if low != high => vec![(low, true), (high, false)],
                (both, _) => vec![(both, true)],
            },
            32 => vec![(CodeBits::B32, true)],
            64 => vec![(CodeBits::B64, true)],
            _ => {
                return Err(Error::argument(format!(
                    "bits is {bits}; expected 0, 32 or 64"
                )));
            }
        };
        let both = passes.len() > 1;
        let user = mode.user_range::<Gva>();
        let is_user = |at| user.is_none_or(|half| half.contains(at));
        for (bits, of_user) in passes {
            let xrefs = Xrefs::to(targets, mode.architecture().code(bits));
            find(&space, &xrefs, &selection, m.run(), |at, xref| {
                if !both || is_user(at) == of_user {
                    list.push(CXref {
                        va: at.raw(),
                        target: xref.target.raw(),
                        kind: kind_number(xref.kind),
                        len: xref.len.into(),
                        linear: xref.linear.into(),
                    });
                }
            })?;
        }
        Ok(list.total())
    })
}

/// What a value is asked to be, as C says it.
pub(crate) struct Wanted {
    /// As the command would take it.
    pub(crate) text: String,
    /// Whether it is one value, and not a range.
    one: bool,
}

impl Wanted {
    /// From `low` to `high`, or equal to `low`.
    ///
    /// # Safety
    ///
    /// `low` and `high` have the member that goes with the type.
    pub(crate) unsafe fn new(ty: ValueType, low: CValue, high: Option<CValue>) -> Self {
        let show = |value: CValue| match ty {
            ValueType::F32 | ValueType::F64 => {
                // SAFETY: any bits are a double.
                let float = unsafe { value.f };
                // As few digits as tell it from its neighbours: all of a large one would be a whole number.
                format!("{float:e}")
            }
            ValueType::I8 | ValueType::I16 | ValueType::I32 | ValueType::I64 => {
                // SAFETY: any bits are a number.
                let signed = unsafe { value.i };
                signed.to_string()
            }
            _ => {
                // SAFETY: any bits are a number.
                let unsigned = unsafe { value.u };
                unsigned.to_string()
            }
        };
        let (low, high) = (show(low), high.map(show));
        let (text, one) = match high {
            // Two that are no numbers make no range.
            Some(high) if high != low => (format!("{low}..={high}"), false),
            _ => (low, true),
        };
        Self { text, one }
    }

    pub(crate) fn query(&self, ty: ValueType) -> Result<ValueQuery, Error> {
        self.read(|notes| ValueQuery::parse_noting(ty, &self.text, notes))
    }

    /// The same as an amount.
    pub(crate) fn amount(&self, ty: ValueType) -> Result<Amount, Error> {
        self.read(|notes| Amount::parse_noting(ty, &self.text, notes))
    }

    fn read<T>(
        &self,
        parse: impl FnOnce(&mut Vec<Inexact>) -> Result<T, ValueError>,
    ) -> Result<T, Error> {
        let mut notes = Vec::new();
        let read = parse(&mut notes).map_err(|error| Error::argument(error.to_string()))?;
        // The bounds of a range mean what they say. One value that the type does not have is nowhere.
        match notes.first().filter(|_| self.one) {
            Some(note) => Err(Error::argument(note.to_string())),
            None => Ok(read),
        }
    }
}

/// What `gva_value_scan` looks for.
pub(crate) struct Values {
    pub(crate) ty: ValueType,
    pub(crate) wanted: Wanted,
    pub(crate) finder: Finder,
}

impl Values {
    /// # Safety
    ///
    /// `low` and `high` are NULL or valid, with the member that goes with the type.
    pub(crate) unsafe fn new(
        ty: c_int,
        low: *const CValue,
        high: *const CValue,
        align: u32,
    ) -> Result<Self, Error> {
        let ty = usize::try_from(ty)
            .ok()
            .and_then(|number| ValueType::ALL.get(number.checked_sub(1)?).copied())
            .ok_or_else(|| Error::argument(format!("{ty} is no VALUE_ type")))?;
        // SAFETY: the caller's contract.
        let low = *unsafe { shared(low, "low") }?;
        // SAFETY: the caller's contract.
        let high = unsafe { high.as_ref() }.copied();
        let align = match align {
            0 => ty.size() as u64,
            align => u64::from(align),
        };
        if !align.is_power_of_two() || align > Piece::ALIGN {
            return Err(Error::argument(format!(
                "align is {align}; expected 0 or a power of two up to {}",
                Piece::ALIGN
            )));
        }
        // SAFETY: the caller's contract.
        let wanted = unsafe { Wanted::new(ty, low, high) };
        let finder = Finder::new(vec![Query::Value(wanted.query(ty)?)], align)?;
        Ok(Self { ty, wanted, finder })
    }
}

/// The bits of a value that was found, as the member of `gva_value` that goes with its type has them.
pub(crate) fn member(ty: ValueType, bits: u64) -> u64 {
    match ty {
        // Widened with their signs.
        ValueType::I8 => i64::from(bits as u8 as i8) as u64,
        ValueType::I16 => i64::from(bits as u16 as i16) as u64,
        ValueType::I32 => i64::from(bits as u32 as i32) as u64,
        ValueType::F32 => f64::from(f32::from_bits(bits as u32)).to_bits(),
        _ => bits,
    }
}

/// See scan.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `low` and `high` are NULL or valid; `out` is NULL or has room for `max` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gva_value_scan(
    m: *mut Mem,
    cr3: usize,
    lo: u64,
    hi: u64,
    prot_all: u32,
    ty: c_int,
    low: *const CValue,
    high: *const CValue,
    align: u32,
    out: *mut CHit,
    max: c_int,
) -> c_int {
    guard(-1, || {
        coverage::clear();
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        // SAFETY: the caller's contract.
        let mut list = unsafe { List::new(out, max) }?;
        // SAFETY: the caller's contract.
        let values = unsafe { Values::new(ty, low, high, align) }?;
        let selection = selection(lo, hi, prot_all)?;
        find(
            &m.space(cr3)?,
            &values.finder,
            &selection,
            m.run(),
            |at, sought| {
                list.push(CHit {
                    va: at.raw(),
                    value: member(values.ty, sought.bits),
                });
            },
        )?;
        Ok(list.total())
    })
}

/// See scan.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `out` is NULL or has room for `max` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn scan_pointer(
    m: *mut Mem,
    cr3: usize,
    lo: u64,
    hi: u64,
    base_lo: u64,
    base_hi: u64,
    target: u64,
    depth: c_int,
    max_offset: u64,
    out: *mut CPath,
    max: c_int,
) -> c_int {
    guard(-1, || {
        coverage::clear();
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        // SAFETY: the caller's contract.
        let mut list = unsafe { List::new(out, max) }?;
        let depth = usize::try_from(depth)
            .ok()
            .filter(|depth| (1..=PATH_DEPTH).contains(depth))
            .ok_or_else(|| {
                Error::argument(format!("depth is {depth}; expected 1 to {PATH_DEPTH}"))
            })?;
        if i64::try_from(max_offset).is_err() {
            return Err(Error::argument(format!(
                "max_offset {max_offset:#x} is too large"
            )));
        }
        let within = range(lo, hi)?;
        let paths = PathOptions {
            ranges: vec![range(base_lo, base_hi)?],
            depth,
            max_offset,
            ..PathOptions::default()
        };
        let space = m.space(cr3)?;
        let width = m.width(&space, base_lo).pointers.unwrap_or_default();
        let pointers = PointerOptions {
            range: asked(within),
            width,
            align: width.bytes() as u64,
            ..PointerOptions::default()
        };
        let mut emit = |path: vmie::pointers::Path<Gva>| {
            let mut offsets = [0; PATH_DEPTH];
            for (place, &offset) in offsets.iter_mut().zip(&path.offsets) {
                *place = offset;
            }
            list.push(CPath {
                base: path.base.addr().raw(),
                // Of no more pointers than were asked for.
                depth: path.offsets.len().min(PATH_DEPTH) as u32,
                reserved: 0,
                offsets,
            });
            Continue(())
        };
        let memory = &*space.memory;
        let (outcome, covered) =
            find_paths_once(memory, &pointers, Gva(target), &paths, &m.run(), &mut emit)
                .map_err(|error: BuildError| Error::new(Code::Limit, error.to_string()))?;
        match covered {
            Some(covered) => searched(&covered, outcome.stopped)?,
            None => coverage::set::<Gva>(&vmie::Coverage::default(), outcome.stopped),
        }
        if outcome.depth < depth {
            coverage::incomplete();
        }
        Ok(list.total())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_as_the_member_of_their_type() {
        let of = |ty, low, high: Option<CValue>| {
            // SAFETY: each value has the member of its type.
            unsafe { Wanted::new(ty, low, high) }.query(ty)
        };
        let i = |i| CValue { i };
        let f = |f| CValue { f };
        let negative = of(ValueType::I16, i(-3), Some(i(-1))).expect("a range");
        assert!(negative.accepts(0xfffe) && !negative.accepts(0));
        let single = of(ValueType::F32, f(f64::from(0.1f32)), None).expect("a number");
        assert!(single.accepts(u64::from(0.1f32.to_bits())));
        let nan = of(ValueType::F64, f(f64::NAN), Some(f(f64::NAN))).expect("a test");
        assert!(nan.accepts(f64::NAN.to_bits()) && !nan.accepts(0));
        let all =
            of(ValueType::F64, f(f64::NEG_INFINITY), Some(f(f64::INFINITY))).expect("a range");
        assert!(all.accepts(f64::MAX.to_bits()));
        let huge = of(ValueType::F64, f(f64::MAX), None).expect("a number");
        assert!(huge.accepts(f64::MAX.to_bits()));
        assert!(of(ValueType::F32, f(16_777_217.0), None).is_err());
        assert!(of(ValueType::F32, f(1e40), None).is_err());
        assert!(of(ValueType::F32, f(16_777_216.0), None).is_ok());
        assert!(of(ValueType::F32, f(0.3), None).is_ok());
        let whole = of(ValueType::F32, f(16_777_217.0), Some(f(1e40))).expect("a range");
        assert!(!whole.accepts(u64::from(16_777_216f32.to_bits())));
        assert!(whole.accepts(u64::from(f32::MAX.to_bits())));
        assert!(of(ValueType::U8, CValue { u: 256 }, None).is_err());
        assert!(of(ValueType::I32, i(2), Some(i(1))).is_err());

        assert_eq!(member(ValueType::I8, 0xff), u64::MAX);
        assert_eq!(member(ValueType::U8, 0xff), 0xff);
        assert_eq!(
            member(ValueType::F32, u64::from(1.5f32.to_bits())),
            1.5f64.to_bits()
        );
    }
}
