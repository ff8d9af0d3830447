//! What C hands over by pointer.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::path::PathBuf;

use crate::error::{Code, Error};
use crate::guard::guard;

/// Text of the caller's; `what` names it in errors.
///
/// # Errors
///
/// When it is NULL, or not UTF-8.
///
/// # Safety
///
/// `text` is NULL, or ends with a NUL and does not change for `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, Error> {
    // SAFETY: the caller's contract.
    let text = unsafe { bytes(text, what) }?;
    text.to_str()
        .map_err(|_| Error::new(Code::Argument, format!("{what} is not UTF-8")))
}

/// A path of the caller's, in the encoding of the file system.
///
/// # Errors
///
/// When it is NULL; where paths are Unicode, also when it is not UTF-8.
///
/// # Safety
///
/// As [`text`].
pub(crate) unsafe fn path(text: *const c_char, what: &str) -> Result<PathBuf, Error> {
    // SAFETY: the caller's contract.
    let text = unsafe { bytes(text, what) }?;
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        Ok(std::ffi::OsStr::from_bytes(text.to_bytes()).into())
    }
    #[cfg(not(unix))]
    {
        let text = text.to_str();
        text.map(PathBuf::from)
            .map_err(|_| Error::argument(format!("{what} is not UTF-8")))
    }
}

/// # Safety
///
/// As [`text`].
unsafe fn bytes<'a>(text: *const c_char, what: &str) -> Result<&'a CStr, Error> {
    if text.is_null() {
        return Err(Error::argument(format!("{what} is NULL")));
    }
    // SAFETY: not NULL, so by the caller's contract it ends with a NUL.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// What a pointer of the caller's leads to; `what` names it in errors.
///
/// # Errors
///
/// When it is NULL.
///
/// # Safety
///
/// `pointer` is NULL or valid for `'a`, and nothing but shared access to it happens meanwhile.
pub(crate) unsafe fn shared<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Error> {
    // SAFETY: the caller's contract.
    unsafe { pointer.as_ref() }.ok_or_else(|| Error::argument(format!("{what} is NULL")))
}

/// Drops what a handle stands for. NULL stands for nothing.
///
/// # Safety
///
/// `handle` is NULL, or came from `Box::into_raw`, was not destroyed, and is not in use.
pub(crate) unsafe fn destroy<T>(handle: *mut T) {
    guard((), || {
        if !handle.is_null() {
            // SAFETY: not NULL, so by the caller's contract it is a box that nobody else has.
            drop(unsafe { Box::from_raw(handle) });
        }
        Ok(())
    });
}

/// Gives `value` to the caller where one place for it was given.
///
/// # Safety
///
/// `out` is NULL, or aligned and valid for writing.
pub(crate) unsafe fn give<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: not NULL, so valid by the caller's contract.
        unsafe { out.write(value) };
    }
}

/// As [`give`], where a place is needed.
///
/// # Errors
///
/// When it is NULL.
///
/// # Safety
///
/// As [`give`].
pub(crate) unsafe fn required<T>(out: *mut T, value: T, what: &str) -> Result<(), Error> {
    if out.is_null() {
        return Err(Error::argument(format!("{what} is NULL")));
    }
    // SAFETY: the caller's contract.
    unsafe { give(out, value) };
    Ok(())
}
