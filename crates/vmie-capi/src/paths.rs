//! pmap.h: how something is reached from a fixed base.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ops::ControlFlow;

use vmie::pointers::{Base, Path, PathOptions, find_paths};
use vmie::scan::Run;
use vmie::{AddrRange, Address as _, Gva};

use crate::coverage;
use crate::error::{Code, Error};
use crate::guard::guard;
use crate::handle::range;
use crate::list::List;
use crate::pmap::{CRange, Map, map};
use crate::text::{give, shared};

/// `PMAP_MAX_DEPTH`.
const MAX_DEPTH: usize = 31;

/// `PMAP_MAX_OFFSETS`: a value that is a base has one before the first pointer is followed.
const MAX_OFFSETS: usize = MAX_DEPTH + 1;

/// `PMAP_NO_LOOPS`.
const NO_LOOPS: u32 = 1;

/// `pmap_path`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct CPath {
    base: u64,
    kind: u32,
    count: u32,
    offsets: [i64; MAX_OFFSETS],
}

/// `pmap_search`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CSearch {
    target: u64,
    bases: *const CRange,
    values: *const u64,
    base_count: c_int,
    value_count: c_int,
    max_offset: u64,
    back: u64,
    max_places: u64,
    depth: c_int,
    flags: u32,
}

const _: () = {
    assert!(size_of::<CPath>() == 272);
    assert!(size_of::<CSearch>() == 64 || size_of::<usize>() < 8);
};

/// `pmap_path_fn`.
pub type Each = unsafe extern "C" fn(*mut c_void, *const CPath) -> c_int;

impl CPath {
    /// A path of the engine's. Every one fits, since no search goes deeper than `MAX_DEPTH`.
    fn new(path: &Path<Gva>) -> Self {
        let mut offsets = [0; MAX_OFFSETS];
        let count = path.offsets.len().min(MAX_OFFSETS);
        offsets[..count].copy_from_slice(&path.offsets[..count]);
        Self {
            base: path.base.addr().raw(),
            kind: matches!(path.base, Base::Value(_)).into(),
            count: count as u32,
            offsets,
        }
    }
}

impl CSearch {
    /// What the engine is told.
    ///
    /// # Safety
    ///
    /// `bases` and `values` are NULL, or have as many elements as their counts say.
    unsafe fn read(&self) -> Result<PathOptions<Gva>, Error> {
        // SAFETY: the caller's contract.
        let bases = unsafe { several(self.bases, self.base_count, "bases") }?;
        // SAFETY: the caller's contract.
        let values = unsafe { several(self.values, self.value_count, "values") }?;
        if bases.is_empty() && values.is_empty() {
            return Err(Error::argument("there are neither bases nor values"));
        }
        let depth = usize::try_from(self.depth)
            .ok()
            .filter(|depth| (1..=MAX_DEPTH).contains(depth));
        let depth = depth.ok_or_else(|| {
            let text = format!("depth is {}; expected 1 to {MAX_DEPTH}", self.depth);
            Error::argument(text)
        })?;
        for (name, offset) in [("max_offset", self.max_offset), ("back", self.back)] {
            if i64::try_from(offset).is_err() {
                return Err(Error::argument(format!(
                    "{name} is {offset:#x}; no offset is beyond INT64_MAX"
                )));
            }
        }
        if self.flags & !NO_LOOPS != 0 {
            return Err(Error::argument(format!(
                "{:#x} has other bits than PMAP_NO_LOOPS",
                self.flags
            )));
        }
        let usual = PathOptions::<Gva>::default();
        Ok(PathOptions {
            ranges: bases
                .iter()
                .map(|base| range(base.lo, base.hi))
                .collect::<Result<Vec<AddrRange<Gva>>, _>>()?,
            values: values.iter().copied().map(Gva).collect(),
            depth,
            max_offset: self.max_offset,
            back: self.back,
            loops: self.flags & NO_LOOPS == 0,
            max_places: match self.max_places {
                0 => usual.max_places,
                most => usize::try_from(most).unwrap_or(usize::MAX),
            },
        })
    }
}

