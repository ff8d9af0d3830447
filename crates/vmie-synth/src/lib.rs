//! Synthetic guests and memory-image writers.

pub mod write;
