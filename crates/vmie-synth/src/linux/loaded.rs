//! Programs and libraries as a loader leaves them in memory: an ELF header, program headers, and the tables of
//! dynamic symbols, all in the first segment.
//!
//! Written from the System V ABI, chapters 4 and 5, and its supplement for AMD64.

/// `p_flags`.
pub(super) const R: u32 = 4;
/// Readable and executable.
pub(super) const RX: u32 = 4 | 1;
/// Readable and writable.
pub(super) const RW: u32 = 4 | 2;

/// A dynamic symbol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exported {
    pub(super) name: &'static str,
    /// Offset in the image.
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) function: bool,
}

/// What the first segment holds, from the start of the file on. `segments` are offset, bytes and flags of each,
/// the first from 0; they stand in memory as they do in the file.
pub(super) fn first_segment(segments: &[(u64, u64, u32)], symbols: &[Exported]) -> Vec<u8> {
    const HEADER: usize = 64;
    const SEGMENT: usize = 56;
    let headers = segments.len() + 1;
    let symtab = HEADER + headers * SEGMENT;
    let hash = symtab + (symbols.len() + 1) * 24;
    let strtab = hash + (symbols.len() + 4) * 4;

    let mut names = vec![0];
    let mut table = vec![0; 24];
    for symbol in symbols {
        table.extend((names.len() as u32).to_le_bytes());
        names.extend(symbol.name.as_bytes());
        names.push(0);
        // STB_GLOBAL, and STT_FUNC or STT_OBJECT.
        table.push(1 << 4 | if symbol.function { 2 } else { 1 });
        table.push(0);
        let section: u16 = if symbol.function { 1 } else { 2 };
        table.extend(section.to_le_bytes());
        table.extend(symbol.at.to_le_bytes());
        table.extend(symbol.len.to_le_bytes());
    }
    // One bucket, and so a chain through all symbols.
    let count = symbols.len() as u32 + 1;
    let mut chain = vec![1, count, u32::from(count > 1), 0];
    chain.extend((1..count).map(|i| if i + 1 < count { i + 1 } else { 0 }));

    let dynamic = (strtab + names.len()).next_multiple_of(8);
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    out.resize(16, 0);
    // ET_DYN, EM_X86_64, EV_CURRENT
    out.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0, HEADER as u64, 0] {
        out.extend(word.to_le_bytes());
    }
    out.extend(0u32.to_le_bytes());
    for half in [HEADER as u16, SEGMENT as u16, headers as u16, 64, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    let mut header = |kind: u32, flags: u32, at: u64, len: u64, align: u64| {
        out.extend(kind.to_le_bytes());
        out.extend(flags.to_le_bytes());
        for word in [at, at, at, len, len, align] {
            out.extend(word.to_le_bytes());
        }
    };
    for &(at, len, flags) in segments {
        header(1, flags, at, len, 0x1000);
    }
    header(2, R, dynamic as u64, 6 * 16, 8);
    assert_eq!(out.len(), symtab);
    out.extend(table);
    for word in chain {
        out.extend(word.to_le_bytes());
    }
    assert_eq!(out.len(), strtab);
    out.extend(&names);
    out.resize(dynamic, 0);
    for (tag, value) in [
        (4, hash),
        (5, strtab),
        (6, symtab),
        (10, names.len()),
        (11, 24),
        (0, 0),
    ] {
        out.extend(u64::to_le_bytes(tag));
        out.extend((value as u64).to_le_bytes());
    }
    let room = segments.first().expect("a segment").1;
    assert!(out.len() as u64 <= room, "the tables do not fit");
    out
}
