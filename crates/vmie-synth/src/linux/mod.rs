//! The inside of a Linux kernel, as far as an observer of its memory needs it: symbol tables, type
//! information, the crash-dump note, and a small kernel that has them all, and runs programs if asked to.
//!
//! Everything is written from the kernel's sources (`scripts/kallsyms.c` and Documentation/bpf/btf.rst,
//! `kernel/vmcore_info.c`), not from what reads it.

mod btf;
mod demo;
pub mod example;
mod kallsyms;
mod kernel;
mod loaded;
mod objects;
mod programs;
mod records;

pub use btf::{Btf, btf_header};
pub use demo::{Demo, demo};
pub use kallsyms::{Arrangement, Kallsyms, Sym, kallsyms};
pub use kernel::{Kernel, KernelPlan, note};
pub use programs::{Era, Program, Programs, Sort};
pub use records::{Definition, Records};
