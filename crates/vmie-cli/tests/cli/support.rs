//! A small guest with one of everything a verb can meet, and a way to run the command on it.
//!
//! | addresses | what |
//! |---|---|
//! | `CODE`, 2 pages | r-x user; `SIG` stands across the border of the pages |
//! | `DATA`, 3 pages | rw- user; the frame of the second is not in the image |
//! | `BIG`, 2 MiB page | rw- kernel |
//! | `LOST`, 2 MiB | the lowest table is not in the image |
//! | slot 0x1ed of the root | the tables map themselves |

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use vmie_rows::{Field, Type};
use vmie_synth::guest::{Flags, Machine, PageSize, Paging, Space};
use vmie_synth::write::{self, Cpu, Elf};

pub(crate) const CODE: u64 = 0x40_1000;
pub(crate) const DATA: u64 = 0x7f00_0000_0000;
pub(crate) const BIG: u64 = 0xffff_8880_0000_0000;
pub(crate) const LOST: u64 = 0x6000_0000_0000;
/// Eight bytes from `SIG_AT` on, four on each page.
pub(crate) const SIG: &str = "48 8B ?? 11 E8 22 33 44";
pub(crate) const SIG_AT: u64 = CODE + 0xffc;

/// Where the images of the guest are.
pub(crate) struct Guest {
    dir: PathBuf,
    pub(crate) cr3: u64,
    /// The frame of the second data page, which no image holds.
    pub(crate) absent_gpa: u64,
    pub(crate) data_gpa: u64,
}

impl Guest {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The ELF core.
    pub(crate) fn elf(&self) -> String {
        self.path("guest.elf").display().to_string()
    }

    pub(crate) fn cr3_arg(&self) -> String {
        format!("{:#x}", self.cr3)
    }
}

/// The guest, made once.
pub(crate) fn guest() -> &'static Guest {
    static GUEST: OnceLock<Guest> = OnceLock::new();
    GUEST.get_or_init(make)
}

fn make() -> Guest {
    let mut machine = Machine::new(0..8 << 20);
    let space = Space::new(&mut machine, Paging::FourLevel);
    let big = machine.frames.alloc_block(2 << 20, 2 << 20);
    space.map(&mut machine, BIG, big, PageSize::Size2M, Flags::KERNEL_DATA);
    space.map_new(&mut machine, CODE, 2, Flags::CODE);
    let data = space.map_new(&mut machine, DATA, 3, Flags::DATA);
    space.map_new(&mut machine, LOST, 4, Flags::DATA);
    space.self_map(&mut machine, 0x1ed, Flags::KERNEL_DATA);
    space.write(&mut machine, SIG_AT, b"\x48\x8b\x05\x11\xe8\x22\x33\x44");
    space.write(
        &mut machine,
        CODE,
        b"\x55\x48\x89\xe5\x48\x83\xc4\x08\x5d\xc3",
    );
    space.write(&mut machine, DATA, b"hello, \x1b[31mguest\0");
    space.write_u64(&mut machine, DATA + 0x20, 0x1122_3344_0000_0001);
    space.write(&mut machine, DATA + 0x2000, b"third page");
    space.lose_table(&mut machine, 1, LOST);
    machine.phys.make_absent(data[1]..data[1] + 0x1000);

    // Made once and never dropped, so in the build's own directory rather than in /tmp.
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("vmie-cli-guest");
    std::fs::create_dir_all(&dir).expect("a directory");
    let regs = space.cpu();
    let cpus = [0x1000, space.root()].map(|cr3| Cpu {
        cr0: regs.cr0,
        cr3,
        cr4: regs.cr4,
        efer: regs.efer,
        rip: CODE,
        rsp: DATA + 0x3000,
        code64: true,
        ..Cpu::default()
    });
    let ranges = machine.phys.ranges().to_vec();
    let mut source =
        |gpa: u64, buf: &mut [u8]| machine.phys.read(gpa, buf).map_err(std::io::Error::other);
    let create = |name: &str| {
        BufWriter::new(File::create(dir.join(name)).expect("a file in a new directory"))
    };
    let core = Elf {
        cpus: cpus.to_vec(),
        ..Elf::default()
    };
    write::elf(&mut create("guest.elf"), &ranges, &mut source, &core).expect("writes");
    write::lime(&mut create("guest.lime"), &ranges, &mut source).expect("writes");
    std::fs::write(dir.join("zeros.raw"), vec![0; 1 << 20]).expect("writes");
    Guest {
        dir,
        cr3: space.root(),
        absent_gpa: data[1],
        data_gpa: data[0],
    }
}

