//! Takes arbitrary bytes for the state of a microVM, beside a memory file of 1 MiB.
#![no_main]

#[allow(dead_code)] // its checks are used here, and not its own way to open
#[path = "../../crates/vmie/tests/engine/bodies/open_image.rs"]
mod open_image;
#[path = "../../crates/vmie/tests/engine/bodies/open_microvm.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = body::open_microvm(data);
});
