//! Symbols: tables of them, what a name or an address means to somebody, and what leads to an address by way of imports.

mod demangle;
mod imports;
mod names;
mod resolver;
mod routes;
mod table;

pub use demangle::{demangle, demangle_base, may_be_mangled};
pub use imports::{ImportName, Imports, Slot, SlotKind, Stub};
pub(in crate::os) use names::NameIndex;
pub use resolver::{Named, Place, ResolveError, Resolver, Scope, Tier};
pub use routes::{Astray, Binding, Moved, Route, Routes, Via};
pub use table::{Symbol, SymbolTable, SymbolTableBuilder};
