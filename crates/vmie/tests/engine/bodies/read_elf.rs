//! What must hold for *any* bytes in memory that are taken for an ELF image.
//!
//! One body for the tests, which run it on mutated images, and for the fuzz target of the same name.

#![allow(unreachable_pub)] // shared by a test and a fuzz target, a library of neither

use vmie::os::SymbolTable;
use vmie::os::elf::ElfImage;
use vmie::{Address, Gva, Memory, Prot};

use super::testmem::TestMemory;

const PAGE: u64 = 4096;

/// Where images are put: where fixed programs are, where libraries are, in the kernel's half, and at
/// the very end.
const BASES: [u64; 4] = [
    0x40_0000,
    0x7f12_3456_7000,
    0xffff_ffff_8000_0000,
    0xffff_ffff_ffff_e000,
];

/// Bytes at `base`, some of whose pages are not there. The padding of the header, which nothing reads,
/// says which and where, so that any ELF file is a seed.
fn mapped(base: u64, holes: u8, data: &[u8]) -> TestMemory<Gva> {
    let mut memory = TestMemory::new();
    for (index, page) in (0..).zip(data.chunks(PAGE as usize)) {
        if holes >> (index % 8) & 1 == 0
            && let Some(at) = base.checked_add(index * PAGE)
        {
            memory = memory.part(at, page, Prot::R);
        }
    }
    memory
}

/// Opens `data` as an ELF image that has been loaded and reads its symbols, with and without its file.
/// Answers those with it.
///
/// # Panics
///
/// When the image breaks a promise of [`ElfImage`] or of [`SymbolTable`].
pub fn read_elf(data: &[u8]) -> Option<SymbolTable> {
    let pad = |at| data.get(at).copied().unwrap_or(0);
    let base = BASES[usize::from(pad(9)) % BASES.len()];
    let memory = mapped(base, pad(10), data);
    let image = match ElfImage::open(&memory, Gva(base)) {
        Ok(image) => image,
        Err(error) => {
            assert!(error.to_string().len() < 1000);
            return None;
        }
    };
    let range = image.range();
    assert_eq!(range.start().raw() % PAGE, 0);
    assert_eq!(range.last().raw() % PAGE, PAGE - 1);
    for segment in image.segments() {
        assert!(range.covers(segment.range));
        assert!(segment.file_len <= segment.range.len());
    }

    let in_file = mapped(0, pad(11), data);
    let file = |offset: u64, buf: &mut [u8]| {
        let last = offset.wrapping_add(buf.len() as u64 - 1);
        assert_eq!(offset / PAGE, last / PAGE, "reads stay within a page");
        in_file.read(Gva(offset), buf).is_ok()
    };
    read_imports(&image, &file);
    let alone = image.symbols(&|_, _| false);
    let symbols = image.symbols(&file).ok();
    if let (Ok(alone), Some(symbols)) = (&alone, &symbols) {
        // A function that only the file knows may turn out to hold what looked like a stub.
        let count = |table: &SymbolTable| {
            let plain = table.iter().filter(|symbol| !symbol.name.ends_with("@plt"));
            plain.count()
        };
        assert!(count(alone) <= count(symbols), "the file only adds symbols");
    }
    assert!(alone.is_err() || symbols.is_some(), "a file does no harm");
    let symbols = symbols?;
    assert_eq!(symbols.extent(), Some(range));
    let mut last = Gva(0);
    for (i, symbol) in symbols.iter().enumerate() {
        assert!(symbol.va >= last, "symbols ascend");
        last = symbol.va;
        assert!(!symbol.name.is_empty());
        // Looked for in all of the data, so not for all of them.
        if i < 16 {
            assert!(is_within(symbol.name, data), "{:?} is made up", symbol.name);
            assert!(
                symbols
                    .named(symbol.name)
                    .any(|other| other.va == symbol.va)
            );
        }
    }
    Some(symbols)
}

/// Reads what the image imports.
fn read_imports(image: &ElfImage<'_>, file: &dyn Fn(u64, &mut [u8]) -> bool) {
    let Ok(imports) = image.imports(file) else {
        return;
    };
    let inside = |va: Gva| image.range().contains(va);
    assert!(imports.slots.is_sorted_by(|a, b| a.va < b.va), "each once");
    assert!(imports.stubs.is_sorted_by(|a, b| a.va < b.va), "each once");
    assert!(imports.slots.iter().all(|slot| inside(slot.va)));
    for stub in &imports.stubs {
        assert!(inside(stub.va) && (8..=32).contains(&stub.len));
        assert!(imports.slot(stub.slot).is_some(), "it leads through a slot");
    }
    let names = imports.slots.iter().filter_map(|slot| slot.name);
    assert!(
        names
            .max()
            .is_none_or(|last| (last as usize) < imports.names.len())
    );
}

/// Whether a name, without its version, stands in the data. What was not UTF-8 has become `?`.
fn is_within(name: &str, data: &[u8]) -> bool {
    let name = name.split('@').next().unwrap_or_default();
    let made_up = |name: &[u8]| !data.windows(name.len()).any(|window| window == name);
    name.is_empty() || name.contains('?') || !made_up(name.as_bytes())
}
