//! Operating systems looked for, and types read, where somebody has been at the bytes.

use crate::bodies::find_os::find_os;
use crate::bodies::read_types::read_types;
use vmie_synth::guest::Rng;
use vmie_synth::linux::{Arrangement, Btf, Sym, kallsyms, note};

const ROUNDS: usize = 150;

fn mutate(good: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..1 + rng.below(5) {
        let at = rng.below(bytes.len() as u64) as usize;
        let end = bytes.len().min(at + 1 + rng.below(8) as usize);
        match rng.below(4) {
            0 => bytes[at..end].fill(0),
            1 => bytes[at..end].fill(0xff),
            2 => rng.fill(&mut bytes[at..end]),
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

/// A page with a note, and symbol tables.
fn tables(arrangement: Arrangement) -> Vec<u8> {
    let symbols: Vec<Sym> = (0..700)
        .map(|i| {
            Sym::new(
                0xffff_ffff_8100_0000 + 64 * i,
                'T',
                format!("do_{i:04}_thing"),
            )
        })
        .collect();
    let lines = [
        "OSRELEASE=6.1.0",
        "SYMBOL(swapper_pg_dir)=ffffffff81003000",
        "NUMBER(phys_base)=-16777216",
    ];
    let mut bytes = note(&lines.map(str::to_owned));
    bytes.resize(4096, 0);
    bytes.extend(kallsyms(arrangement, &symbols, 0xffff_ffff_8100_1000).bytes);
    bytes
}

#[test]
fn kernels_with_damaged_tables() {
    let mut rng = Rng::new(11);
    for arrangement in Arrangement::ALL {
        let good = tables(arrangement);
        let said = find_os(&good);
        assert!(said.contains("VMCOREINFO: at 0x0, of 6.1.0"), "{said}");
        // Place-relative offsets need more of an image around them.
        if arrangement < Arrangement::V7_0 {
            assert!(said.contains("kallsyms: 700 symbols"), "{said}");
        }
        for _ in 0..ROUNDS {
            find_os(&mutate(&good, &mut rng));
        }
    }
}

/// Types that refer to each other in every way.
fn btf() -> Vec<u8> {
    let mut w = Btf::default();
    let int = w.int("int", 4, 1);
    let char = w.int("char", 1, 1);
    let long = w.int_bits("long", 8, 3, 7);
    let text = w.pointer(char);
    let array = w.array(text, int, 3);
    let union = w.union("", 8, &[("a", long), ("b", text)]);
    let record = w.structure(
        "record",
        64,
        &[("x", int, 0), ("", union, 64), ("names", array, 128)],
    );
    let prototype = w.prototype(record, &[("r", record), ("", 0)]);
    w.pointer(prototype);
    w.function("run", prototype);
    w.typedef("record_t", record);
    w.qualifier(10, record);
    w.enumeration("e", true, &[("A", -1), ("B", 1)]);
    w.enumeration64("f", false, &[("C", u64::MAX)]);
    w.bit_fields("bits", 8, &[("l", int, 0, 3), ("m", int, 3, 61)]);
    w.forward("later", true);
    w.variable("v", record);
    w.float("double", 8);
    w.bytes()
}

#[test]
fn types_with_damaged_descriptions() {
    let mut rng = Rng::new(12);
    let good = btf();
    assert_eq!(read_types(&good), Some(19));
    let mut read = 0;
    for _ in 0..20 * ROUNDS {
        // The header is short and its damage soon told: most changes go behind it.
        let mut bytes = good[..24].to_vec();
        bytes.extend(mutate(&good[24..], &mut rng));
        read += usize::from(read_types(&bytes).is_some());
    }
    assert!(read > 10 * ROUNDS / 10, "only {read} were read at all");
}

#[test]
fn files_of_types_with_damaged_descriptions() {
    let json = br#"{"metadata": {"format": "6.2.0"},
        "base_types": {"int": {"size": 4, "signed": true, "kind": "int", "endian": "little"}},
        "user_types": {"r": {"kind": "struct", "size": 16, "fields": {
            "x": {"offset": 0, "type": {"kind": "base", "name": "int"}},
            "b": {"offset": 4, "type": {"kind": "bitfield", "bit_position": 3, "bit_length": 5,
                "type": {"kind": "base", "name": "int"}}},
            "p": {"offset": 8, "type": {"kind": "array", "count": 2, "subtype": {"kind": "struct", "name": "r"}}}}}},
        "enums": {"e": {"size": 4, "base": "int", "constants": {"A": -1}}},
        "symbols": {"s": {"address": 4096}}}"#;
    assert_eq!(read_types(json), Some(5));
    let mut rng = Rng::new(13);
    for _ in 0..10 * ROUNDS {
        let mut bytes = json.to_vec();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = b"0123456789\"{}[]:,abcxy-"[rng.below(23) as usize];
        }
        read_types(&bytes);
    }
}
