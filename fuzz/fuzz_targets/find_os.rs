//! Looks for an operating system in arbitrary memory.
#![no_main]

#[path = "../../crates/vmie/tests/engine/bodies/find_os.rs"]
mod body;
#[path = "../../crates/vmie/src/testmem.rs"]
mod testmem;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = body::find_os(data);
});
