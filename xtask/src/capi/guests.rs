//! The guests that the C library is tried on.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vmie_lab::{ImageFormat, Snapshot};
use vmie_synth::write::{self, Elf};

use super::shown;
use crate::{Fallible, output, run, target_dir};

/// A guest: one address space of one image.
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) source: PathBuf,
    /// For raw images.
    pub(crate) layout: Option<String>,
    pub(crate) cr3: u64,
    /// The root of another space, where one is known.
    pub(crate) other: Option<u64>,
    /// The process that the root is of, where there is an operating system. The command looks at its own half of
    /// the space then, else at all.
    pid: Option<u32>,
    /// The upper end of the user half.
    pub(crate) user_last: u64,
    /// The first executable region of user mode, at most 256 KiB of it: for what is slow under watch.
    pub(crate) code: (u64, u64),
    /// A region of data in user mode in which pointers stand, and where the first of them leads.
    pub(crate) data: (u64, u64),
    pub(crate) pointee: u64,
}

/// The image of the guided tour, on which the examples are run.
pub(crate) fn demo(dir: &Path) -> Fallible<PathBuf> {
    let vmie = target_dir().join("debug/vmie");
    output(Command::new(vmie).args(["demo", "--keep"]).arg(dir))?;
    Ok(dir.join("demo.elf"))
}

/// A guest without an operating system, of which the tests know every address.
pub(crate) fn bare(dir: &Path) -> Fallible<Subject> {
    let bare = vmie_synth::guest::bare();
    let source = dir.join("bare.elf");
    let core = Elf {
        cpus: vec![bare.cpu],
        ..Elf::default()
    };
    let phys = &bare.machine.phys;
    let mut file = BufWriter::new(File::create(&source)?);
    write::elf(&mut file, phys.ranges(), &mut &*phys, &core)?;
    file.flush()?;
    finish(Subject {
        name: "bare".into(),
        source,
        layout: None,
        cr3: bare.space.root(),
        other: None,
        pid: None,
        user_last: (1 << 47) - 1,
        code: (0, 0),
        data: (0, 0),
        pointee: 0,
    })
}

/// What the test programs know of the bare guest, as a header for them.
pub(crate) fn bare_header() -> String {
    let bare = vmie_synth::guest::bare();
    let program = &bare.program;
    let mut text = String::from("/* Made by xtask: where things are in the bare guest. */\n");
    for (name, value) in [
        ("CR3", bare.space.root()),
        ("TEXT", program.text.va),
        ("TEXT_LEN", program.text.len),
        ("RODATA", program.rodata.va),
        ("DATA", program.data.va),
        ("DATA_LEN", program.data.len),
        ("HEAP", program.heap.va),
        ("HEAP_LEN", program.heap.len),
        ("STACK", program.stack.va),
        ("BANNER", program.banner.va),
        ("SIGNATURE_VA", program.signature_va),
        ("ROOT_POINTER", program.root_pointer),
        ("TICKS", program.ticks),
        ("WORLD", program.world.va),
        ("VTABLE_WORLD", program.vtables[0]),
        ("VTABLE_SHIP", program.vtables[1]),
        ("HOLED", bare.holed.va),
        ("HOLED_LEN", bare.holed.len),
        ("ABSENT_PAGE", bare.absent_page),
        ("ABSENT_GPA", bare.absent_gpa),
        ("SWAPPED_PAGE", bare.swapped_page),
        ("KERNEL_TEXT", bare.kernel_text.va),
        ("KERNEL_TEXT_LEN", bare.kernel_text.len),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "#define BARE_{name} UINT64_C({value:#x})");
    }
    let _ = writeln!(text, "#define BARE_SIGNATURE \"{}\"", program.signature);
    let _ = writeln!(text, "#define BARE_BANNER_TEXT \"{}\"", program.banner.text);
    text
}

/// Of each snapshot one image: cores that say everything about themselves, and once raw memory with a layout.
pub(crate) fn of_lab(snapshots: &[Snapshot]) -> Fallible<Vec<Subject>> {
    snapshots
        .iter()
        .enumerate()
        .map(|(index, snapshot)| {
            let format = if index == 1 {
                ImageFormat::Raw
            } else {
                ImageFormat::Elf
            };
            let image = snapshot
                .image(format)
                .ok_or_else(|| format!("{}: no {format:?}", snapshot.variant))?;
            let bits = if snapshot.machine.five_levels { 56 } else { 47 };
            finish(Subject {
                name: snapshot.variant.clone(),
                source: snapshot.path(&image.file),
                layout: image.layout.clone(),
                cr3: snapshot.current.root,
                other: other_root(snapshot)?,
                pid: Some(snapshot.current.pid),
                user_last: (1 << bits) - 1,
                code: (0, 0),
                data: (0, 0),
                pointee: 0,
            })
        })
        .collect()
}

