//! Snapshots of Cloud Hypervisor: a directory.
//!
//! ```text
//! memory-ranges   guest memory, range after range, without anything between
//! state.json      a tree of components; each has "snapshots" (its parts, by name) and "snapshot_data"
//!   memory-manager     memory_ranges.data: [{gpa, length}], in the order of the file
//!   cpu-manager        a part for each CPU, named by its number: KVM's regs and sregs
//! ```
//!
//! The state of a component is JSON within JSON: a string, an array of bytes, or (in older versions) a map of
//! sections with such an array each. KVM's structures are arrays of their bytes, or objects with named fields; both are
//! read. Memory is what counts: without it the snapshot is refused, without CPUs it opens and says so.
//!
//! A directory is told from others by these two names, the only place where names matter: the memory file has no
//! magic number, and means nothing without the other one.
//!
//! Sources: Cloud Hypervisor's `docs/snapshot_restore.md`, `vm-migration/src/lib.rs` and `protocol.rs`,
//! `vmm/src/memory_manager.rs` (`MemoryManagerSnapshotData`); Linux `arch/x86/include/uapi/asm/kvm.h`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::advice::Advice;
use super::error::OpenErrorKind;
use super::format::Format;
use super::opening::{OpenOptions, Opened, Parsed, TOO_MANY_PARTS, map_file, open_file};
use super::segments::{Added, SegmentsBuilder};
use crate::arch::x86::{CpuState, DescriptorTable, Segment, Segments, kvm};
use crate::hints::Hints;

const MEMORY: &str = "memory-ranges";
const STATE: &str = "state.json";

/// The most bytes of state that are read: 64 CPUs and their devices take some two megabytes.
const MAX_STATE: u64 = 16 << 20;
/// KVM's limit of CPUs.
const MAX_CPUS: usize = 4096;
/// How deep wrappers around a state may nest.
const MAX_DEPTH: usize = 4;

/// Opens the memory file, and reads what the state says of it.
pub(super) fn open(path: &Path, _: &OpenOptions) -> Result<Opened, OpenErrorKind> {
    let io = |doing| move |source| OpenErrorKind::Io { doing, source };
    let mut state = Vec::new();
    open_file(&path.join(STATE))?
        .take(MAX_STATE + 1)
        .read_to_end(&mut state)
        .map_err(io("reading state.json"))?;
    let map = map_file(&path.join(MEMORY))?;
    let parsed = parse(&state, map.len())?;
    Ok(Opened::one(map, Format::CloudHypervisor, parsed))
}

fn damaged(expected: &str, found: String) -> OpenErrorKind {
    OpenErrorKind::Damaged {
        what: "Cloud Hypervisor's state.json",
        offset: 0,
        expected: expected.to_owned(),
        found,
        advice: Advice::Other("take the snapshot again, or give memory-ranges with a layout"),
    }
}

