//! Opens arbitrary bytes as the file of a snapshot and reads what is intact.
#![no_main]

#[path = "../../crates/vmie/tests/engine/bodies/open_snapshot.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = body::open_snapshot(data);
});
