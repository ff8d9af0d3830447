//! Takes arbitrary bytes for the state of a microVM, beside a memory file of 1 MiB.
#![no_main]

#[path = "../../crates/vmie/tests/bodies/open_microvm.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = body::open_microvm(data);
});
