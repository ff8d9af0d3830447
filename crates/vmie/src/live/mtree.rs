//! What `info mtree -f -o` says: where in physical memory which RAM is.
//!
//! QEMU prints a *flat view* for each address space, in which everything is resolved: what overlaps,
//! aliases, and which part of a block stands where. A line of the view of `memory`, the machine's:
//!
//! ```text
//!   0000000000100000-000000000fffffff (prio 0, ram): pc.ram @0000000000100000 owner:{obj path=/objects/pc.ram} KVM
//! ```
//!
//! Its parts: first and last address, kind, name of the block, offset in it when that is not 0, who made
//! the block (with `-o`), accelerator. The guest's RAM is what a memory backend made, which is an object and
//! not a device: the memory of a graphics card is `ram` too, and belongs to a device. Parts of a backend that
//! are `rom` (where chipsets hide the firmware's copies from writes) are RAM like the rest. Firmware images
//! have no owner, or are a device's.
//!
//! Versions before 5.0 made RAM that nobody owns; such `ram` is taken where no backend has any.

/// No machine has more pieces of memory.
const MAX_SECTIONS: usize = 1 << 14;

/// A run of physical memory that is one piece of a RAM block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Section {
    /// First physical address.
    pub(super) first: u64,
    /// Last physical address.
    pub(super) last: u64,
    /// Name of the block.
    pub(super) block: String,
    /// Where in the block.
    pub(super) offset: u64,
}

/// Who made a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Object,
    Device,
    Nobody,
}

/// The machine's RAM in ascending order, or what is wrong with the text.
pub(super) fn parse(text: &str) -> Result<Vec<Section>, String> {
    let mut views = text.split("FlatView #").skip(1);
    let is_system = |view: &&str| view.lines().any(|line| line.starts_with(" AS \"memory\""));
    let view = views
        .find(is_system)
        .ok_or("`info mtree -f` shows no address space called memory")?;
    let mut owned = Vec::new();
    let mut orphans = Vec::new();
    let mut end = 0_u128;
    for line in view.lines() {
        let Some((section, kind, owner)) = parse_line(line) else {
            continue;
        };
        if section.first > section.last || u128::from(section.first) < end {
            return Err(format!("out of order: `{}`", line.trim().escape_debug()));
        }
        end = u128::from(section.last) + 1;
        let len = section.last - section.first;
        if section.offset.checked_add(len).is_none() {
            return Err(format!("out of bounds: `{}`", line.trim().escape_debug()));
        }
        match (kind, owner) {
            ("ram" | "nv-ram" | "rom" | "nv-rom", Owner::Object) => owned.push(section),
            ("ram", Owner::Nobody) => orphans.push(section),
            _ => {}
        }
        if owned.len().max(orphans.len()) > MAX_SECTIONS {
            return Err(format!("more than {MAX_SECTIONS} pieces of RAM"));
        }
    }
    let sections = if owned.is_empty() { orphans } else { owned };
    if sections.is_empty() {
        return Err("`info mtree -f` shows no RAM of a memory backend".to_owned());
    }
    Ok(sections)
}

/// One line of a view; `None` for lines that are about something else.
fn parse_line(line: &str) -> Option<(Section, &str, Owner)> {
    let rest = line.strip_prefix("  ")?;
    let (range, rest) = rest.split_once(" (prio ")?;
    let (first, last) = range.split_once('-')?;
    let (prio, rest) = rest.split_once("): ")?;
    let kind = prio.split_once(", ")?.1;
    let (rest, owner) = match rest.split_once(" owner:{") {
        Some((rest, made)) if made.starts_with("obj") => (rest, Owner::Object),
        Some((rest, _)) => (rest, Owner::Device),
        None => {
            let rest = rest.split(" parent:{").next()?;
            (rest.split(" orphan").next()?, Owner::Nobody)
        }
    };
    let mut block = rest.trim_end();
    let mut offset = 0;
    if let Some((name, digits)) = block.rsplit_once(" @")
        && let Some(at) = hex(digits.split(' ').next()?)
    {
        block = name;
        offset = at;
    }
    let section = Section {
        first: hex(first)?,
        last: hex(last)?,
        block: block.to_owned(),
        offset,
    };
    Some((section, kind, owner))
}

