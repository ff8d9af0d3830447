//! Takes arbitrary bytes for page tables, of any mode, and walks them in every way there is.
#![no_main]

#[path = "../../crates/vmie/tests/engine/bodies/walk_tables.rs"]
mod body;
#[path = "../../crates/vmie/src/testmem.rs"]
mod testmem;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    body::walk_tables(data);
});
