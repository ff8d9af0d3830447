//! Synthetic guests and memory-image writers.
//!
//! This crate knows what a guest looks like from the inside and shares no code with the engine that
//! looks at it from the outside: it does not depend on `vmie`, uses plain `u64` addresses, and its
//! page-table encoders are written from Intel's manual. That makes it an independent oracle for the
//! engine's tests. The same guests serve the demo, the benches and fuzzing.
//!
//! Everything is deterministic: the same arguments give the same bytes on every machine.
//!
//! This is test equipment, so a wrong call (mapping a page twice, writing where there is no RAM)
//! panics with a message instead of returning an error.

pub mod guest;
pub mod linux;
pub mod write;