/// What the state says, for a memory file of so many bytes.
fn parse(state: &[u8], memory: u64) -> Result<Parsed, OpenErrorKind> {
    if state.len() as u64 > MAX_STATE {
        let found = format!("more than {MAX_STATE} bytes");
        return Err(damaged("the state of a virtual machine", found));
    }
    let tree: Value =
        serde_json::from_slice(state).map_err(|error| damaged("JSON", error.to_string()))?;
    let manager = component(&tree, "memory-manager", MAX_DEPTH)
        .and_then(|part| contents(part.get("snapshot_data")?, MAX_DEPTH))
        .ok_or_else(|| damaged("a state of the memory manager", "none".to_owned()))?;
    let ranges = manager
        .get("memory_ranges")
        .and_then(|table| table.get("data").unwrap_or(table).as_array())
        .ok_or_else(|| damaged("memory_ranges", "no list".to_owned()))?;

    let mut builder = SegmentsBuilder::new(memory);
    let mut notes = Vec::new();
    let mut offset = 0_u64;
    for range in ranges {
        let number = |name| range.get(name).and_then(Value::as_u64);
        let (Some(gpa), Some(len)) = (number("gpa"), number("length")) else {
            return Err(damaged("gpa and length of a range", range.to_string()));
        };
        if builder.add_file(gpa, len, offset) == Added::Refused {
            return Err(damaged(
                "a range of physical memory",
                format!("{gpa:#x}+{len:#x}"),
            ));
        }
        offset = offset.checked_add(len).ok_or_else(|| {
            damaged(
                "ranges of memory",
                "more than there are addresses".to_owned(),
            )
        })?;
        if builder.is_full() {
            return Err(TOO_MANY_PARTS);
        }
    }
    if offset < memory {
        notes.push(format!(
            "the file memory-ranges is {:#x} bytes longer than the ranges that state.json lists",
            memory - offset
        ));
    }
    let cpus = cpus(&tree);
    if cpus.is_empty() {
        notes.push("state.json holds no registers that vmie understands".to_owned());
    }
    Ok(Parsed {
        builder,
        hints: Hints::of_cpus(cpus),
        notes,
        advice: Vec::new(),
        pages: None,
    })
}

/// A part of the tree by its name.
fn component<'a>(tree: &'a Value, name: &str, depth: usize) -> Option<&'a Value> {
    let parts = tree.get("snapshots")?.as_object()?;
    if let Some(part) = parts.get(name) {
        return Some(part);
    }
    let deeper = depth.checked_sub(1)?;
    parts
        .values()
        .find_map(|part| component(part, name, deeper))
}

/// The JSON in a component's data.
fn contents(data: &Value, depth: usize) -> Option<Value> {
    match data {
        Value::String(text) => serde_json::from_str(text).ok(),
        Value::Array(_) => serde_json::from_slice(&bytes(data)?).ok(),
        Value::Object(map) => {
            let deeper = depth.checked_sub(1)?;
            let inner = map.get("state").or_else(|| map.get("snapshot"));
            inner
                .and_then(|inner| contents(inner, deeper))
                .or_else(|| map.values().find_map(|inner| contents(inner, deeper)))
        }
        _ => None,
    }
}

/// An array of bytes.
fn bytes(value: &Value) -> Option<Vec<u8>> {
    let all = value.as_array()?.iter();
    all.map(|one| u8::try_from(one.as_u64()?).ok()).collect()
}

fn cpus(tree: &Value) -> Vec<CpuState> {
    let manager = component(tree, "cpu-manager", MAX_DEPTH);
    let Some(parts) = manager.and_then(|part| part.get("snapshots")?.as_object()) else {
        return Vec::new();
    };
    let by_number: BTreeMap<u32, &Value> = parts
        .iter()
        .filter_map(|(name, part)| Some((name.parse().ok()?, part)))
        .take(MAX_CPUS)
        .collect();
    by_number
        .into_iter()
        .filter_map(|(index, part)| cpu(index, part))
        .collect()
}

fn cpu(index: u32, part: &Value) -> Option<CpuState> {
    let state = contents(part.get("snapshot_data")?, MAX_DEPTH)?;
    let regs = member(&state, "regs", MAX_DEPTH)?;
    let sregs = member(&state, "sregs", MAX_DEPTH)?;
    if let (Some(regs), Some(sregs)) = (packed(regs), packed(sregs)) {
        return kvm::cpu(index, &regs, &sregs);
    }
    let register = |name: &str| match name {
        "cr0" | "cr2" | "cr3" | "cr4" | "efer" => field(sregs, name, MAX_DEPTH),
        name => field(regs, name, MAX_DEPTH),
    };
    register("efer")?;
    let segment = |name: &str| {
        let segment = member(sregs, name, MAX_DEPTH)?;
        Some(Segment {
            selector: u16::try_from(field(segment, "selector", 0)?).ok()?,
            base: field(segment, "base", 0)?,
        })
    };
    let table = |name: &str| {
        let table = member(sregs, name, MAX_DEPTH)?;
        Some(DescriptorTable {
            base: field(table, "base", 0)?,
            limit: u32::try_from(field(table, "limit", 0)?).ok()?,
        })
    };
    CpuState::from_names(index, register, Segments::from_names(segment, table))
}

