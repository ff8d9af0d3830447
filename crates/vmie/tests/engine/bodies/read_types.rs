//! What must hold for *any* bytes taken for type information, BTF or ISF.
//!
//! One body for the tests, which run it on mutated files, and for the fuzz target of the same name.

#![allow(unreachable_pub)] // shared by a test and a fuzz target, a library of neither

use std::sync::LazyLock;

use vmie::Gva;
use vmie::os::isf::Isf;
use vmie::os::linux::types_of_btf;
use vmie::os::{ShowOptions, Type, TypeId, Types, show_text};

use super::testmem::TestMemory;

/// Everywhere the same byte, with a hole from 1 MiB on.
static MEMORY: LazyLock<TestMemory<Gva>> = LazyLock::new(|| TestMemory::of(0, &[0x41; 1 << 20]));

/// Reads `data` as types and asks everything of the first of them. Answers how many there are.
pub fn read_types(data: &[u8]) -> Option<u32> {
    let types = match types_of_btf(data.to_vec()) {
        Ok(types) => types,
        Err(_) => match Isf::parse(data) {
            Ok(isf) => {
                let types = isf.types;
                return Some(ask(&types));
            }
            Err(_) => return None,
        },
    };
    Some(ask(&types))
}

fn ask(types: &Types) -> u32 {
    let options = ShowOptions {
        elements: 4,
        rows: 200,
        pointers: 2,
        ..ShowOptions::default()
    };
    for id in (0..types.end().min(64)).map(TypeId) {
        let size = types.size_of(id);
        let text = types.declare(id, "x");
        assert!(text.len() < 1 << 20, "a declaration has a bound");
        if let Ok(layout) = types.layout(id, 2) {
            assert_eq!(Ok(layout.size), size, "both go by the same type");
            assert!(layout.rows.len() < 200_000, "a layout has a bound");
            let _ = layout.to_string();
        }
        if let Ok(rows) = types.show(&*MEMORY, id, Gva(0x1000), &options) {
            assert!(rows.len() < 1000, "what is shown has a bound");
            let _ = show_text(&rows);
        }
        if let Ok(Type::Record(record)) = types.get(id) {
            for member in record
                .members
                .iter()
                .filter(|member| !member.name.is_empty())
            {
                if let Ok(field) = types.field(id, member.name) {
                    assert!(field.bit_offset <= u64::MAX / 2 || member.bit_offset > u64::MAX / 2);
                }
            }
        }
    }
    types.end()
}
