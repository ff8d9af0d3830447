//! The engine through its public interface: images of every format, page tables, signatures, and whatever is hostile.
//!
//! One program, because each links the whole engine.

mod avml_zeros;
mod bodies;
mod common;
mod examples;
mod firecracker;
mod hostile_elf;
#[cfg(feature = "isf")]
mod hostile_guests;
mod hostile_images;
mod hostile_microvms;
mod hostile_snapshots;
mod image_formats;
mod kdump;
#[cfg(feature = "cloud-hypervisor")]
mod microvm;
mod own_files;
mod raw_images;
mod signatures;
mod synthetic_paging;
#[path = "../../src/testguest.rs"]
mod testguest;
mod widths;
