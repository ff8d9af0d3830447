//! What went wrong, and each thread's memory of it.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_int};

use vmie::session::SessionError;
use vmie::signature::ParseError;
use vmie::{Address, Cause, Fault, LiveError, LiveErrorKind};

/// The codes of memmodel.h, `VMIE_E_...`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub(crate) enum Code {
    Argument = 1,
    Open = 2,
    Paging = 3,
    NotMapped = 4,
    Unreadable = 5,
    Syntax = 6,
    Limit = 7,
    Unsupported = 8,
    Gone = 9,
    Os = 10,
    NotFound = 11,
    Io = 12,
    Panic = 13,
}

/// Why a function failed.
#[derive(Clone, Debug)]
pub(crate) struct Error {
    code: Code,
    text: String,
    column: u32,
    address: u64,
}

impl Error {
    /// An error of this kind, told in words.
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            column: 0,
            address: 0,
        }
    }

    /// An argument that cannot be meant.
    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(Code::Argument, text)
    }

    /// The same, with what it is about before the words.
    #[must_use]
    pub(crate) fn about(self, what: &str) -> Self {
        Self {
            text: format!("{what}: {}", self.text),
            ..self
        }
    }

    /// That the address is the one that could not be read.
    fn at(self, address: u64) -> Self {
        Self { address, ..self }
    }
}

impl<A: Address> From<Fault<A>> for Error {
    fn from(fault: Fault<A>) -> Self {
        let code = match fault.cause {
            Cause::Gone => Code::Gone,
            cause if cause.is_unmapped() => Code::NotMapped,
            _ => Code::Unreadable,
        };
        Self::new(code, fault.to_string()).at(fault.addr.raw())
    }
}

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Live(error) => error.into(),
            error => Self::new(Code::Open, error.to_string()),
        }
    }
}

impl From<LiveError> for Error {
    fn from(error: LiveError) -> Self {
        let code = match error.kind {
            LiveErrorKind::Gone { .. } | LiveErrorKind::Closed => Code::Gone,
            _ => Code::Open,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        Self {
            column: u32::try_from(error.column()).unwrap_or(u32::MAX),
            ..Self::new(Code::Syntax, error.to_string())
        }
    }
}

/// What a thread remembers of its last call.
#[derive(Default)]
struct Last {
    code: c_int,
    text: CString,
    column: u32,
    address: u64,
}

thread_local! {
    static LAST: RefCell<Last> = RefCell::default();
}

/// Forgets the last error, at the beginning of a call.
pub(crate) fn clear() {
    with(|last| {
        // The common case leaves the text alone.
        if last.code != 0 {
            *last = Last::default();
        }
    });
}

/// Remembers an error.
pub(crate) fn set(error: Error) {
    with(|last| {
        *last = Last {
            code: error.code as c_int,
            text: to_c(error.text),
            column: error.column,
            address: error.address,
        }
    });
}

/// The code of the last error.
pub(crate) fn code() -> c_int {
    with(|last| last.code).unwrap_or(0)
}

/// The text of the last error. It stays where it is until the next call on this thread.
pub(crate) fn text() -> *const std::ffi::c_char {
    const EMPTY: &CStr = c"";
    with(|last| last.text.as_ptr()).unwrap_or(EMPTY.as_ptr())
}

/// The column of the last error.
pub(crate) fn column() -> u32 {
    with(|last| last.column).unwrap_or(0)
}

/// The address of the last error.
pub(crate) fn address() -> u64 {
    with(|last| last.address).unwrap_or(0)
}

/// `None` when the thread is about to end and remembers nothing any more.
fn with<T>(look: impl FnOnce(&mut Last) -> T) -> Option<T> {
    LAST.try_with(|last| look(&mut last.borrow_mut())).ok()
}

/// Text as C has it. A NUL within, which only a hostile file can bring, is shown as U+FFFD.
pub(crate) fn to_c(text: String) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let text = String::from_utf8_lossy(&error.into_vec()).replace('\0', "\u{fffd}");
        CString::new(text).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_same_codes() {
        let header = include_str!("../include/memmodel.h");
        let codes: Vec<(&str, i32)> = header
            .lines()
            .filter_map(|line| line.trim().strip_prefix("VMIE_E_")?.split_once(" = "))
            .map(|(name, rest)| {
                let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
                (name, digits.and_then(|d| d.parse().ok()).expect("a number"))
            })
            .collect();
        let ours = [
            ("ARGUMENT", Code::Argument),
            ("OPEN", Code::Open),
            ("PAGING", Code::Paging),
            ("NOT_MAPPED", Code::NotMapped),
            ("UNREADABLE", Code::Unreadable),
            ("SYNTAX", Code::Syntax),
            ("LIMIT", Code::Limit),
            ("UNSUPPORTED", Code::Unsupported),
            ("GONE", Code::Gone),
            ("OS", Code::Os),
            ("NOT_FOUND", Code::NotFound),
            ("IO", Code::Io),
            ("PANIC", Code::Panic),
        ]
        .map(|(name, code)| (name, code as i32));
        assert_eq!(codes, ours);
    }

    #[test]
    fn text_with_a_nul_stays_whole() {
        assert_eq!(to_c("a\0b".to_owned()).to_str(), Ok("a\u{fffd}b"));
    }
}
