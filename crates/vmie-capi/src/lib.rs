//! The vmie engine as a C library.
//!
//! The contract of every function stands in its header, `include/*.h`, and is not repeated here. There is a file
//! for each header, and three for pmap.h: one Rust function for each C function, which checks what C hands over, calls the engine, and
//! hands the answer back. They are the only unsafe code, with what they share: `list.rs` and `text.rs`.
//!
//! ```text
//! C call -> guard: clears the last error, catches panics -> arguments checked -> engine -> list, coverage, error
//! ```
//!
//! * **Nothing unwinds into C.** `guard` turns an error into the thread's last error and the
//!   function's failure value, and a panic as well.
//! * **No state besides handles and each thread's last error and coverage.** Handles are `Send + Sync`; what
//!   changes in one is behind a lock.
//! * **The symbols exported are those declared.** `symbols.txt` lists them; `cargo xtask capi` compares the list
//!   with the headers and with the library.
//!
//! # How to add a function
//!
//! Declare it in the header with ownership, units and errors; write it in the header's file, its body within
//! `guard`; add it to `symbols.txt`; call it in `tests/HEADER.c` rightly and wrongly, and compare
//! what it gives with the command in `xtask/src/capi/agree.rs`. A struct that it hands over stands in `tests/rows.rs`, with the
//! row of the command that it corresponds to.
//!
//! Rejected: headers made by cbindgen. They are the product here, and read by people; the tests see to it that
//! they and the code agree.

mod coverage;
pub mod dissect;
mod error;
mod guard;
mod handle;
mod list;
pub mod memmodel;
pub mod narrow;
pub mod os;
pub mod paths;
mod phys;
pub mod pmap;
pub mod scan;
pub mod sigscan;
pub mod snapdiff;
mod text;
