//! pmap.h: a map of all pointers of a space: built, asked, saved and opened.
//!
//! Paths through it are in `paths.rs`, and what objects are made of in `dissect.rs`.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};
use std::fmt;
use std::{iter, ptr};

use vmie::pointers::{BuildError, Edge, Foreign, PointerMap, PointerOptions, Width};
use vmie::{AddrRange, Address as _, Gva, Memory, Mode, Prot};

use crate::coverage;
use crate::error::{Code, Error};
use crate::guard::{guard, status};
use crate::handle::{asked, prot, range};
use crate::list::List;
use crate::memmodel::{Mem, handle};
use crate::text::{destroy, path, required, shared};

/// `pmap`.
pub struct Map {
    pub(crate) map: PointerMap<Gva>,
    about: About,
}

const _: () = {
    const fn usable_from_any_thread<T: Send + Sync>() {}
    usable_from_any_thread::<Map>();
};

/// `pmap_range`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct CRange {
    pub(crate) lo: u64,
    pub(crate) hi: u64,
}

/// `pmap_options`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct COptions {
    range: CRange,
    from: CRange,
    max_edges: u64,
    prot_all: u32,
    width: u32,
    align: u32,
    reserved: u32,
}

/// `pmap_edge`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct CEdge {
    at: u64,
    value: u64,
}

const _: () = {
    assert!(size_of::<COptions>() == 56);
    assert!(size_of::<CEdge>() == 16);
};

/// What of its options a map does not know by itself. Its text is saved with the map, which may come back from
/// a file that was made to deceive: nothing but messages and the range that is compared depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct About {
    range: AddrRange<Gva>,
    from: AddrRange<Gva>,
    prot: Prot,
}

/// How the text begins.
const ABOUT: &str = "libvmie pmap";

impl About {
    /// All pointers of a range.
    fn all(range: AddrRange<Gva>) -> Self {
        Self {
            range,
            from: range,
            prot: Prot::NONE,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let words = text.strip_prefix(ABOUT)?.split_ascii_whitespace();
        let numbers: Vec<u64> = words
            .map(|word| u64::from_str_radix(word, 16))
            .collect::<Result<_, _>>()
            .ok()?;
        let &[lo, hi, from_lo, from_hi, bits] = &numbers[..] else {
            return None;
        };
        Some(Self {
            range: range(lo, hi).ok()?,
            from: range(from_lo, from_hi).ok()?,
            prot: prot(u32::try_from(bits).ok()?).ok()?,
        })
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((lo, hi), (from_lo, from_hi)) = (ends(self.range), ends(self.from));
        let bits = self.prot.bits();
        write!(f, "{ABOUT} {lo:x} {hi:x} {from_lo:x} {from_hi:x} {bits:x}")
    }
}

fn ends(range: AddrRange<Gva>) -> (u64, u64) {
    (range.start().raw(), range.last().raw())
}

impl CRange {
    /// A range of the caller's, where both ends 0 stand for `usual`.
    fn or(self, usual: AddrRange<Gva>) -> Result<AddrRange<Gva>, Error> {
        match self {
            Self { lo: 0, hi: 0 } => Ok(usual),
            Self { lo, hi } => range(lo, hi),
        }
    }
}

/// How wide pointers are, as the caller says; `None` where that is left to what is known.
pub(crate) fn width(bytes: u32) -> Result<Option<Width>, Error> {
    match bytes {
        0 => Ok(None),
        4 => Ok(Some(Width::Four)),
        8 => Ok(Some(Width::Eight)),
        _ => Err(Error::argument(format!(
            "pointers of {bytes} bytes; expected 4 or 8"
        ))),
    }
}

impl COptions {
    /// What the engine is told, besides the bounds that a guest sets. `usual` tells how wide pointers are that
    /// stand from an address on.
    fn read(
        &self,
        usual: impl FnOnce(u64) -> Option<Width>,
    ) -> Result<(PointerOptions<Gva>, About), Error> {
        let range = self.range.or(AddrRange::all())?;
        let from = self.from.or(range)?;
        if !range.covers(from) {
            return Err(Error::argument(format!(
                "from, {from}, lies not in {range}"
            )));
        }
        if self.reserved != 0 {
            return Err(Error::argument("reserved is not 0"));
        }
        let about = About {
            range,
            from,
            prot: prot(self.prot_all)?,
        };
        let width = match width(self.width)? {
            Some(width) => width,
            None => usual(from.start().raw()).unwrap_or_default(),
        };
        let align = match u64::from(self.align) {
            0 => width.bytes() as u64,
            align if align.is_power_of_two() && align <= width.bytes() as u64 => align,
            align => {
                return Err(Error::argument(format!(
                    "align is {align}; expected 1, 2, 4 or 8, and no more than the width"
                )));
            }
        };
        let usual = PointerOptions::<Gva>::default();
        let options = PointerOptions {
            range: asked(range),
            sources: (from != range).then_some(from),
            perm: about.prot,
            width,
            align,
            max_edges: match self.max_edges {
                0 => usual.max_edges,
                most => most,
            },
        };
        Ok((options, about))
    }
}

/// See pmap.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `options` is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmap_build(m: *mut Mem, cr3: usize, options: *const COptions) -> *mut Map {
    guard(ptr::null_mut(), || {
        coverage::clear();
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { options.as_ref() }.copied().unwrap_or_default();
        // What is wrong by itself is said before any table is read.
        options.read(|_| None)?;
        let space = m.space(cr3)?;
        let (options, about) = options.read(|va| m.width(&space, va).pointers)?;
        let map = PointerMap::build(&*space.memory, &options, m.run());
        let map = map.map_err(not_built)?;
        coverage::searched(map.coverage(), false)?;
        Ok(Box::into_raw(Box::new(Map { map, about })))
    })
}

