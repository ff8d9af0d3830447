//! Formats of programs and libraries, read as they lie in memory.

pub mod elf;
