//! Snapshots of Cloud Hypervisor: a directory with two files.
//!
//! Sources: Cloud Hypervisor's `docs/snapshot_restore.md`, `vm-migration/src/lib.rs` and `protocol.rs`,
//! `vmm/src/memory_manager.rs`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::ops::Range;
use std::path::Path;

use super::kvm::{regs, sregs};
use super::notes::Cpu;
use super::{Source, raw};

/// Writes `memory-ranges` and `state.json` into a directory that exists.
///
/// # Errors
/// The source's, or those of writing files.
pub fn cloud_hypervisor(
    directory: &Path,
    ranges: &[Range<u64>],
    source: &mut (impl Source + ?Sized),
    cpus: &[Cpu],
) -> io::Result<()> {
    let mut memory = BufWriter::new(File::create(directory.join("memory-ranges"))?);
    raw(&mut memory, ranges, source)?;
    io::Write::flush(&mut memory)?;

    let listed: Vec<String> = ranges
        .iter()
        .map(|range| {
            let len = range.end - range.start;
            format!("{{\"gpa\":{},\"length\":{len}}}", range.start)
        })
        .collect();
    let manager = format!("{{\"memory_ranges\":{{\"data\":[{}]}}}}", listed.join(","));
    let mut parts = Vec::new();
    for (index, cpu) in cpus.iter().enumerate() {
        let state = format!(
            "{{\"Kvm\":{{\"regs\":{},\"sregs\":{}}}}}",
            array(&regs(cpu)),
            array(&sregs(cpu, index == 0))
        );
        parts.push(format!("\"{index}\":{}", leaf(&state)));
    }
    let state = format!(
        "{{\"snapshots\":{{\"cpu-manager\":{{\"snapshots\":{{{}}},\"snapshot_data\":null}},\
         \"memory-manager\":{}}},\"snapshot_data\":null}}",
        parts.join(","),
        leaf(&manager)
    );
    fs::write(directory.join("state.json"), state)
}

/// A component without parts, its state a string.
fn leaf(state: &str) -> String {
    let quoted = state.replace('"', "\\\"");
    format!("{{\"snapshots\":{{}},\"snapshot_data\":{{\"state\":\"{quoted}\"}}}}")
}

fn array(bytes: &[u8]) -> String {
    let mut text = String::from("[");
    for (index, byte) in bytes.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(text, "{comma}{byte}");
    }
    text.push(']');
    text
}
