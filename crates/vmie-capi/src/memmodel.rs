//! memmodel.h: opening a guest, its memory and its address spaces.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use vmie::{AddrRange, Address as _, Coverage, Gva, Layout, Mode, SpanKind};

use crate::coverage;
pub use crate::coverage::CCoverage;
use crate::error::{self, Code, Error};
use crate::guard::{guard, status};
pub use crate::handle::Mem;
use crate::handle::{asked, range};
use crate::list::List;
use crate::text::{destroy, give, path, required, shared, text};

/// `vregion`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct CRegion {
    pub(crate) va: u64,
    pub(crate) len: u64,
    pub(crate) prot: u32,
}

/// `vmie_cpu`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct CCpu {
    cr3: u64,
    cr0: u64,
    cr4: u64,
    rip: u64,
    rsp: u64,
    index: u32,
    paging: u32,
}

/// `vmie_mapping`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct CMapping {
    gpa: u64,
    page_size: u64,
    prot: u32,
    reserved: u32,
}

const _: () = {
    assert!(size_of::<CRegion>() == 24 || align_of::<u64>() < 8);
    assert!(size_of::<CCpu>() == 48);
    assert!(size_of::<CMapping>() == 24);
};

/// The version with its NUL.
const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("versions hold no NUL"),
    };

/// `VMIE_PAGING_` of a mode: its place in [`Mode::ALL`], from 1.
pub(crate) fn paging_number(mode: Mode) -> c_int {
    match mode {
        Mode::X86 => 1,
        Mode::Pae => 2,
        Mode::FourLevel => 3,
        Mode::FiveLevel => 4,
    }
}

/// See memmodel.h.
#[unsafe(no_mangle)]
pub extern "C" fn vmie_version_number() -> u32 {
    let part = |text: &str| text.parse::<u32>().unwrap_or(0);
    part(env!("CARGO_PKG_VERSION_MAJOR")) << 16
        | part(env!("CARGO_PKG_VERSION_MINOR")) << 8
        | part(env!("CARGO_PKG_VERSION_PATCH"))
}

/// See memmodel.h.
#[unsafe(no_mangle)]
pub extern "C" fn vmie_version() -> *const c_char {
    VERSION.as_ptr()
}

/// See memmodel.h.
#[unsafe(no_mangle)]
pub extern "C" fn vmie_last_error() -> c_int {
    error::code()
}

/// See memmodel.h.
#[unsafe(no_mangle)]
pub extern "C" fn vmie_last_error_text() -> *const c_char {
    error::text()
}

/// See memmodel.h.
#[unsafe(no_mangle)]
pub extern "C" fn vmie_last_error_column() -> u32 {
    error::column()
}

/// See memmodel.h.
#[unsafe(no_mangle)]
pub extern "C" fn vmie_last_error_address() -> u64 {
    error::address()
}

/// See memmodel.h. It is no call of which there would be an error to remember.
///
/// # Safety
///
/// `out` is NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_last_coverage(out: *mut CCoverage) -> c_int {
    match coverage::last() {
        Some(last) if !out.is_null() => {
            // SAFETY: not NULL, so valid by the caller's contract.
            unsafe { give(out, last) };
            0
        }
        _ => -1,
    }
}

/// See memmodel.h.
///
/// # Safety
///
/// `source` is NULL or text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_open(source: *const c_char) -> *mut Mem {
    guard(ptr::null_mut(), || {
        // SAFETY: the caller's contract.
        let source = unsafe { path(source, "source") }?;
        Ok(Box::into_raw(Box::new(Mem::open(&source)?)))
    })
}

/// See memmodel.h.
///
/// # Safety
///
/// `file` and `layout` are NULL or text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_open_layout(file: *const c_char, layout: *const c_char) -> *mut Mem {
    if layout.is_null() {
        // SAFETY: the caller's contract.
        return unsafe { vmie_open(file) };
    }
    guard(ptr::null_mut(), || {
        // SAFETY: the caller's contract.
        let file = unsafe { path(file, "path") }?;
        // SAFETY: the caller's contract.
        let layout = unsafe { text(layout, "layout") }?;
        let layout: Layout = layout
            .parse()
            .map_err(|error| Error::new(Code::Syntax, format!("layout: {error}")))?;
        Ok(Box::into_raw(Box::new(Mem::raw(&file, layout)?)))
    })
}