/// A number of 16 hexadecimal digits, as QEMU prints addresses.
fn hex(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (plain && digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// The block and the address in QEMU's process that `gpa2hva` answers.
///
/// ```text
/// Host virtual address for 0x100000 (pc.ram) is 0x7fc95ff00000
/// ```
pub(super) fn parse_hva(text: &str) -> Option<(&str, u64)> {
    let text = text.trim().strip_prefix("Host virtual address for 0x")?;
    let (_, text) = text.split_once(" (")?;
    let (block, digits) = text.rsplit_once(") is 0x")?;
    Some((block, u64::from_str_radix(digits, 16).ok()?))
}

/// As QEMU 7.2 writes it for a PC with a graphics card and a plugged-in module, shortened.
#[cfg(test)]
pub(super) const SAMPLE: &str = "\
FlatView #0\r
 AS \"I/O\", root: io\r
 Root memory region: io\r
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan owner:{dev path=/machine/unattached/device[10]}\r
\r
FlatView #1\r
 AS \"cpu-smm-0\", root: memory\r
 Root memory region: memory\r
  0000000000000000-00000000000bffff (prio 0, ram): pc.ram owner:{obj path=/objects/pc.ram}\r
\r
FlatView #2\r
 AS \"memory\", root: system\r
 AS \"cpu-memory-0\", root: system\r
 Root memory region: system\r
  0000000000000000-000000000009ffff (prio 0, ram): pc.ram owner:{obj path=/objects/pc.ram} KVM\r
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem owner:{dev path=/machine/unattached/device[8]}\r
  00000000000c0000-00000000000cafff (prio 0, rom): pc.ram @00000000000c0000 owner:{obj path=/objects/pc.ram} KVM\r
  00000000000cb000-000000000fffffff (prio 0, ram): pc.ram @00000000000cb000 owner:{obj path=/objects/pc.ram} KVM\r
  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram owner:{dev path=/machine/unattached/device[8]} KVM\r
  00000000fe000000-00000000fe000fff (prio 1, ramd): 0000:01:00.0 BAR 1 mmaps[0] owner:{dev id=vfio0}\r
  00000000febf0400-00000000febf041f (prio 0, i/o): vga ioports remapped owner:{dev path=/machine/unattached/device[8]}\r
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios parent:{obj path=/machine/unattached} KVM\r
  0000000100000000-0000000107ffffff (prio 0, nv-ram): odd @name owner:{obj path=/objects/hot}\r
\r
FlatView #3\r
 AS \"e1000\", root: bus master container\r
  No rendered FlatView\r
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_memory_of_backends_is_ram() {
        let section = |first, last, block: &str, offset| Section {
            first,
            last,
            block: block.to_owned(),
            offset,
        };
        let want = vec![
            section(0, 0x9_ffff, "pc.ram", 0),
            section(0xc_0000, 0xc_afff, "pc.ram", 0xc_0000),
            section(0xc_b000, 0xfff_ffff, "pc.ram", 0xc_b000),
            section(0x1_0000_0000, 0x1_07ff_ffff, "odd @name", 0),
        ];
        assert_eq!(parse(SAMPLE), Ok(want));
    }

    #[test]
    fn ram_that_nobody_owns_is_taken_where_there_is_no_other() {
        let text = "\
FlatView #0
 AS \"memory\", root: system
  0000000000000000-000000000009ffff (prio 0, ram): pc.ram orphan
  00000000000f0000-00000000000fffff (prio 0, rom): pc.bios orphan
";
        let sections = parse(text).expect("some RAM");
        assert_eq!(sections.len(), 1);
        assert_eq!(sections[0].block, "pc.ram");
    }

    #[test]
    fn nonsense_is_refused() {
        let of = |lines: &str| {
            parse(&format!(
                "FlatView #0\n AS \"memory\", root: system\n{lines}"
            ))
        };
        let ram = |range: &str, rest: &str| {
            of(&format!(
                "  0000000000000000-0000000000000fff (prio 0, ram): a owner:{{obj}}\n  {range} (prio 0, ram): a{rest} owner:{{obj}}\n"
            ))
        };
        let overlapping = ram("0000000000000800-0000000000001fff", "");
        assert!(overlapping.is_err_and(|why| why.contains("out of order")));
        let backwards = ram("0000000000003000-0000000000002fff", "");
        assert!(backwards.is_err_and(|why| why.contains("out of order")));
        let beyond = ram("0000000000003000-0000000000004fff", " @ffffffffffffffff");
        assert!(beyond.is_err_and(|why| why.contains("out of bounds")));
        let whole = ram("0000000000003000-ffffffffffffffff", "");
        assert_eq!(whole.map(|sections| sections.len()), Ok(2));
        for text in [
            "",
            "unknown command: 'info mtree'",
            "FlatView #0\n AS \"x\"\n",
        ] {
            assert!(parse(text).is_err());
        }
        assert!(of("").is_err(), "no RAM is not an empty guest");
        let many: String = (0..=MAX_SECTIONS as u64 + 1)
            .map(|n| {
                let first = n << 12;
                let last = first | 0xfff;
                format!("  {first:016x}-{last:016x} (prio 0, ram): a owner:{{obj}}\n")
            })
            .collect();
        assert!(of(&many).is_err_and(|why| why.contains("more than")));
    }

    #[test]
    fn host_addresses_are_read() {
        let text = "Host virtual address for 0x100000 (pc.ram) is 0x7fc95ff00000\r\n";
        assert_eq!(parse_hva(text), Some(("pc.ram", 0x7fc9_5ff0_0000)));
        let odd = "Host virtual address for 0x0 (a (b) is) is 0x10";
        assert_eq!(parse_hva(odd), Some(("a (b) is", 0x10)));
        for text in [
            "",
            "Memory at address 0xb0000 is not RAM",
            "Host virtual address for 0x",
        ] {
            assert_eq!(parse_hva(text), None);
        }
    }
}
