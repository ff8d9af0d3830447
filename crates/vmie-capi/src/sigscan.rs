//! sigscan.h: signatures, one and many.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use vmie::signature::{CompileError, Set, Signature};

use crate::error::{Code, Error, to_c};
use crate::guard::guard;
use crate::text::{destroy, give, shared, text};

/// `vmie_sig`: a signature, compiled to be found.
pub struct CSig {
    pub(crate) set: Set,
    text: CString,
}

/// `struct sigset`.
pub struct CSigset {
    pub(crate) set: Set,
    names: Vec<CString>,
}

impl From<CompileError> for Error {
    fn from(error: CompileError) -> Self {
        let code = match error {
            CompileError::Empty => Code::Argument,
            _ => Code::Limit,
        };
        Self::new(code, error.to_string())
    }
}

impl CSig {
    fn signature(&self) -> Result<&Signature, Error> {
        let one = self.set.signatures().first();
        one.ok_or_else(|| Error::argument("the signature is none"))
    }
}

/// See sigscan.h.
///
/// # Safety
///
/// `source` is NULL or text that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sig_parse(source: *const c_char) -> *mut CSig {
    guard(ptr::null_mut(), || {
        // SAFETY: the caller's contract.
        let source = unsafe { text(source, "text") }?;
        let signature = Signature::parse("", source)?;
        let sig = CSig {
            text: to_c(signature.to_string()),
            set: Set::compile(vec![signature])?,
        };
        Ok(Box::into_raw(Box::new(sig)))
    })
}

/// See sigscan.h.
///
/// # Safety
///
/// `sig` is NULL, or came from `sig_parse`, was not freed, and is not in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sig_free(sig: *mut CSig) {
    // SAFETY: the caller's contract.
    unsafe { destroy(sig) };
}

/// See sigscan.h.
///
/// # Safety
///
/// `sig` is NULL or a signature that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sig_text(sig: *const CSig) -> *const c_char {
    guard(ptr::null(), || {
        // SAFETY: the caller's contract.
        let sig = unsafe { shared(sig, "the vmie_sig") }?;
        Ok(sig.text.as_ptr())
    })
}

/// See sigscan.h.
///
/// # Safety
///
/// As [`sig_text`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sig_min_len(sig: *const CSig) -> u32 {
    guard(0, || {
        // SAFETY: the caller's contract.
        let sig = unsafe { shared(sig, "the vmie_sig") }?;
        Ok(u32::try_from(sig.signature()?.min_len()).unwrap_or(u32::MAX))
    })
}

/// See sigscan.h.
///
/// # Safety
///
/// As [`sig_text`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sig_max_len(sig: *const CSig) -> u32 {
    guard(0, || {
        // SAFETY: the caller's contract.
        let sig = unsafe { shared(sig, "the vmie_sig") }?;
        Ok(u32::try_from(sig.signature()?.max_len()).unwrap_or(u32::MAX))
    })
}

/// See sigscan.h.
///
/// # Safety
///
/// `texts` is NULL or has `count` elements, and so has `names`; all of them are NULL or text that ends with a NUL.
/// `bad` is NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigset_compile(
    texts: *const *const c_char,
    names: *const *const c_char,
    count: c_int,
    bad: *mut c_int,
) -> *mut CSigset {
    guard(ptr::null_mut(), || {
        // SAFETY: the caller's contract.
        unsafe { give(bad, -1) };
        let number = usize::try_from(count)
            .map_err(|_| Error::argument(format!("count is {count}; expected 1 or more")))?;
        // SAFETY: the caller's contract.
        let texts = unsafe { array(texts, number, "texts") }?;
        let names = if names.is_null() {
            None
        } else {
            // SAFETY: the caller's contract.
            Some(unsafe { array(names, number, "names") }?)
        };
        let mut signatures = Vec::new();
        for (index, &source) in (0..count).zip(texts) {
            // SAFETY: the caller's contract.
            let source = unsafe { text(source, "a text") };
            let name = match names.map(|names| names[signatures.len()]) {
                Some(name) if !name.is_null() => {
                    // SAFETY: the caller's contract.
                    unsafe { text(name, "a name") }
                }
                _ => Ok(""),
            };
            let parse = || Ok::<_, Error>(Signature::parse(name?, source?)?);
            let signature = parse().map_err(|error| {
                // SAFETY: the caller's contract.
                unsafe { give(bad, index) };
                error.about(&format!("signature {index}"))
            })?;
            signatures.push(signature);
        }
        let names = signatures
            .iter()
            .map(|signature| to_c(signature.name().to_owned()))
            .collect();
        let set = CSigset {
            set: Set::compile(signatures)?,
            names,
        };
        Ok(Box::into_raw(Box::new(set)))
    })
}

/// An array of texts.
///
/// # Safety
///
/// `first` is NULL or has `count` elements for `'a`.
unsafe fn array<'a>(
    first: *const *const c_char,
    count: usize,
    what: &str,
) -> Result<&'a [*const c_char], Error> {
    if first.is_null() {
        return Err(Error::argument(format!("{what} is NULL")));
    }
    if count
        .checked_mul(size_of::<*const c_char>())
        .is_none_or(|len| isize::try_from(len).is_err())
    {
        return Err(Error::argument(format!("{count} texts fit nowhere")));
    }
    // SAFETY: the caller's contract, and no longer than any object.
    Ok(unsafe { std::slice::from_raw_parts(first, count) })
}

/// See sigscan.h.
///
/// # Safety
///
/// `set` is NULL, or came from `sigset_compile`, was not freed, and is not in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigset_free(set: *mut CSigset) {
    // SAFETY: the caller's contract.
    unsafe { destroy(set) };
}

/// See sigscan.h.
///
/// # Safety
///
/// `set` is NULL or a set that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigset_count(set: *const CSigset) -> c_int {
    guard(-1, || {
        // SAFETY: the caller's contract.
        let set = unsafe { shared(set, "the sigset") }?;
        Ok(c_int::try_from(set.names.len()).unwrap_or(c_int::MAX))
    })
}

/// See sigscan.h.
///
/// # Safety
///
/// As [`sigset_count`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigset_name(set: *const CSigset, index: c_int) -> *const c_char {
    guard(ptr::null(), || {
        // SAFETY: the caller's contract.
        let set = unsafe { shared(set, "the sigset") }?;
        let name = usize::try_from(index).ok().and_then(|at| set.names.get(at));
        name.map(|name| name.as_ptr()).ok_or_else(|| {
            Error::argument(format!(
                "there is no signature {index} of {}",
                set.names.len()
            ))
        })
    })
}
