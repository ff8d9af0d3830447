//! Reads arbitrary bytes as BTF or ISF and asks everything of the types in them.
#![no_main]

#[path = "../../crates/vmie/tests/engine/bodies/read_types.rs"]
mod body;
#[path = "../../crates/vmie/src/testmem.rs"]
mod testmem;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = body::read_types(data);
});