/// See memmodel.h.
///
/// # Safety
///
/// `m` is NULL, or came from `vmie_open` or `vmie_open_layout`, was not closed, and is not in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_close(m: *mut Mem) {
    // SAFETY: the caller's contract.
    unsafe { destroy(m) };
}

/// The handle behind a pointer.
///
/// # Safety
///
/// `m` is NULL or an open handle that is not closed for `'a`.
pub(crate) unsafe fn handle<'a>(m: *mut Mem) -> Result<&'a Mem, Error> {
    // SAFETY: the caller's contract. Nobody has exclusive access to an open handle.
    unsafe { shared(m, "the vmie_mem") }
}

/// See memmodel.h.
///
/// # Safety
///
/// `m` is NULL or an open handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_format(m: *mut Mem) -> *const c_char {
    guard(ptr::null(), || {
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        Ok(m.format.as_ptr())
    })
}

/// See memmodel.h.
///
/// # Safety
///
/// `m` is NULL or an open handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_note(m: *mut Mem, index: c_int) -> *const c_char {
    guard(ptr::null(), || {
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        let index = usize::try_from(index)
            .map_err(|_| Error::argument(format!("index is {index}; expected 0 or more")))?;
        Ok(m.notes.get(index).map_or(ptr::null(), |note| note.as_ptr()))
    })
}

/// See memmodel.h.
///
/// # Safety
///
/// `m` is NULL or an open handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_is_live(m: *mut Mem) -> c_int {
    guard(-1, || {
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        Ok(m.is_live().into())
    })
}

/// See memmodel.h.
///
/// # Safety
///
/// `m` is NULL or an open handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_pause(m: *mut Mem) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        m.pause.as_ref().ok_or_else(nothing_runs)?.pause()
    })
}

/// See memmodel.h.
///
/// # Safety
///
/// `m` is NULL or an open handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_resume(m: *mut Mem) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        m.pause.as_ref().ok_or_else(nothing_runs)?.resume()
    })
}

fn nothing_runs() -> Error {
    Error::new(
        Code::Unsupported,
        "only a running guest, opened as qemu:SOCKET, can be paused",
    )
}

/// See memmodel.h.
///
/// # Safety
///
/// `m` is NULL or an open handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_set_threads(m: *mut Mem, threads: c_int) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        let threads = usize::try_from(threads)
            .map_err(|_| Error::argument(format!("threads is {threads}; expected 0 or more")))?;
        m.set_threads(threads);
        Ok(())
    })
}

/// See memmodel.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `out` is NULL or has room for `max` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_ranges(m: *mut Mem, out: *mut CRegion, max: c_int) -> c_int {
    guard(-1, || {
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        // SAFETY: the caller's contract.
        let mut list = unsafe { List::new(out, max) }?;
        for range in &m.session.info().ranges {
            list.push(CRegion {
                va: range.start().raw(),
                len: range.len(),
                prot: vmie::Prot::RWX.bits().into(),
            });
        }
        Ok(list.total())
    })
}

/// See memmodel.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `out` is NULL or has room for `max` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_cpus(m: *mut Mem, out: *mut CCpu, max: c_int) -> c_int {
    guard(-1, || {
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        // SAFETY: the caller's contract.
        let mut list = unsafe { List::new(out, max) }?;
        for cpu in &m.session.info().hints.cpus {
            let mode = Mode::from_cpu(cpu);
            list.push(CCpu {
                cr3: cpu.cr3 & mode.map_or(!0, |mode| mode.spec().root_mask),
                cr0: cpu.cr0,
                cr4: cpu.cr4,
                rip: cpu.rip,
                rsp: cpu.rsp,
                index: cpu.index,
                paging: mode.map_or(0, paging_number).unsigned_abs(),
            });
        }
        Ok(list.total())
    })
}

/// See memmodel.h.
///
/// # Safety
///
/// `m` is NULL or an open handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_set_paging(m: *mut Mem, mode: c_int) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        let known = Mode::ALL
            .into_iter()
            .find(|&known| paging_number(known) == mode);
        if known.is_none() && mode != 0 {
            return Err(Error::argument(format!("{mode} is no VMIE_PAGING_ mode")));
        }
        m.set_mode(known);
        Ok(())
    })
}

