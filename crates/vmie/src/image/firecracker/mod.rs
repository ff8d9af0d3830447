//! Firecracker's snapshots: what the state file says about the memory file.
//!
//! A snapshot is two files with names of the user's choice. The memory file has no magic number and holds
//! the regions of RAM back to back; where they belong and what the CPUs were doing stands in the state file:
//!
//! | Firecracker | state file | header |
//! |---|---|---|
//! | 0.23 to 1.6 | `versionize`: little-endian fields of fixed width, one after the other | magic, u16 |
//! | 1.7 to 1.14 | bincode with fixed-width integers: the same | magic, version as a string |
//! | from 1.15 | bitcode: a column for each field, packed ([`columns`]) | the same, in columns |
//!
//! In all of them `magic` is `0x0710_1984_8664_0000` (x86-64; `..AAAA..` is aarch64) with the version of
//! the format in the low 16 bits, the amount of memory in MiB is the first field behind the header, and the
//! last 8 bytes are the CRC-64 (Jones) of everything before them. A file whose CRC is wrong is refused.
//!
//! What stands between differs with nearly every release, and none of the three encodings describes itself. So
//! nothing here follows the fields from the first to the last: a list that followed the releases would be
//! wrong for the next one, and might read something else without noticing. What is needed is *looked for*, and
//! taken only when it proves itself:
//!
//! * the list of regions: the first begins at 0, the others ascend without overlap, everything is whole pages,
//!   and what is no hot-plugged memory adds up to the amount of memory in front. If two different lists do
//!   that, the file is refused ([`regions`]);
//! * the registers of a CPU: `kvm_regs` and behind it `kvm_sregs`, 456 bytes in which a third of the bits is
//!   known, with the root of the page tables in RAM ([`cpu`]).
//!
//! What the guest can write into the state (vector registers above all) comes behind its CPU's registers in
//! the file and is stepped over, so a guest cannot plant a CPU.
//!
//! Sources: Firecracker `docs/snapshotting/versioning.md`, `src/snapshot/src/lib.rs` (1.6),
//! `src/vmm/src/snapshot/mod.rs`, `persist.rs`, `vstate/memory.rs`, `arch/x86_64/vcpu.rs` (1.7 to 1.17);
//! kvm-bindings `serialize.rs`; the crc64 crate 2.0; bitcode 0.6; Linux `arch/x86/include/uapi/asm/kvm.h`.

mod columns;
mod cpu;
mod crc;
mod regions;

use std::io::Read as _;
use std::path::Path;

use super::advice::Advice;
use super::error::OpenErrorKind;
use super::format::Format;
use super::layers::{self, Laid};
use super::layout::LayoutPart;
use super::opening::{OpenOptions, Opened, open_file};
use crate::addr::Gpa;
use crate::arch::x86::CpuState;
use crate::filemap::FileMap;
use crate::hints::Hints;
use columns::Columns;
use regions::Region;

/// Firecracker itself reads no more.
const MAX_STATE: u64 = 10 << 20;

/// Bytes 2 to 7 of the magic number; the low 16 bits are the version of the format.
const X86_64: &[u8] = b"\x64\x86\x84\x19\x10\x07";
const AARCH64: &[u8] = b"\xaa\xaa\x84\x19\x10\x07";

/// What a state file says.
#[derive(Debug)]
pub(super) struct State {
    /// The version of the state, for the user.
    pub(super) version: String,
    /// RAM, in the order of the memory file.
    pub(super) regions: Vec<Region>,
    /// Empty where no registers were recognised.
    pub(super) cpus: Vec<CpuState>,
}

impl State {
    /// Where the bytes of the memory file belong.
    pub(super) fn parts(&self) -> Vec<LayoutPart> {
        let mut parts = Vec::new();
        let mut offset = 0;
        for region in &self.regions {
            parts.extend(region.slots().map(|(start, len)| LayoutPart {
                gpa: Gpa(region.gpa + start),
                len,
                offset: offset + start,
            }));
            // Disjoint ranges of addresses below 2^52.
            offset += region.len;
        }
        parts
    }
}

/// How the state is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Encoding {
    /// Field after field; both older forms.
    Fields,
    /// bitcode.
    Columns,
}

/// Whether a file that begins so is a state file, of whatever version and architecture.
pub(super) fn is_state(head: &[u8]) -> bool {
    // bitcode writes one byte, how the number is packed, in front of it.
    let at = |offset: usize, magic| head.get(offset..).is_some_and(|at| at.starts_with(magic));
    [X86_64, AARCH64]
        .into_iter()
        .any(|magic| at(2, magic) || (at(3, magic) && head.starts_with(&[0; 3])))
}

/// Opens a memory file by its state.
pub(super) fn open(
    map: FileMap,
    path: &Path,
    options: &OpenOptions,
) -> Result<Opened, OpenErrorKind> {
    if let Some(layout) = &options.layout {
        return Err(OpenErrorKind::StateAndLayout {
            layout: layout.to_string(),
        });
    }
    let read = open_state(path);
    let state = read.map_err(|kind| layers::companion("its state", path, kind))?;
    let mut notes = Vec::new();
    if state.cpus.is_empty() {
        notes.push(format!(
            "the state (version {}) holds no registers that vmie understands",
            state.version
        ));
    }
    let end = state.regions.iter().map(|region| region.len).sum::<u64>();
    if end < map.len() {
        notes.push(format!(
            "the file is {:#x} bytes longer than the memory that its state lists",
            map.len() - end
        ));
    }
    let laid = Laid {
        format: Format::Firecracker,
        parts: state.parts(),
        hints: Hints::of_cpus(state.cpus),
        notes,
    };
    layers::open(map, options, laid)
}