/// The command, with nothing in its environment that changes what it prints.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmie"));
    for name in [
        "NO_COLOR",
        "CLICOLOR",
        "CLICOLOR_FORCE",
        "COLUMNS",
        "LINES",
        "VMIE_OUTPUT",
    ] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm-256color");
    command
}

/// The command, with rows of JSON where no format is typed.
pub(crate) fn for_rows() -> Command {
    let mut command = command();
    command.env("VMIE_OUTPUT", "jsonl");
    command
}

/// What a run printed, and its status.
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().expect("ended by itself"),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

/// Runs the command, for rows of JSON where no format is typed.
pub(crate) fn vmie(args: &[&str]) -> Run {
    for_rows().args(args).output().expect("runs").into()
}

/// Runs a verb on the guest's ELF core, in its address space.
pub(crate) fn in_space(verb: &str, args: &[&str]) -> Run {
    let guest = guest();
    let (elf, cr3) = (guest.elf(), guest.cr3_arg());
    let mut all = vec![verb, &elf, "--cr3", &cr3];
    all.extend(args);
    vmie(&all)
}

/// The rows of a run with JSON lines.
pub(crate) fn rows(run: &Run) -> Vec<serde_json::Value> {
    run.out
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

/// Checks a document of `-o json`: its rows have the keys that the definition of their kind says, and values of
/// those types.
pub(crate) fn check_document(document: &Value) {
    let id = document["schema"].as_str().expect("a schema id");
    let shape = vmie_rows::SHAPES.iter().find(|shape| shape.id == id);
    let shape = shape.unwrap_or_else(|| panic!("{id} is not defined"));
    for row in document["results"].as_array().expect("rows") {
        check_record(row, shape.fields, shape.physical);
    }
    if !document["coverage"].is_null() {
        check_record(&document["coverage"], vmie_rows::Coverage::FIELDS, false);
    }
}

fn check_record(value: &Value, fields: &'static [Field], physical: bool) {
    let record = value.as_object().expect("an object");
    let leaves = vmie_rows::leaves(fields);
    for leaf in &leaves {
        let (key, ty) = (leaf.field.key, leaf.field.ty);
        let optional = leaf.field.is_optional;
        match record.get(key) {
            Some(value) if optional => assert!(fits(value, &ty.not_null()), "{key} of {record:?}"),
            Some(value) => assert!(fits(value, &ty), "{key} of {record:?}"),
            None => assert!(
                leaf.sometimes || !leaf.field.is_in_json(),
                "no {key}: {record:?}"
            ),
        }
    }
    for key in record.keys() {
        let known = leaves
            .iter()
            .any(|leaf| leaf.field.key == key && leaf.field.is_in_json());
        let marks = physical && key == "space" || key == "source";
        assert!(known || marks, "{key} is not defined");
    }
}

fn fits(value: &Value, ty: &Type) -> bool {
    let text = |fits: &dyn Fn(&str) -> bool| value.as_str().is_some_and(fits);
    let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match ty {
        Type::Hex => text(&|text| {
            let digits = text.strip_prefix("0x").unwrap_or_default();
            !digits.is_empty() && hex(digits) && (digits == "0" || !digits.starts_with('0'))
        }),
        Type::Unsigned(bits) => value
            .as_u64()
            .is_some_and(|n| *bits >= 64 || n >> bits == 0),
        Type::Signed(_) => value.is_i64() || value.is_u64(),
        Type::Float => value.is_number(),
        Type::Bool => value.is_boolean(),
        Type::Text => value.is_string(),
        Type::Letter => text(&|text| text.chars().count() == 1),
        Type::Bytes => text(&|text| text.len().is_multiple_of(2) && hex(text)),
        Type::Prot => text(&|text| {
            let letters = text.chars().zip("rwx".chars());
            text.len() == 3
                && letters
                    .into_iter()
                    .all(|(c, letter)| c == letter || c == '-')
        }),
        Type::Time => text(&|text| text.len() == 24 && text.ends_with('Z')),
        Type::NumberOrText => value.is_u64() || value.is_string(),
        Type::Any => true,
        Type::Nullable(ty) => value.is_null() || fits(value, ty),
        Type::List(ty) => value
            .as_array()
            .is_some_and(|all| all.iter().all(|one| fits(one, ty))),
        Type::Map(ty) => value
            .as_object()
            .is_some_and(|all| all.values().all(|one| fits(one, ty))),
        Type::Record(record) => {
            check_record(value, record.fields, false);
            true
        }
        _ => panic!("no rule for {ty:?}"),
    }
}
