//! Takes arbitrary bytes in memory for an ELF image and reads its symbols.
#![no_main]

#[path = "../../crates/vmie/tests/engine/bodies/read_elf.rs"]
mod body;
#[path = "../../crates/vmie/src/testmem.rs"]
mod testmem;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = body::read_elf(data);
});
