//! Synthetic guests and memory-image writers.