/// Elements of the caller's.
///
/// # Safety
///
/// `first` is NULL, or aligned and valid for `count` elements, which do not change for `'a`.
unsafe fn several<'a, T>(first: *const T, count: c_int, what: &str) -> Result<&'a [T], Error> {
    let count = usize::try_from(count)
        .map_err(|_| Error::argument(format!("there are {count} {what}; expected 0 or more")))?;
    if count == 0 {
        return Ok(&[]);
    }
    if first.is_null() {
        return Err(Error::argument(format!("{what} is NULL")));
    }
    // SAFETY: not NULL, so valid by the caller's contract.
    Ok(unsafe { std::slice::from_raw_parts(first, count) })
}

/// Searches, and passes each path to `emit`, which may end the search.
///
/// # Safety
///
/// `p` is NULL or a map; `search` is NULL or valid, and [`CSearch::read`]'s contract holds; `reached` is NULL or valid
/// for writing.
unsafe fn search(
    p: *const Map,
    search: *const CSearch,
    reached: *mut c_int,
    mut emit: impl FnMut(CPath) -> ControlFlow<()>,
) -> Result<(), Error> {
    coverage::clear();
    // SAFETY: the caller's contract.
    let Map { map, .. } = unsafe { map(p) }?;
    // SAFETY: the caller's contract.
    let search = unsafe { shared(search, "search") }?;
    // SAFETY: the caller's contract.
    let options = unsafe { search.read() }?;
    let mut found = false;
    let outcome = find_paths(
        map,
        Gva(search.target),
        &options,
        &Run::new(),
        &mut |path| {
            found = true;
            emit(CPath::new(&path))
        },
    );
    coverage::set(map.coverage(), outcome.stopped);
    let depth = c_int::try_from(outcome.depth).unwrap_or(c_int::MAX);
    // SAFETY: the caller's contract.
    unsafe { give(reached, depth) };
    if found || outcome.depth >= options.depth {
        return Ok(());
    }
    Err(Error::new(
        Code::Limit,
        format!(
            "none was found that follows up to {depth} pointers, and too many places lead there to look \
             further; a smaller max_offset or fewer bases reach deeper"
        ),
    ))
}

/// See pmap.h.
///
/// # Safety
///
/// `p` is NULL or a map; `request` is NULL or valid, with as many bases and values as it says; `out` is NULL or has
/// room for `max` elements; `reached` is NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmap_paths(
    p: *const Map,
    request: *const CSearch,
    out: *mut CPath,
    max: c_int,
    reached: *mut c_int,
) -> c_int {
    guard(-1, || {
        // SAFETY: the caller's contract.
        let mut list = unsafe { List::new(out, max) }?;
        // SAFETY: the caller's contract.
        unsafe {
            search(p, request, reached, |path| {
                list.push(path);
                on_below_most(list.total())
            })
        }?;
        Ok(list.total())
    })
}

/// See pmap.h.
///
/// # Safety
///
/// `p` is NULL or a map; `request` is NULL or valid, with as many bases and values as it says; `each` is NULL or may
/// be called with `user` on this thread; `reached` is NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmap_paths_each(
    p: *const Map,
    request: *const CSearch,
    each: Option<Each>,
    user: *mut c_void,
    reached: *mut c_int,
) -> c_int {
    guard(-1, || {
        let each = each.ok_or_else(|| Error::argument("each is NULL"))?;
        let mut total: c_int = 0;
        let emit = |path| {
            total += 1;
            // SAFETY: the caller's contract; the path lasts until it returns.
            if unsafe { each(user, &path) } == 0 {
                on_below_most(total)
            } else {
                ControlFlow::Break(())
            }
        };
        // SAFETY: the caller's contract.
        unsafe { search(p, request, reached, emit) }?;
        Ok(total)
    })
}

/// More cannot be told, so nobody needs to wait for more.
fn on_below_most(total: c_int) -> ControlFlow<()> {
    if total < c_int::MAX {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}
