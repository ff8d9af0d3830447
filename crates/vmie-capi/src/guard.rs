//! The border between C and the engine: nothing unwinds across it.

use std::any::Any;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{self, Code, Error};

/// Runs what a C function does. An error becomes the thread's last error and the answer `failure`; so does a
/// panic, which would be a fault of ours.
///
/// What a panic leaves behind is seen by later calls: everything that changes in a handle is behind locks that
/// are whole between any two steps, and the engine's types do not change.
pub(crate) fn guard<T>(failure: T, call: impl FnOnce() -> Result<T, Error>) -> T {
    error::clear();
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            error::set(error);
            failure
        }
        Err(panic) => {
            error::set(Error::new(
                Code::Panic,
                format!("a fault within vmie: {}", words(&*panic)),
            ));
            // What was thrown may itself panic when it is dropped.
            std::mem::forget(panic);
            failure
        }
    }
}

/// [`guard`] for functions that answer 0 or -1.
pub(crate) fn status(call: impl FnOnce() -> Result<(), Error>) -> c_int {
    guard(-1, || call().map(|()| 0))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(guard(-1, || panic!("on {}", "purpose")), -1);
        assert_eq!(error::code(), Code::Panic as c_int);
        assert_eq!(guard(-1, || Ok(7)), 7);
        assert_eq!(error::code(), 0, "the next call forgets it");
    }
}