/// The root of a program whose memory is not that of the process that was caught.
fn other_root(snapshot: &Snapshot) -> Fallible<Option<u64>> {
    let programs = snapshot.programs()?;
    let mut roots = programs
        .iter()
        .filter_map(|program| snapshot.root_of(program.pid));
    Ok(roots.find(|&root| root != snapshot.current.root))
}

/// Finds out where code and data are.
fn finish(mut guest: Subject) -> Fallible<Subject> {
    const MOST: u64 = 256 << 10;
    let code = guest.regions("xu")?;
    let &(va, len) = code.first().ok_or("no code in user mode")?;
    guest.code = (va, va + len.min(MOST) - 1);
    for (va, len) in guest.regions("wu")? {
        let range = format!("{va:#x}..+{len}");
        let rows = guest.vmie("refs", &[&range, "--pointees", "--limit", "1"])?;
        if let Some(pointee) = rows.first().and_then(|row| number(&row["value"])) {
            guest.data = (va, va + len - 1);
            guest.pointee = pointee;
            return Ok(guest);
        }
    }
    Err(format!("{}: no data in user mode with a pointer in it", guest.name).into())
}

/// A number in a row, in either form.
pub(crate) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let digits = value.as_str()?.strip_prefix("0x")?;
        u64::from_str_radix(digits, 16).ok()
    })
}

impl Subject {
    /// The regions in the user half that allow this: address and length.
    fn regions(&self, perm: &str) -> Fallible<Vec<(u64, u64)>> {
        let half = format!("0..{:#x}", self.user_last + 1);
        let rows = self.vmie("maps", &["--perm", perm, "--range", &half])?;
        let region = |row: &Value| Some((number(&row["va"])?, number(&row["len"])?));
        rows.iter()
            .map(|row| region(row).ok_or_else(|| format!("no region: {row}").into()))
            .collect()
    }

    /// What [`Subject::vmie_of_process`] looks at.
    pub(crate) fn whole(&self) -> (u64, u64) {
        match self.pid {
            Some(_) => (0, self.user_last),
            None => (0, u64::MAX),
        }
    }

    /// The command's rows for a verb about the process, or where there is none about the address space.
    pub(crate) fn vmie_of_process(&self, verb: &str, more: &[&str]) -> Fallible<Vec<Value>> {
        let Some(pid) = self.pid else {
            return self.vmie(verb, more);
        };
        let pid = pid.to_string();
        let mut words = vec!["--pid", &pid];
        words.extend(more);
        self.vmie_bare(verb, &words)
    }

    /// The command's rows for a verb about the address space.
    pub(crate) fn vmie(&self, verb: &str, more: &[&str]) -> Fallible<Vec<Value>> {
        let cr3 = format!("{:#x}", self.cr3);
        let mut words = vec!["--cr3", &cr3];
        words.extend(more);
        self.vmie_bare(verb, &words)
    }

    /// The command's rows for a verb about the guest.
    pub(crate) fn vmie_bare(&self, verb: &str, more: &[&str]) -> Fallible<Vec<Value>> {
        self.vmie_after(verb, &[], more)
    }

    /// The same, where something comes before the source. A verb may be of several words.
    pub(crate) fn vmie_after(
        &self,
        verb: &str,
        before: &[&str],
        more: &[&str],
    ) -> Fallible<Vec<Value>> {
        let mut command = Command::new(target_dir().join("debug/vmie"));
        command.args(verb.split(' ')).args(before).arg(&self.source);
        if let Some(layout) = &self.layout {
            command.args(["--layout", layout]);
        }
        command.args(more).args(["-o", "jsonl", "--quiet"]);
        // Status 1, nothing found, is an answer as well.
        let answer = command.output()?;
        if !matches!(answer.status.code(), Some(0 | 1)) {
            // For the message.
            run(&mut command)?;
        }
        String::from_utf8(answer.stdout)?
            .lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    /// What comes first of what a test program is told: the source, its layout (`-` for none), and the root.
    pub(crate) fn words(&self) -> [String; 3] {
        [
            shown(&self.source),
            self.layout.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{:#x}", self.cr3),
        ]
    }
}