/// Reads a state file.
fn open_state(path: &Path) -> Result<State, OpenErrorKind> {
    let mut bytes = Vec::new();
    open_file(path)?
        .take(MAX_STATE + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| OpenErrorKind::Io {
            doing: "reading the file",
            source,
        })?;
    read(&bytes)
}

fn damaged(offset: usize, expected: &str, found: String, advice: Advice) -> OpenErrorKind {
    OpenErrorKind::Damaged {
        what: "Firecracker's state",
        offset: offset as u64,
        expected: expected.to_owned(),
        found,
        advice,
    }
}

const LAYOUT: Advice = Advice::LayoutWithoutState;

/// Reads the bytes of a state file.
pub(super) fn read(bytes: &[u8]) -> Result<State, OpenErrorKind> {
    let magic = |found: String| damaged(0, "a state file's magic number", found, Advice::GiveState);
    if !is_state(bytes) {
        let head: Vec<String> = bytes.iter().take(9).map(|b| format!("{b:02x}")).collect();
        return Err(magic(head.join(" ")));
    }
    if bytes.len() as u64 > MAX_STATE {
        let found = format!("more than {MAX_STATE} bytes");
        return Err(damaged(0, "the state of a virtual machine", found, LAYOUT));
    }
    let Some((body, tail)) = bytes.split_last_chunk::<8>() else {
        return Err(magic(format!("{} bytes", bytes.len())));
    };
    let (stored, computed) = (u64::from_le_bytes(*tail), crc::crc64(body));
    if stored != computed {
        return Err(damaged(
            body.len(),
            &format!("the checksum {computed:#018x} of what is before it"),
            format!("{stored:#018x}"),
            Advice::Other("the file was damaged or cut; copy it again"),
        ));
    }
    let header = header(body)?;
    let found = match header.encoding {
        Encoding::Fields => regions::in_fields(body, header.end, header.mem_size),
        Encoding::Columns => regions::in_columns(body, header.end, header.mem_size),
    };
    let version = header.version;
    let regions = found.map_err(|found| {
        let expected = format!(
            "one list of RAM regions that add up to {:#x} bytes",
            header.mem_size
        );
        let found = format!("{found} (version {version}; vmie knows 0.23 to 1.17)");
        damaged(header.end, &expected, found, LAYOUT)
    })?;
    let cpus = match header.encoding {
        Encoding::Fields => cpu::in_fields(body, header.end, &regions),
        Encoding::Columns => cpu::in_columns(body, header.end, &regions),
    };
    Ok(State {
        version,
        regions,
        cpus,
    })
}

struct Header {
    encoding: Encoding,
    version: String,
    /// Bytes of RAM that the guest was started with.
    mem_size: u64,
    /// Behind `mem_size_mib`.
    end: usize,
}

fn header(body: &[u8]) -> Result<Header, OpenErrorKind> {
    let unknown = |found: String| {
        let expected = "version and memory size of Firecracker 0.23 to 1.17";
        damaged(0, expected, found, LAYOUT)
    };
    let word = |at| Some(u64::from_le_bytes(*body.get(at..)?.first_chunk()?));
    let columns = body.get(3..).is_some_and(|at| at.starts_with(X86_64));
    let (encoding, version, size) = if columns && body.starts_with(&[0; 3]) {
        let mut columns = Columns::new(body, 9);
        let version = columns.version();
        let size = version.as_ref().and_then(|_| columns.int());
        (Encoding::Columns, version, size.zip(Some(columns.at())))
    } else if !body.get(2..).is_some_and(|at| at.starts_with(X86_64)) {
        return Err(OpenErrorKind::Unsupported {
            found: "the state of an aarch64 guest".into(),
            advice: Advice::Other("vmie reads x86 guests only"),
        });
    } else if body.starts_with(&[0; 2]) {
        let len = word(8).unwrap_or(0).min(32) as usize;
        let text = body.get(16..16 + len).and_then(version_text);
        let at = 16 + len;
        (Encoding::Fields, text, word(at).zip(Some(at + 8)))
    } else if body.starts_with(&[1, 0]) {
        let version = body.get(8..).and_then(|at| at.first_chunk());
        let version =
            version.map(|&two| format!("{}, of Firecracker before 1.7", u16::from_le_bytes(two)));
        (Encoding::Fields, version, word(10).zip(Some(18)))
    } else {
        let format = u16::from_le_bytes([body[0], body[1]]);
        return Err(unknown(format!("format {format}")));
    };
    let version = version.ok_or_else(|| unknown("no version".to_owned()))?;
    let (mib, end) = size.ok_or_else(|| unknown("the end of the file".to_owned()))?;
    // Physical addresses end at 2^52.
    let mem_size = mib.checked_shl(20).filter(|_| mib != 0 && mib < 1 << 32);
    let mem_size =
        mem_size.ok_or_else(|| unknown(format!("version {version} with {mib} MiB of memory")))?;
    Ok(Header {
        encoding,
        version,
        mem_size,
        end,
    })
}

/// A version as `MAJOR.MINOR.PATCH`.
fn version_text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let number = |part: &str| part.parse::<u32>().is_ok();
    let valid = text.split('.').count() == 3 && text.split('.').all(number);
    valid.then(|| text.to_owned())
}
