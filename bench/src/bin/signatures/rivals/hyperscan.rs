//! Hyperscan and its fork Vectorscan, opened at run time.
//!
//! Both come as `libhs.so.5` with the same interface. `cargo xtask bench` fetches Debian's packages
//! and names the files in `VMIE_BENCH_HS`, separated by colons; without it the library of the system
//! is taken, if there is one.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::fmt::Write as _;
use std::ptr;
use std::sync::Arc;

use super::{Rival, Tally, margin};
use crate::cpu_time;
use crate::image::Image;
use crate::sample::Pattern;

const MODE_BLOCK: c_uint = 1;
const FLAG_DOTALL: c_uint = 2;
const SUCCESS: c_int = 0;

type OnMatch = unsafe extern "C" fn(c_uint, c_ulonglong, c_ulonglong, c_uint, *mut c_void) -> c_int;
type CompileMulti = unsafe extern "C" fn(
    *const *const c_char,
    *const c_uint,
    *const c_uint,
    c_uint,
    c_uint,
    *const c_void,
    *mut *mut c_void,
    *mut *mut c_void,
) -> c_int;
type AllocScratch = unsafe extern "C" fn(*const c_void, *mut *mut c_void) -> c_int;
type Scan = unsafe extern "C" fn(
    *const c_void,
    *const c_char,
    c_uint,
    c_uint,
    *mut c_void,
    OnMatch,
    *mut c_void,
) -> c_int;
type Version = unsafe extern "C" fn() -> *const c_char;
type Free = unsafe extern "C" fn(*mut c_void) -> c_int;

/// An opened library.
pub(crate) struct Library {
    name: String,
    functions: Arc<Functions>,
}

struct Functions {
    compile: CompileMulti,
    alloc_scratch: AllocScratch,
    scan: Scan,
    free_database: Free,
    free_scratch: Free,
    /// Keeps the functions where they are.
    _library: libloading::Library,
}

/// Those that can be opened. What cannot is said.
pub(crate) fn libraries() -> Vec<Library> {
    let named = std::env::var("VMIE_BENCH_HS").unwrap_or_default();
    let paths: Vec<&str> = named.split(':').filter(|path| !path.is_empty()).collect();
    let paths = if paths.is_empty() {
        vec!["libhs.so.5"]
    } else {
        paths
    };
    let mut opened = Vec::new();
    for path in paths {
        match Library::open(path) {
            Ok(library) => opened.push(library),
            Err(error) => println!("Left out, since it cannot be opened: {path} ({error})\n"),
        }
    }
    opened
}

impl Library {
    fn open(path: &str) -> Result<Self, libloading::Error> {
        // SAFETY: the library's initialisers only set up dispatch by the features of the CPU.
        let library = unsafe { libloading::Library::new(path) }?;
        // SAFETY: the types are those of the library's header hs_compile.h.
        let compile = *unsafe { library.get::<CompileMulti>(b"hs_compile_multi\0") }?;
        // SAFETY: as in hs_runtime.h, as are the next ones.
        let alloc_scratch = *unsafe { library.get::<AllocScratch>(b"hs_alloc_scratch\0") }?;
        // SAFETY: see above.
        let scan = *unsafe { library.get::<Scan>(b"hs_scan\0") }?;
        // SAFETY: see above.
        let free_database = *unsafe { library.get::<Free>(b"hs_free_database\0") }?;
        // SAFETY: see above.
        let free_scratch = *unsafe { library.get::<Free>(b"hs_free_scratch\0") }?;
        // SAFETY: see above.
        let version = *unsafe { library.get::<Version>(b"hs_version\0") }?;
        // SAFETY: it takes nothing.
        let version = unsafe { version() };
        // SAFETY: it answers with a string that lives as long as the library.
        let version = unsafe { CStr::from_ptr(version) }
            .to_string_lossy()
            .into_owned();
        let version = version.split(' ').next().unwrap_or_default().to_owned();
        let name = match path.contains("vectorscan") {
            true => format!("Vectorscan {version}"),
            false => format!("Hyperscan {version}"),
        };
        Ok(Self {
            name,
            functions: Arc::new(Functions {
                compile,
                alloc_scratch,
                scan,
                free_database,
                free_scratch,
                _library: library,
            }),
        })
    }

