//! Opens arbitrary bytes as a memory image, enumerates and reads it.
#![no_main]

#[path = "../../crates/vmie/tests/engine/bodies/open_image.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = body::open_image(data);
});
