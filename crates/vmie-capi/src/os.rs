//! os.h: processes, modules and symbols of the guest's operating system.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use vmie::os::{Finding, Guest, Listing, Module, OsError, Process, Resolver, SymbolTable};
use vmie::session::{ProcessError, System};
use vmie::{Address, Gva, views};

use crate::error::{Code, Error, to_c};
use crate::guard::{guard, status};
use crate::list::List;
use crate::memmodel::{Mem, handle};
use crate::text::{destroy, required, shared, text};

/// `VMIE_KERNEL` of os.h.
const KERNEL: u32 = u32::MAX;

/// `vmie_os` of os.h.
pub struct Os {
    system: Arc<System>,
    kind: CString,
    version: CString,
}

/// `vmie_names` of os.h.
pub struct Names(Resolver<'static>);

const _: () = {
    const fn usable_from_any_thread<T: Send + Sync>() {}
    usable_from_any_thread::<Os>();
    usable_from_any_thread::<Names>();
};

/// `vmie_process` of os.h.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct CProcess {
    cr3: u64,
    user_cr3: u64,
    object: u64,
    started_ns: u64,
    pid: u32,
    ppid: u32,
    uid: u32,
    threads: u32,
    flags: u32,
    state: u8,
    name: [u8; 75],
}

/// `vmie_module` of os.h.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct CModule {
    va: u64,
    len: u64,
    start: u64,
    span: u64,
    flags: u32,
    name: [u8; 132],
    path: [u8; 512],
}

/// `vmie_symbol` of os.h.
#[repr(C)]
pub struct CSymbol {
    va: u64,
    name: *const c_char,
    kind: c_char,
}

/// `vmie_symbol_fn` of os.h.
pub type SymbolFn = Option<unsafe extern "C" fn(*const CSymbol, *mut c_void) -> c_int>;

const _: () = {
    assert!(size_of::<CProcess>() == 128);
    assert!(size_of::<CModule>() == 680);
};

thread_local! {
    /// What did not add up in the list that was read last.
    static FINDINGS: RefCell<Vec<CString>> = const { RefCell::new(Vec::new()) };
}

/// Remembers what did not add up, and answers the rows.
fn told<T>(listing: Listing<T>) -> Vec<T> {
    let words = |finding: &Finding| to_c(finding.to_string());
    let findings = listing.findings.iter().map(words).collect();
    let _ = FINDINGS.try_with(|last| *last.borrow_mut() = findings);
    listing.items
}

fn forget_findings() {
    let _ = FINDINGS.try_with(|last| last.borrow_mut().clear());
}

impl From<OsError> for Error {
    fn from(error: OsError) -> Self {
        Self::new(Code::Os, error.to_string())
    }
}

impl Os {
    fn guest(&self) -> &dyn Guest {
        self.system.guest()
    }

    /// The process of this number; `None` stands for the kernel.
    fn process(&self, pid: u32) -> Result<Option<Process>, Error> {
        if pid == KERNEL {
            return Ok(None);
        }
        let system = self.system.now();
        let damaged = || match system.processes() {
            Ok(listing) if !listing.findings.is_empty() => {
                let findings = listing.findings.len();
                format!("; the list is damaged ({findings} findings)")
            }
            _ => String::new(),
        };
        match system.by_pid(pid) {
            Ok(process) => Ok(Some(process.clone())),
            Err(ProcessError::Os(error)) => Err(error.into()),
            Err(_) => Err(Error::new(
                Code::NotFound,
                format!("no process has number {pid}{}", damaged()),
            )),
        }
    }

    fn table(&self, pid: u32, module: Option<&str>) -> Result<Arc<SymbolTable>, Error> {
        let process = self.process(pid)?;
        let Some(name) = module else {
            return match process {
                None => Ok(self.guest().symbols()?),
                Some(_) => Err(Error::argument(
                    "module is NULL; a process has no symbols outside of its modules",
                )),
            };
        };
        let modules = self.guest().modules(process.as_ref())?.items;
        let module = modules.iter().find(|module| module.name == name);
        let module = module
            .ok_or_else(|| Error::new(Code::NotFound, format!("no module is named {name:?}")))?;
        Ok(self.guest().module_symbols(process.as_ref(), module)?)
    }
}

/// Text as a field of a structure has it, with a NUL behind it; and whether all of it is there. What C would take
/// for its end is left out.
fn fixed<const N: usize>(text: &str) -> ([u8; N], bool) {
    let mut out = [0; N];
    let mut end = 0;
    for c in text.chars().map(|c| if c == '\0' { '\u{fffd}' } else { c }) {
        if end + c.len_utf8() >= N {
            return (out, false);
        }
        c.encode_utf8(&mut out[end..]);
        end += c.len_utf8();
    }
    (out, true)
}

