//! ELF cores of guest-physical memory.

use std::io::{self, Write};
use std::ops::Range;

use super::notes::{Cpu, Flavour, notes, vmcoreinfo};
use super::{Source, copy};

/// Width of an ELF file's fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ElfClass {
    /// 32 bits, which QEMU uses for 32-bit guests with all RAM below 4 GiB.
    Elf32,
    /// 64 bits.
    #[default]
    Elf64,
}

/// In which order the program headers stand. The bytes are always in the order of the ranges.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// As the ranges were given.
    #[default]
    Given,
    /// The last range first.
    Reversed,
}

/// What an ELF core looks like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Elf {
    /// Width of the fields.
    pub class: ElfClass,
    /// Whether `e_machine` says x86-64; otherwise i386. QEMU writes x86-64 when the first CPU is in
    /// long mode.
    pub x86_64: bool,
    /// Whose notes.
    pub flavour: Flavour,
    /// The CPUs in the notes.
    pub cpus: Vec<Cpu>,
    /// The text of a VMCOREINFO note behind them; none if it is empty.
    pub vmcoreinfo: String,
    /// Order of the program headers.
    pub order: Order,
    /// Ranges that get a program header without bytes in the file: what QEMU's filter leaves out,
    /// and VirtualBox's MMIO.
    pub without_bytes: Vec<Range<u64>>,
}

impl Default for Elf {
    /// 64 bits, x86-64, QEMU's, without CPUs.
    fn default() -> Self {
        Self {
            class: ElfClass::Elf64,
            x86_64: true,
            flavour: Flavour::Qemu,
            cpus: Vec::new(),
            vmcoreinfo: String::new(),
            order: Order::Given,
            without_bytes: Vec::new(),
        }
    }
}

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PN_XNUM: usize = 0xffff;

/// Puts numbers of the class's width one after the other.
struct Fields {
    bytes: Vec<u8>,
    wide: bool,
}

impl Fields {
    fn half(&mut self, value: u16) -> &mut Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    fn word(&mut self, value: u32) -> &mut Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// An address, offset or size.
    fn size(&mut self, value: u64) -> &mut Self {
        if self.wide {
            self.bytes.extend(value.to_le_bytes());
        } else {
            self.bytes.extend((value as u32).to_le_bytes());
        }
        self
    }

    fn program_header(&mut self, kind: u32, offset: u64, gpa: u64, filesz: u64, memsz: u64) {
        self.word(kind);
        if self.wide {
            self.word(0);
        }
        // QEMU gives the physical address as the virtual one too.
        let va = if kind == PT_LOAD { gpa } else { 0 };
        self.size(offset)
            .size(va)
            .size(gpa)
            .size(filesz)
            .size(memsz);
        if !self.wide {
            self.word(0);
        }
        self.size(0);
    }
}

