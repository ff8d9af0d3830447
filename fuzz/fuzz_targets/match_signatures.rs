//! Finds arbitrary signatures in arbitrary bytes with every engine.
#![no_main]

#[path = "../../crates/vmie/tests/engine/bodies/match_signatures.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = body::match_signatures(data);
});