/// A structure of KVM's as its bytes, where it is kept so.
fn packed(value: &Value) -> Option<Vec<u8>> {
    value.is_array().then(|| bytes(value)).flatten()
}

/// A member by its name, within wrappers such as `{"Kvm": {...}}`.
fn member<'a>(value: &'a Value, name: &str, depth: usize) -> Option<&'a Value> {
    let map = value.as_object()?;
    if let Some(found) = map.get(name) {
        return Some(found);
    }
    let deeper = depth.checked_sub(1)?;
    map.values().find_map(|inner| member(inner, name, deeper))
}

/// A register by its name, within wrappers.
fn field(value: &Value, name: &str, depth: usize) -> Option<u64> {
    let map = value.as_object()?;
    if let Some(found) = map.get(name) {
        return found.as_u64();
    }
    let deeper = depth.checked_sub(1)?;
    map.values().find_map(|inner| field(inner, name, deeper))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The state of a machine with memory around the device hole and two CPUs, with the data in one of three forms.
    fn state(form: u32) -> Value {
        let data = |name: &str, inner: &Value| {
            let text = inner.to_string();
            match form {
                0 => json!({ "state": text }),
                1 => json!({ "state": text.as_bytes() }),
                _ => {
                    let id = format!("{name}-section");
                    json!({ id.clone(): { "id": id, "snapshot": text.as_bytes() } })
                }
            }
        };
        let ranges = json!({ "memory_ranges": { "data": [
            { "gpa": 0, "length": 0x3000 },
            { "gpa": 0x1_0000_0000_u64, "length": 0x1000 },
        ] }, "boot_ram": 0x4000 });
        let mut sregs = vec![0_u8; 312];
        sregs[224..232].copy_from_slice(&0x8005_0033_u64.to_le_bytes());
        sregs[240..248].copy_from_slice(&0x1000_u64.to_le_bytes());
        sregs[248..256].copy_from_slice(&0x6f0_u64.to_le_bytes());
        sregs[264..272].copy_from_slice(&0xd01_u64.to_le_bytes());
        let mut regs = vec![0_u8; 144];
        regs[48..56].copy_from_slice(&7_u64.to_le_bytes());
        regs[128..136].copy_from_slice(&9_u64.to_le_bytes());
        let packed = json!({ "Kvm": { "regs": regs, "sregs": sregs } });
        let named = json!({ "regs": { "rip": 9, "rsp": 7 },
            "sregs": { "cr0": 0x8005_0033_u64, "cr3": 0x2000, "cr4": 0x6f0, "efer": 0xd01 } });
        json!({ "snapshots": {
            "memory-manager": { "snapshots": {}, "snapshot_data": data("memory-manager", &ranges) },
            "cpu-manager": { "snapshot_data": null, "snapshots": {
                "0": { "snapshots": {}, "snapshot_data": data("0", &packed) },
                "10": { "snapshots": {}, "snapshot_data": data("10", &named) },
            } },
        }, "snapshot_data": null })
    }

    #[test]
    fn every_form_of_the_state() {
        for form in 0..3 {
            let text = state(form).to_string();
            let parsed = parse(text.as_bytes(), 0x4000).expect("valid");
            assert_eq!(parsed.notes, [""; 0]);
            let (segments, overlapping) = parsed.builder.finish();
            assert_eq!((segments.missing_bytes(), overlapping.len()), (0, 0));
            let starts: Vec<u64> = segments.ranges().iter().map(|one| one.start().0).collect();
            assert_eq!(starts, [0, 0x1_0000_0000]);
            let seen: Vec<_> = parsed
                .hints
                .cpus
                .iter()
                .map(|cpu| (cpu.index, cpu.cr3, cpu.rip, cpu.rsp))
                .collect();
            assert_eq!(seen, [(0, 0x1000, 9, 7), (10, 0x2000, 9, 7)]);
            assert_eq!(parsed.hints.cpus[0].is_long_mode(), Some(true));
        }
    }

    #[test]
    fn registers_by_their_names_are_all_known_but_what_swapgs_brings() {
        let cpu = CpuState::sample();
        let (g, s) = (cpu.general.expect("known"), cpu.segments.expect("known"));
        let segment = |of: Segment| json!({ "base": of.base, "limit": 0xffff_ffff_u32, "selector": of.selector, "type_": 3 });
        let table = |of: DescriptorTable| json!({ "base": of.base, "limit": of.limit, "padding": [0, 0, 0] });
        let state = json!({ "Kvm": {
            "regs": {
                "rax": g.rax, "rbx": g.rbx, "rcx": g.rcx, "rdx": g.rdx, "rsi": g.rsi, "rdi": g.rdi, "rsp": cpu.rsp,
                "rbp": g.rbp, "r8": g.r8, "r9": g.r9, "r10": g.r10, "r11": g.r11, "r12": g.r12, "r13": g.r13,
                "r14": g.r14, "r15": g.r15, "rip": cpu.rip, "rflags": g.rflags,
            },
            "sregs": {
                "cs": segment(s.cs), "ds": segment(s.ds), "es": segment(s.es), "fs": segment(s.fs),
                "gs": segment(s.gs), "ss": segment(s.ss), "tr": segment(s.tr), "ldt": segment(s.ldt),
                "gdt": table(s.gdt), "idt": table(s.idt), "cr0": cpu.cr0, "cr2": cpu.cr2, "cr3": cpu.cr3,
                "cr4": cpu.cr4, "cr8": 0, "efer": cpu.efer, "apic_base": 0xfee0_0900_u32,
            },
        } });
        let part = json!({ "snapshot_data": { "state": state.to_string() } });
        let known = CpuState {
            kernel_gs_base: None,
            ..cpu
        };
        assert_eq!(super::cpu(0, &part), Some(known));
    }

    #[test]
    fn a_short_file_is_missing_memory_and_a_long_one_is_said() {
        let text = state(0).to_string();
        let short = parse(text.as_bytes(), 0x3800).expect("opens");
        assert_eq!(short.builder.finish().0.missing_bytes(), 0x800);
        let long = parse(text.as_bytes(), 0x4001).expect("opens");
        assert!(long.notes[0].contains("longer"), "{:?}", long.notes);
    }

    #[test]
    fn damaged_states_are_refused_or_read() {
        for form in 0..3 {
            let text = state(form).to_string().into_bytes();
            for cut in 0..text.len() {
                assert!(parse(&text[..cut], 0x4000).is_err(), "cut at {cut}");
            }
            for at in 0..text.len() {
                for bit in 0..7 {
                    let mut bytes = text.clone();
                    bytes[at] ^= 1 << bit;
                    // No checksum: a digit may have become another one. Whatever is read is within the file.
                    if let Ok(parsed) = parse(&bytes, 0x4000) {
                        let _ = parsed.builder.finish();
                    }
                }
            }
        }
        for text in [
            "",
            "1",
            "{}",
            "[]",
            "\"x\"",
            r#"{"snapshots":{"memory-manager":{"snapshot_data":{"state":"{}"}}}}"#,
            r#"{"snapshots":{"memory-manager":{"snapshot_data":{"state":"{\"memory_ranges\":[{\"gpa\":18446744073709551615,\"length\":2}]}"}}}}"#,
        ] {
            assert!(parse(text.as_bytes(), 0x4000).is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse(deep.as_bytes(), 0x4000).is_err());
    }
}