    /// The patterns, compiled; `None` with a message when it refuses them.
    pub(crate) fn rival(&self, patterns: &[Pattern]) -> Option<Rival> {
        let start = cpu_time();
        let database = Database::new(&self.functions, patterns)?;
        Some(Rival {
            name: self.name.clone(),
            built: cpu_time().saturating_sub(start),
            run: Box::new(move |image| database.run(image)),
        })
    }
}

/// A compiled set and what a scan needs.
struct Database {
    functions: Arc<Functions>,
    database: *mut c_void,
    scratch: *mut c_void,
    lengths: Vec<usize>,
    margin: usize,
}

impl Database {
    fn new(functions: &Arc<Functions>, patterns: &[Pattern]) -> Option<Self> {
        let texts: Vec<CString> = patterns.iter().map(expression).collect();
        let pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
        let flags = vec![FLAG_DOTALL; patterns.len()];
        let count = c_uint::try_from(patterns.len()).ok()?;
        let ids: Vec<c_uint> = (0..count).collect();
        let mut made = Self {
            functions: Arc::clone(functions),
            database: ptr::null_mut(),
            scratch: ptr::null_mut(),
            lengths: patterns.iter().map(Pattern::len).collect(),
            margin: margin(patterns),
        };
        let mut error = ptr::null_mut();
        // SAFETY: three arrays of `count` elements, strings that end in zero, and two places for
        // answers, all alive; no platform means this machine.
        let status = unsafe {
            (functions.compile)(
                pointers.as_ptr(),
                flags.as_ptr(),
                ids.as_ptr(),
                count,
                MODE_BLOCK,
                ptr::null(),
                &raw mut made.database,
                &raw mut error,
            )
        };
        if status != SUCCESS {
            println!("Left out: {count} signatures were refused with status {status}\n");
            return None;
        }
        // SAFETY: the database was just made.
        let status = unsafe { (functions.alloc_scratch)(made.database, &raw mut made.scratch) };
        (status == SUCCESS).then_some(made)
    }

    fn run(&self, image: &Image) -> Tally {
        let mut tally = Tally::default();
        for (base, len) in image.used(self.margin) {
            let mut context = Context {
                tally: &mut tally,
                lengths: &self.lengths,
                base,
            };
            let bytes = &image.bytes()[base..base + len];
            // SAFETY: the database and its scratch are alive and used by this thread only, the bytes
            // are as many as said, and `on_match` gets the context that it expects.
            let status = unsafe {
                (self.functions.scan)(
                    self.database,
                    bytes.as_ptr().cast(),
                    c_uint::try_from(len).expect("less than 4 GiB"),
                    0,
                    self.scratch,
                    on_match,
                    (&raw mut context).cast(),
                )
            };
            assert_eq!(status, SUCCESS, "a scan failed");
        }
        tally
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // SAFETY: made by the same library, and used no more.
        unsafe { (self.functions.free_scratch)(self.scratch) };
        // SAFETY: as above.
        unsafe { (self.functions.free_database)(self.database) };
    }
}

struct Context<'a> {
    tally: &'a mut Tally,
    lengths: &'a [usize],
    base: usize,
}

/// # Safety
///
/// `context` is the [`Context`] of the scan.
unsafe extern "C" fn on_match(
    id: c_uint,
    _from: c_ulonglong,
    to: c_ulonglong,
    _flags: c_uint,
    context: *mut c_void,
) -> c_int {
    // SAFETY: see above; nobody else uses it while the scan runs.
    let context = unsafe { &mut *context.cast::<Context<'_>>() };
    let pattern = id as usize;
    let at = context.base + to as usize - context.lengths[pattern];
    context.tally.add(at, pattern);
    0
}

/// A pattern as a regular expression.
fn expression(pattern: &Pattern) -> CString {
    let mut text = String::new();
    for byte in &pattern.bytes {
        match byte {
            Some(byte) => {
                let _ = write!(text, "\\x{byte:02x}");
            }
            None => text.push('.'),
        }
    }
    CString::new(text).expect("no zero byte in it")
}