fn not_built(error: BuildError) -> Error {
    Error::new(Code::Limit, error.to_string())
}

/// See pmap.h.
///
/// # Safety
///
/// `p` is NULL, or came from `pmap_build` or `pmap_open`, was not freed, and is not in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmap_free(p: *mut Map) {
    // SAFETY: the caller's contract.
    unsafe { destroy(p) };
}

/// The map behind a pointer.
///
/// # Safety
///
/// `p` is NULL or a map that is not freed for `'a`.
pub(crate) unsafe fn map<'a>(p: *const Map) -> Result<&'a Map, Error> {
    // SAFETY: the caller's contract. Nobody has exclusive access to a map.
    unsafe { shared(p, "the pmap") }
}

/// See pmap.h.
///
/// # Safety
///
/// `p` is NULL or a map.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmap_count(p: *const Map) -> i64 {
    guard(-1, || {
        // SAFETY: the caller's contract.
        let Map { map, .. } = unsafe { map(p) }?;
        Ok(i64::try_from(map.len()).unwrap_or(i64::MAX))
    })
}

/// See pmap.h.
///
/// # Safety
///
/// `p` is NULL or a map; `out` is NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmap_get_options(p: *const Map, out: *mut COptions) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let Map { map, about } = unsafe { map(p) }?;
        let c = |range| {
            let (lo, hi) = ends(range);
            CRange { lo, hi }
        };
        let options = COptions {
            range: c(about.range),
            from: c(about.from),
            max_edges: 0,
            prot_all: about.prot.bits().into(),
            width: map.width().bytes() as u32,
            align: u32::try_from(map.align()).unwrap_or(0),
            reserved: 0,
        };
        // SAFETY: the caller's contract.
        unsafe { required(out, options, "out") }
    })
}

/// Lists the pointers that `look` finds.
///
/// # Safety
///
/// `p` is NULL or a map; `out` is NULL or has room for `max` elements.
unsafe fn edges<'m, I: Iterator<Item = Edge<Gva>>>(
    p: *const Map,
    (lo, hi): (u64, u64),
    (out, max): (*mut CEdge, c_int),
    look: impl FnOnce(&'m PointerMap<Gva>, AddrRange<Gva>) -> I,
) -> Result<c_int, Error> {
    coverage::clear();
    // SAFETY: the caller's contract.
    let Map { map, .. } = unsafe { map(p) }?;
    // SAFETY: the caller's contract.
    let mut list = unsafe { List::new(out, max) }?;
    for edge in look(map, range(lo, hi)?) {
        list.push(CEdge {
            at: edge.at.raw(),
            value: edge.value.raw(),
        });
    }
    coverage::set(map.coverage(), false);
    Ok(list.total())
}

