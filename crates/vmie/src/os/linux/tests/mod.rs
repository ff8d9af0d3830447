//! Linux guests made up for the purpose: found in every arrangement, and not fooled.

mod areas;
mod cache;
mod display;
mod find;
mod hostile;
mod lists;
mod maple;
mod mm;
mod salvage;
mod scan;
mod swap;
mod tasks;
mod typeinfo;
mod types;
mod width;
pub(in crate::os) mod world;
mod xarray;