impl From<&Process> for CProcess {
    fn from(process: &Process) -> Self {
        let (name, whole) = fixed(&process.name);
        let cr3 = process.root.map_or(0, Address::raw);
        let started = process.started;
        Self {
            cr3,
            user_cr3: process.user_root.map_or(cr3, Address::raw),
            object: process.object.raw(),
            started_ns: started
                .and_then(|since| u64::try_from(since.as_nanos()).ok())
                .unwrap_or(u64::MAX),
            pid: process.pid,
            ppid: process.ppid,
            uid: process.uid().unwrap_or(u32::MAX),
            threads: process.threads,
            flags: u32::from(process.kernel) | u32::from(!whole) << 1,
            // Letters of ASCII, all of them.
            state: process.state.letter() as u8,
            name,
        }
    }
}

impl From<&Module> for CModule {
    fn from(module: &Module) -> Self {
        let (name, name_whole) = fixed(&module.name);
        let (path, path_whole) = fixed(module.path.as_deref().unwrap_or_default());
        Self {
            va: module.base.raw(),
            len: module.size,
            start: module.range.start().raw(),
            span: module.range.len(),
            flags: u32::from(!name_whole) | u32::from(!path_whole) << 1,
            name,
            path,
        }
    }
}

/// The handle behind a pointer.
///
/// # Safety
///
/// `os` is NULL or a handle that is not freed for `'a`.
unsafe fn system<'a>(os: *mut Os) -> Result<&'a Os, Error> {
    // SAFETY: the caller's contract. Nobody has exclusive access to a handle that is not freed.
    unsafe { shared(os, "the vmie_os") }
}

/// See os.h.
///
/// # Safety
///
/// `m` is NULL or an open handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_os_find(m: *mut Mem) -> *mut Os {
    guard(ptr::null_mut(), || {
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        let system = m.find_system()?;
        Ok(Box::into_raw(Box::new(Os {
            kind: to_c(system.guest().kind().to_string()),
            version: to_c(system.guest().version().to_owned()),
            system,
        })))
    })
}

/// See os.h.
///
/// # Safety
///
/// `os` is NULL, or came from `vmie_os_find`, was not freed, and is not in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_os_free(os: *mut Os) {
    // SAFETY: the caller's contract.
    unsafe { destroy(os) };
}

/// See os.h.
///
/// # Safety
///
/// `os` is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_os_kind(os: *mut Os) -> *const c_char {
    // SAFETY: the caller's contract.
    guard(ptr::null(), || Ok(unsafe { system(os) }?.kind.as_ptr()))
}

/// See os.h.
///
/// # Safety
///
/// `os` is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_os_version(os: *mut Os) -> *const c_char {
    // SAFETY: the caller's contract.
    guard(ptr::null(), || Ok(unsafe { system(os) }?.version.as_ptr()))
}

/// See os.h.
///
/// # Safety
///
/// `os` is NULL or a handle, and `cr3` is NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_os_kernel_cr3(os: *mut Os, cr3: *mut u64) -> c_int {
    status(|| {
        // SAFETY: the caller's contract.
        let root = unsafe { system(os) }?.guest().kernel_space().root();
        // SAFETY: the caller's contract.
        unsafe { required(cr3, root.raw(), "cr3") }
    })
}

/// See os.h. It is no call of which there would be an error to remember.
#[unsafe(no_mangle)]
pub extern "C" fn vmie_finding(index: c_int) -> *const c_char {
    let index = usize::try_from(index).ok();
    let found = FINDINGS.try_with(|last| {
        let last = last.borrow();
        index.and_then(|index| last.get(index).map(|text| text.as_ptr()))
    });
    found.ok().flatten().unwrap_or(ptr::null())
}

/// See os.h.
///
/// # Safety
///
/// `os` is NULL or a handle, and `out` is NULL or has room for `max` processes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_processes(os: *mut Os, out: *mut CProcess, max: c_int) -> c_int {
    guard(-1, || {
        forget_findings();
        // SAFETY: the caller's contract.
        let os = unsafe { system(os) }?;
        // SAFETY: the caller's contract.
        let mut list = unsafe { List::new(out, max) }?;
        let processes = told(os.guest().processes()?);
        processes
            .iter()
            .for_each(|process| list.push(process.into()));
        Ok(list.total())
    })
}

/// See os.h.
///
/// # Safety
///
/// `os` is NULL or a handle, and `out` is NULL or has room for `max` modules.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_modules(
    os: *mut Os,
    pid: u32,
    out: *mut CModule,
    max: c_int,
) -> c_int {
    guard(-1, || {
        forget_findings();
        // SAFETY: the caller's contract.
        let os = unsafe { system(os) }?;
        // SAFETY: the caller's contract.
        let mut list = unsafe { List::new(out, max) }?;
        let process = os.process(pid)?;
        let mut modules = told(views::modules(os.guest(), process.as_ref())?);
        modules.sort_by_key(|module| module.range.start());
        modules.iter().for_each(|module| list.push(module.into()));
        Ok(list.total())
    })
}

