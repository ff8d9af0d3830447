//! vmie's answers compared with the truth, on real guests: every variant, every image format.
//!
//! `cargo xtask test` builds the snapshots and runs this. Without a snapshot every test fails.
//!
//! Three witnesses stand against vmie: QEMU's page walker (`info tlb`, `info mem`, `gva2gpa`), the
//! guest's kernel (`/proc`), and the programs in the guest, which state what they hold. Where QEMU's
//! monitor leaves something out (the no-execute bit of upper levels; everything effective with five
//! levels), a plain recursive walker of our own takes over, after QEMU has confirmed its leaves.

mod alike;
mod borders;
mod command;
mod dissect;
mod entries;
mod everywhere;
mod images;
mod imports;
mod linux;
mod names;
mod narrow;
mod objects;
mod pointers;
mod processes;
mod refine;
mod resident;
mod rules;
mod scene;
mod search;
mod signatures;
mod support;
mod tables;
mod translate;
mod xrefs;
