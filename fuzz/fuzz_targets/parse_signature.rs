//! Reads arbitrary text as a signature.
#![no_main]

#[path = "../../crates/vmie/tests/engine/bodies/parse_signature.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = body::parse_signature(text);
});