/// See os.h.
///
/// # Safety
///
/// `os` is NULL or a handle, `module` is NULL or text that ends with a NUL, and `take` can be called with `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_symbols(
    os: *mut Os,
    pid: u32,
    module: *const c_char,
    take: SymbolFn,
    user: *mut c_void,
) -> c_int {
    guard(-1, || {
        // SAFETY: the caller's contract.
        let os = unsafe { system(os) }?;
        let take = take.ok_or_else(|| Error::argument("fn is NULL"))?;
        let module = match module.is_null() {
            true => None,
            // SAFETY: the caller's contract.
            false => Some(unsafe { text(module, "module") }?),
        };
        let table = os.table(pid, module)?;
        let mut count: c_int = 0;
        for symbol in table.iter() {
            let name = to_c(symbol.name.to_owned());
            let one = CSymbol {
                va: symbol.va.raw(),
                name: name.as_ptr(),
                // Letters of ASCII, all of them.
                kind: symbol.kind as c_char,
            };
            count = count.saturating_add(1);
            // SAFETY: the caller's contract; `one` and its name live until the call returns.
            if unsafe { take(&raw const one, user) } != 0 {
                break;
            }
        }
        Ok(count)
    })
}

/// See os.h.
///
/// # Safety
///
/// `os` is NULL or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_names_make(os: *mut Os, pid: u32) -> *mut Names {
    guard(ptr::null_mut(), || {
        // SAFETY: the caller's contract.
        let os = unsafe { system(os) }?;
        let process = os.process(pid)?;
        let (resolver, missing) = Resolver::shared(os.system.shared_guest(), process);
        // Some names are better than none, but none at all are no answer.
        if resolver.is_empty() {
            let words: Vec<String> = missing.iter().map(ToString::to_string).collect();
            let text = format!("no image has names: {}", words.join("; "));
            return Err(Error::new(Code::Os, text));
        }
        Ok(Box::into_raw(Box::new(Names(resolver))))
    })
}

/// See os.h.
///
/// # Safety
///
/// `names` is NULL, or came from `vmie_names_make`, was not freed, and is not in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_names_free(names: *mut Names) {
    // SAFETY: the caller's contract.
    unsafe { destroy(names) };
}

/// See os.h.
///
/// # Safety
///
/// `names` is NULL or a handle, and `buf` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_name_of(
    names: *mut Names,
    va: u64,
    buf: *mut c_char,
    size: usize,
) -> c_int {
    guard(-1, || {
        // SAFETY: the caller's contract. Nobody has exclusive access to a handle that is not freed.
        let Names(resolver) = unsafe { shared(names, "the vmie_names") }?;
        if buf.is_null() && size > 0 {
            return Err(Error::argument("buf is NULL"));
        }
        let name = resolver.name(Gva(va)).ok_or_else(|| {
            Error::new(Code::NotFound, format!("{va:#x} is in no image with names"))
        })?;
        let name = to_c(name.to_string());
        let bytes = name.as_bytes();
        if size > 0 {
            let len = bytes.len().min(size - 1);
            // SAFETY: `buf` is not NULL and has room for `size` bytes, more than `len`; `name` is our own.
            unsafe { ptr::copy_nonoverlapping(name.as_ptr(), buf, len) };
            // SAFETY: `len` is below `size`.
            let end = unsafe { buf.add(len) };
            // SAFETY: as above.
            unsafe { end.write(0) };
        }
        Ok(c_int::try_from(bytes.len()).unwrap_or(c_int::MAX))
    })
}

/// See os.h.
///
/// # Safety
///
/// `names` is NULL or a handle, `name` is NULL or text that ends with a NUL, and `va` is NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmie_address_of(
    names: *mut Names,
    name: *const c_char,
    va: *mut u64,
) -> c_int {
    status(|| {
        // SAFETY: the caller's contract. Nobody has exclusive access to a handle that is not freed.
        let Names(resolver) = unsafe { shared(names, "the vmie_names") }?;
        // SAFETY: the caller's contract.
        let name = unsafe { text(name, "name") }?;
        let found = resolver.address(name);
        let found = found.map_err(|error| Error::new(Code::NotFound, error.to_string()))?;
        // SAFETY: the caller's contract.
        unsafe { required(va, found.raw(), "va") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_too_long_is_cut_between_characters() {
        assert_eq!(fixed::<4>("abc"), (*b"abc\0", true));
        assert_eq!(fixed::<4>("abcd"), (*b"abc\0", false));
        assert_eq!(fixed::<4>("ab\u{e4}"), (*b"ab\0\0", false));
        assert_eq!(fixed::<8>("a\0b"), (*b"a\xef\xbf\xbdb\0\0\0", true));
        assert_eq!(fixed::<1>(""), (*b"\0", true));
    }
}
