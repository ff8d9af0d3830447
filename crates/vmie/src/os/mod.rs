//! Operating systems: processes, modules, symbols and types of a guest.
//!
//! [`find`] looks at physical memory and answers with a [`Guest`], the one interface through which
//! everything above asks; it is the same for every operating system, and rows ([`Process`], [`Vma`],
//! [`Module`], [`Symbol`]) are plain data. Nothing below this module names an operating-system concept.
//!
//! Three rules:
//!
//! * **No answer without verification.** A search that cannot confirm what it found says so
//!   ([`FindError`] names each step and what was seen) and goes no further. In particular, a failed
//!   search is never an empty list.
//! * **Lists belong to the guest.** They may be damaged or doctored. A [`Listing`] gives what could be
//!   read and, beside it, [`Finding`]s: what did not add up, and where.
//! * **Lazily.** Symbols and types are read when somebody asks for them.
//!
//! # How to add an operating system
//!
//! 1. A module beside [`linux`] with a search `fn(&Arc<dyn Memory>, &Hints, &FindOptions) ->
//!    Result<Box<dyn Guest>, Missed>`: it verifies each step, and when it fails it tells what each step saw. It is
//!    quick to say no, since it runs for guests of other systems too.
//! 2. An implementation of [`Guest`]: five methods to begin with. What it does not have yet answers
//!    [`OsError::Unavailable`] by default. What only this system has of a process goes into a variant of
//!    [`ProcessSystem`].
//! 3. A line in `SEARCHES` (`find.rs`), and a variant of [`Kind`]; one in `ROOTS` where its page tables are found without
//!    a search, which tells how raw images are laid out.
//! 4. Symbols go into a [`SymbolTable`], types into a [`TypeSource`]: everything that prints or
//!    resolves names works from there.
//! 5. Tests against a synthetic guest for every way in which it can be damaged, and a lab guest for the
//!    truth.

pub mod binfmt;
mod cache;
mod code;
mod error;
mod find;
mod finding;
mod guest;
pub mod linux;
pub mod object;
mod rows;
mod search;
mod symbols;
mod trail;
mod types;
mod width;

pub use binfmt::elf;
pub use cache::{Cache, Identity};
pub use code::{Code, CodePages, UnmappedCode};
pub use error::{FindError, OsError};
pub use find::{find, find_with, likely_roots};
pub use finding::{Finding, FindingKind, Listing};
pub use guest::Guest;
pub use rows::{
    MappedFile, Module, PageState, Process, ProcessState, ProcessSystem, Residency, Vma,
};
pub(crate) use search::Phys;
pub use search::{
    Acquisition, Effort, FindOptions, Kind, LikelyRoot, Missed, OtherKernel, RamCount, Step,
};
pub use symbols::{
    Astray, Binding, ImportName, Imports, Moved, Named, Place, ResolveError, Resolver, Route,
    Routes, Scope, Slot, SlotKind, Stub, Symbol, SymbolTable, SymbolTableBuilder, Tier, Via,
    demangle, demangle_base, may_be_mangled,
};
pub use trail::{Trail, UnknownTrail};
#[cfg(feature = "isf")]
pub use types::isf;
pub use types::{
    BuildId, Encoding, Field, Layout, LayoutKind, LayoutRow, MAX_CHAIN, MAX_NESTING, Member,
    NoBuildId, Record, ShowOptions, ShowRow, SuppliedTypes, Type, TypeError, TypeId, TypeSource,
    TypeStore, Types, Value, show_text,
};
pub use width::{ProcessWidth, WidthSign};