/// See memmodel.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `confirmed` is NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_paging(m: *mut Mem, cr3: usize, confirmed: *mut c_int) -> c_int {
    guard(-1, || {
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        let space = m.space(cr3)?;
        let mode = space
            .mode
            .ok_or_else(|| Error::argument("there are no page tables to tell a mode of"))?;
        // SAFETY: the caller's contract.
        unsafe { give(confirmed, space.confirmed.into()) };
        Ok(paging_number(mode))
    })
}

/// See memmodel.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `out` is NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_translate(
    m: *mut Mem,
    cr3: usize,
    va: u64,
    out: *mut CMapping,
) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        let tables = m.space(cr3)?.tables;
        let tables = tables.ok_or_else(|| Error::argument("there are no page tables to follow"))?;
        let mapping = tables.translate(Gva(va))?;
        let mapping = CMapping {
            gpa: mapping.gpa.raw(),
            page_size: mapping.page_size,
            prot: mapping.prot.bits().into(),
            reserved: 0,
        };
        // SAFETY: the caller's contract.
        unsafe { required(out, mapping, "out") }
    })
}

/// See memmodel.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `buf` is NULL or valid for writing `len` bytes, `done` NULL or for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_read(
    m: *mut Mem,
    cr3: usize,
    va: u64,
    buf: *mut c_void,
    len: usize,
    done: *mut usize,
) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        unsafe { give(done, 0) };
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        let space = m.space(cr3)?;
        if len == 0 {
            return Ok(());
        }
        if buf.is_null() {
            return Err(Error::argument("buf is NULL"));
        }
        if isize::try_from(len).is_err() || AddrRange::new(Gva(va), len as u64).is_none() {
            return Err(Error::argument(format!(
                "{len:#x} bytes at {va:#x} go beyond the address space"
            )));
        }
        // SAFETY: not NULL, so valid for writing by the caller's contract, and no longer than any object. The
        // engine only writes to it.
        let buf = unsafe { std::slice::from_raw_parts_mut(buf.cast::<u8>(), len) };
        let result = space.memory.read(Gva(va), buf);
        let read = match &result {
            Ok(()) => len,
            Err(fault) => usize::try_from(fault.addr.raw().saturating_sub(va))
                .unwrap_or(len)
                .min(len),
        };
        // SAFETY: the caller's contract.
        unsafe { give(done, read) };
        Ok(result?)
    })
}

/// See memmodel.h.
///
/// # Safety
///
/// As [`vmie_read`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_read_phys(
    m: *mut Mem,
    gpa: u64,
    buf: *mut c_void,
    len: usize,
    done: *mut usize,
) -> c_int {
    // SAFETY: the caller's contract.
    unsafe { vmie_read(m, usize::MAX, gpa, buf, len, done) }
}

/// See memmodel.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `out` is NULL or has room for `max` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_regions(
    m: *mut Mem,
    cr3: usize,
    lo: u64,
    hi: u64,
    out: *mut CRegion,
    max: c_int,
) -> c_int {
    guard(-1, || {
        coverage::clear();
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        // SAFETY: the caller's contract.
        let mut list = unsafe { List::new(out, max) }?;
        let range = range(lo, hi)?;
        let space = m.space(cr3)?;
        let mut covered = Coverage::default();
        for span in space.memory.spans(range) {
            match span.kind {
                SpanKind::Lost(cause) => covered.add_lost(span.start, span.len, cause),
                SpanKind::Away(_, cause) => covered.add_absent(span.start, span.len, cause),
                SpanKind::Mapped(prot) => {
                    covered.mapped = covered.mapped.saturating_add(span.len);
                    list.push(CRegion {
                        va: span.start.raw(),
                        len: span.len,
                        prot: prot.bits().into(),
                    });
                }
            }
        }
        if asked(range).is_some() {
            covered.unmapped = range
                .len()
                .saturating_sub(covered.mapped)
                .saturating_sub(covered.lost);
        }
        coverage::set(&covered, false);
        match covered.gaps.first() {
            Some(gap) if list.total() == 0 => Err(Error::new(
                Code::Unreadable,
                format!("cannot tell what is mapped; {}: {}", gap.start, gap.cause),
            )),
            None if list.total() == 0 && asked(range).is_none() => Err(Error::new(
                Code::Paging,
                format!("the page tables at cr3 {cr3:#x} map nothing"),
            )),
            _ => Ok(list.total()),
        }
    })
}