/// Writes an ELF core: file header, program headers (the note first), where there are too many for
/// the file header a section header that counts them, notes, memory.
///
/// # Errors
/// The source's or the output's; and when there are more ranges than 32 bits can count.
pub fn elf(
    out: &mut (impl Write + ?Sized),
    ranges: &[Range<u64>],
    source: &mut (impl Source + ?Sized),
    options: &Elf,
) -> io::Result<()> {
    let wide = options.class == ElfClass::Elf64;
    let (ehsize, phentsize, shentsize) = if wide { (64, 56, 64) } else { (52, 32, 40) };
    let mut notes = notes(options.flavour, &options.cpus, options.x86_64);
    notes.extend(vmcoreinfo(&options.vmcoreinfo));
    let phnum = 1 + ranges.len() + options.without_bytes.len();
    let count = u32::try_from(phnum)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "more than 2^32 ranges"))?;
    let many = phnum >= PN_XNUM;
    let shoff = ehsize + phentsize * phnum as u64;
    let note_offset = shoff + if many { shentsize } else { 0 };
    let memory = note_offset + notes.len() as u64;

    let mut head = Fields {
        bytes: vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1],
        wide,
    };
    // VirtualBox leaves the version out.
    head.bytes.push(u8::from(options.flavour == Flavour::Qemu));
    head.bytes.resize(16, 0);
    head.half(4) // ET_CORE
        .half(if options.x86_64 { 62 } else { 3 })
        .word(1)
        .size(0)
        .size(ehsize)
        .size(if many { shoff } else { 0 })
        .word(0)
        .half(ehsize as u16)
        .half(phentsize as u16)
        .half(phnum.min(PN_XNUM) as u16)
        .half(if many { shentsize as u16 } else { 0 })
        .half(u16::from(many))
        .half(0);

    let notes_len = notes.len() as u64;
    head.program_header(PT_NOTE, note_offset, 0, notes_len, notes_len);
    let mut loads = Vec::with_capacity(phnum);
    let mut offset = memory;
    for range in ranges {
        let len = range.end - range.start;
        loads.push((offset, range.start, len, len));
        offset += len;
    }
    for range in &options.without_bytes {
        let offset = match options.flavour {
            Flavour::Qemu => u64::MAX,
            Flavour::VirtualBox => offset,
        };
        loads.push((offset, range.start, 0, range.end - range.start));
    }
    if options.order == Order::Reversed {
        loads.reverse();
    }
    for (offset, gpa, filesz, memsz) in loads {
        head.program_header(PT_LOAD, offset, gpa, filesz, memsz);
    }
    if many {
        // All zeros but sh_info, the number of program headers.
        head.word(0).word(0);
        head.size(0).size(0).size(0).size(0);
        head.word(0).word(count);
        head.size(0).size(0);
    }
    head.bytes.extend(notes);
    debug_assert_eq!(head.bytes.len() as u64, memory);
    out.write_all(&head.bytes)?;

    let mut buf = Vec::new();
    for range in ranges {
        copy(out, range.clone(), source, &mut buf)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(ranges: &[Range<u64>], options: &Elf) -> Vec<u8> {
        let mut image = Vec::new();
        let mut memory = |gpa: u64, buf: &mut [u8]| {
            buf.fill((gpa >> 12) as u8);
            Ok(())
        };
        elf(&mut image, ranges, &mut memory, options).expect("writes");
        image
    }

    #[test]
    fn fields_stand_where_the_format_says() {
        let image = dump(&[0x1000..0x1010], &Elf::default());
        assert_eq!(image[..8], *b"\x7fELF\x02\x01\x01\0");
        assert_eq!(image[16..20], [4, 0, 62, 0]);
        assert_eq!(image[32..40], 64u64.to_le_bytes(), "e_phoff");
        assert_eq!(image[54..58], [56, 0, 2, 0], "e_phentsize, e_phnum");
        let load = &image[64 + 56..64 + 112];
        assert_eq!(load[..4], 1u32.to_le_bytes());
        assert_eq!(load[8..16], 176u64.to_le_bytes(), "p_offset");
        assert_eq!(load[24..32], 0x1000u64.to_le_bytes(), "p_paddr");
        assert_eq!(load[32..40], 16u64.to_le_bytes(), "p_filesz");
        assert_eq!(image[176..], [1; 16]);

        let small = Elf {
            class: ElfClass::Elf32,
            x86_64: false,
            ..Elf::default()
        };
        let image = dump(&[0x1000..0x1010], &small);
        assert_eq!(image[..6], *b"\x7fELF\x01\x01");
        assert_eq!(image[16..20], [4, 0, 3, 0]);
        assert_eq!(image[28..32], 52u32.to_le_bytes(), "e_phoff");
        let load = &image[52 + 32..52 + 64];
        assert_eq!(load[4..8], 116u32.to_le_bytes(), "p_offset");
        assert_eq!(load[12..16], 0x1000u32.to_le_bytes(), "p_paddr");
        assert_eq!(image.len(), 116 + 16);
    }

    #[test]
    fn too_many_segments_are_counted_in_a_section_header() {
        let ranges: Vec<_> = (0..0x1_0000u64).map(|i| i * 2..i * 2 + 1).collect();
        let image = dump(&ranges, &Elf::default());
        assert_eq!(image[56..58], [0xff, 0xff]);
        let shoff = u64::from_le_bytes(image[40..48].try_into().expect("8 bytes")) as usize;
        assert_eq!(image[shoff + 44..shoff + 48], 0x1_0001u32.to_le_bytes());
    }
}
