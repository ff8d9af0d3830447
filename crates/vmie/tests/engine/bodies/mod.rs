//! What must hold for any bytes: bodies of tests, which the fuzz targets include by their paths.
#![allow(unreachable_pub)] // for the fuzz targets

#[cfg(feature = "isf")]
pub mod find_os;
pub mod match_signatures;
pub mod open_image;
pub mod open_microvm;
pub mod open_snapshot;
pub mod parse_signature;
pub mod read_elf;
#[cfg(feature = "isf")]
pub mod read_types;
#[path = "../../../src/testmem.rs"]
mod testmem;
pub mod walk_tables;