/// See pmap.h.
///
/// # Safety
///
/// `p` is NULL or a map; `out` is NULL or has room for `max` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmap_referrers(
    p: *const Map,
    lo: u64,
    hi: u64,
    out: *mut CEdge,
    max: c_int,
) -> c_int {
    guard(-1, || {
        let mut count = None;
        // SAFETY: the caller's contract.
        let listed = unsafe {
            edges(p, (lo, hi), (out, max), |map, range| {
                if out.is_null() {
                    count = Some(map.count_referrers(range));
                }
                let looked_at = if out.is_null() { 0 } else { usize::MAX };
                map.referrers(range).take(looked_at)
            })
        }?;
        Ok(count.map_or(listed, |count| c_int::try_from(count).unwrap_or(c_int::MAX)))
    })
}

/// See pmap.h.
///
/// # Safety
///
/// As [`pmap_referrers`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmap_pointees(
    p: *const Map,
    lo: u64,
    hi: u64,
    out: *mut CEdge,
    max: c_int,
) -> c_int {
    guard(-1, || {
        // SAFETY: the caller's contract.
        unsafe { edges(p, (lo, hi), (out, max), PointerMap::pointees) }
    })
}

/// See pmap.h.
///
/// # Safety
///
/// `p` is NULL or a map; `file` is NULL or ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmap_save(p: *const Map, file: *const c_char) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let Map { map, about } = unsafe { map(p) }?;
        // SAFETY: the caller's contract.
        let file = unsafe { path(file, "path") }?;
        map.save(&file, &about.to_string())
            .map_err(|error| Error::new(Code::Io, error.to_string()))
    })
}

/// See pmap.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `file` is NULL or ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmap_open(m: *mut Mem, cr3: usize, file: *const c_char) -> *mut Map {
    guard(ptr::null_mut(), || {
        coverage::clear();
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        // SAFETY: the caller's contract.
        let file = unsafe { path(file, "path") }?;
        let space = m.space(cr3)?;
        let map = PointerMap::<Gva>::open(&file)
            .map_err(|error| Error::new(Code::Open, error.to_string()))?;
        let about = of_this(&map, &*space.memory, space.mode).map_err(|foreign| {
            Error::new(
                Code::Open,
                format!(
                    "{}: a map of another memory than the space at cr3 {cr3:#x}: {foreign}",
                    file.display()
                ),
            )
        })?;
        coverage::searched(map.coverage(), false)?;
        Ok(Box::into_raw(Box::new(Map { map, about })))
    })
}

/// Sees to it that a map is of this memory. One that we did not write does not say to us of which part: all of it,
/// user mode's half, or the kernel's.
fn of_this(
    map: &PointerMap<Gva>,
    memory: &dyn Memory<Addr = Gva>,
    mode: Option<Mode>,
) -> Result<About, Foreign> {
    if let Some(about) = About::parse(map.about()) {
        return map.check(memory, Some(about.range)).map(|()| about);
    }
    let halves = mode.and_then(|mode| Some([mode.user_range()?, mode.kernel_range()?]));
    let mut why = Foreign::Mapping;
    for part in iter::once(AddrRange::all()).chain(halves.into_iter().flatten()) {
        match map.check(memory, Some(part)) {
            Ok(()) => return Ok(About::all(part)),
            Err(Foreign::Content) => why = Foreign::Content,
            Err(Foreign::Mapping) => {}
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_about_a_map_is_read_again() {
        let about = About {
            range: range(0, u64::MAX).expect("a range"),
            from: range(0x1000, 0x1fff).expect("a range"),
            prot: Prot::RWX,
        };
        let text = about.to_string();
        assert_eq!(About::parse(&text), Some(about));
        // Of anybody else, or of somebody who wants to deceive.
        let bits = "libvmie pmap 0 1 0 1 fffffffff";
        for text in ["", "{}", "libvmie pmap", "libvmie pmap 1 0 0 0 0", bits] {
            assert_eq!(About::parse(text), None, "{text}");
        }
        assert_eq!(About::parse(&format!("{text} 0")), None);
    }

    #[test]
    fn widths_are_what_the_caller_says_or_left_open() {
        assert_eq!(width(0).ok(), Some(None));
        assert_eq!(width(4).ok(), Some(Some(Width::Four)));
        assert_eq!(width(8).ok(), Some(Some(Width::Eight)));
        assert!(width(5).is_err());
    }
}
