//! References to functions of libc and of the guest program, compared with what `objdump -d` of the ELF
//! files implies.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use object::{Object, ObjectSymbol};
use vmie::scan::{Run, Selection, scan};
use vmie::xref::{CodeBits, Xrefs};
use vmie::{AddrRange, AddressSpace, Gva, Prot};
use vmie_lab::walker::leaves;
use vmie_lab::{ImageFormat, Process, Snapshot, Vma};

use crate::command::{hex, run_bare};
use crate::objects::objects;
use crate::signatures::{FUNCTIONS, file_offset};
use crate::support::{raw, snapshots, space, user_half};

/// Functions of libc that it refers to itself; the static programs have them, too.
const LIBC: [&str; 5] = ["malloc", "free", "abort", "memcpy", "__libc_fatal"];

/// Where an instruction begins, and how it refers to the target.
type Refs = BTreeSet<(u64, String)>;

#[test]
fn functions_are_referred_to_where_objdump_says() {
    let mut compared = 0;
    for snapshot in snapshots() {
        let image = raw(&snapshot);
        let programs = snapshot.programs().expect("readable");
        let processes = snapshot.processes().expect("readable");
        for program in objects(&programs) {
            let process = processes.iter().find(|process| process.pid == program.pid);
            let process = process.expect("the program is a process");
            let root = snapshot.root_of(program.pid).expect("it is busy");
            let space = space(&snapshot, image.clone(), root);
            // Pages of code that are present.
            let present: BTreeSet<u64> = leaves(&snapshot, root)
                .iter()
                .filter(|leaf| leaf.va >> 63 == 0 && !leaf.effective.nx)
                .map(|leaf| leaf.va)
                .collect();
            for vma in process.vmas.iter().filter(|vma| is_code(process, vma)) {
                let file = Listing::of(&snapshot, vma);
                let mut first = true;
                for name in FUNCTIONS.iter().chain(&LIBC) {
                    let Some(address) = file.symbol(name) else {
                        continue;
                    };
                    let expected = file.references(address, vma, &present);
                    let target = file.va(address, vma).expect("functions are code");
                    let what = format!("{}: {} {name}", snapshot.variant, vma.path);
                    assert_eq!(found(&space, target, vma), expected, "{what}");
                    compared += expected.len();
                    if std::mem::take(&mut first) {
                        let by_pid = by_pid(&snapshot, process.pid, target, vma);
                        assert_eq!(by_pid, expected, "{what}, the command");
                        let all = among_all(&snapshot, process.pid, target, vma);
                        assert_eq!(all, expected, "{what}, among all");
                    }
                }
            }
        }
    }
    assert!(compared > 50, "only {compared} references");
}

/// Whether a mapping is code of the program or of libc.
fn is_code(process: &Process, vma: &Vma) -> bool {
    let is_wanted = vma.path == process.exe || vma.path.contains("libc.so");
    is_wanted && vma.prot.contains('x')
}

/// What objdump prints of a file.
pub(crate) struct Listing {
    file: Vec<u8>,
    pub(crate) text: String,
}

impl Listing {
    pub(crate) fn of(snapshot: &Snapshot, vma: &Vma) -> Self {
        let path = snapshot.path(format!("files{}", vma.path));
        let file = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", vma.path));
        Self {
            file,
            text: objdump(&path),
        }
    }

    fn elf(&self) -> object::File<'_> {
        object::File::parse(&*self.file).expect("an ELF file")
    }

    /// The address of a function that has code, in the file.
    fn symbol(&self, name: &str) -> Option<u64> {
        let elf = self.elf();
        let mut symbols = elf.symbols().chain(elf.dynamic_symbols());
        let is_it = |symbol: &object::Symbol<'_, '_>| {
            let plain = symbol.name().unwrap_or("").split('@').next() == Some(name);
            plain && symbol.address() != 0 && symbol.kind() == object::SymbolKind::Text
        };
        symbols.find(is_it).map(|symbol| symbol.address())
    }

    /// Where an address of the file is in the process, if it is in this mapping.
    pub(crate) fn va(&self, address: u64, vma: &Vma) -> Option<u64> {
        let offset = file_offset(&self.elf(), address) as u64;
        let within = offset.checked_sub(vma.offset)?;
        (within < vma.range.end - vma.range.start).then(|| vma.range.start + within)
    }

    /// The instructions of the listing that refer to an address, of which all pages are present.
    fn references(&self, address: u64, vma: &Vma, present: &BTreeSet<u64>) -> Refs {
        let mut refs = Refs::new();
        for line in self.text.lines() {
            let Some((at, bytes, text)) = instruction(line) else {
                continue;
            };
            let Some(kind) = refers(text, address) else {
                continue;
            };
            let Some(va) = self.va(at, vma) else { continue };
            let pages = [va, va + bytes - 1].map(|va| va & !0xfff);
            if pages.iter().all(|page| present.contains(page)) {
                refs.insert((va, kind.to_owned()));
            }
        }
        refs
    }
}

fn objdump(path: &Path) -> String {
    let output = Command::new("objdump")
        .args(["--disassemble", "--wide"])
        .arg(path)
        .output()
        .expect("objdump runs");
    assert!(output.status.success(), "objdump {}", path.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Address, number of bytes and text of a line of the listing.
pub(crate) fn instruction(line: &str) -> Option<(u64, u64, &str)> {
    let mut parts = line.split('\t');
    let address = parts.next()?.trim().strip_suffix(':')?;
    let bytes = parts.next()?.split_whitespace().count();
    let text = parts.next()?;
    Some((u64::from_str_radix(address, 16).ok()?, bytes as u64, text))
}

/// How an instruction refers to an address.
pub(crate) fn refers(text: &str, address: u64) -> Option<&'static str> {
    let is_it = |digits: &str| u64::from_str_radix(digits, 16) == Ok(address);
    let words: Vec<&str> = text.split_whitespace().collect();
    let opcode = words
        .iter()
        .find(|word| !matches!(**word, "bnd" | "notrack" | "rep" | "repz"))?;
    if let Some((_, relative)) = text.split_once("# ") {
        let pointer = text.contains('*');
        return is_it(relative.split_whitespace().next()?).then_some(match &opcode[..] {
            "call" if pointer => "call-ptr",
            "jmp" if pointer => "jmp-ptr",
            "lea" => "lea",
            _ => "mem",
        });
    }
    if opcode.starts_with(['j', 'l']) || *opcode == "call" {
        let to = words.iter().rev().find(|word| !word.starts_with('<'))?;
        if is_it(to) {
            return Some(match &opcode[..] {
                "call" => "call",
                "jmp" => "jmp",
                _ => "jcc",
            });
        }
    }
    let numbers = text
        .split(['$', ',', ' '])
        .filter_map(|word| word.strip_prefix("0x"));
    numbers.clone().any(is_it).then_some("imm")
}

/// What vmie finds in a mapping, with a linear decode that agrees.
fn found(space: &AddressSpace, target: u64, vma: &Vma) -> Refs {
    let target = AddrRange::new(Gva(target), 1).expect("not empty");
    let selection = Selection::all().range(user_half()).perm(Prot::X);
    let xrefs = Xrefs::to(target, CodeBits::B64);
    let outcome = scan(space, &xrefs, &selection, Run::new());
    let mut refs = Refs::new();
    for xref in outcome.items.iter().map(|found| found.item) {
        if xref.linear && vma.range.contains(&xref.va.0) {
            refs.insert((xref.va.0, xref.kind.to_string()));
        }
    }
    assert_eq!(outcome.coverage.lost, 0);
    refs
}

/// The same by the command; a second target makes no difference to the first.
fn by_pid(snapshot: &Snapshot, pid: u32, target: u64, vma: &Vma) -> Refs {
    let to = [format!("{target:#x}"), format!("{:#x}", target + 1)];
    command(
        snapshot,
        pid,
        &["--to", &to[0], "--to", &to[1]],
        target,
        vma,
    )
}

/// The same, of all references from the mapping.
fn among_all(snapshot: &Snapshot, pid: u32, target: u64, vma: &Vma) -> Refs {
    let range = format!("{:#x}..{:#x}", vma.range.start, vma.range.end);
    command(snapshot, pid, &["--all", "--range", &range], target, vma)
}

fn command(snapshot: &Snapshot, pid: u32, asked: &[&str], target: u64, vma: &Vma) -> Refs {
    let image = snapshot.image(ImageFormat::Raw).expect("there is one");
    let pid = pid.to_string();
    let args = [&["--pid", &pid, "--linear"], asked].concat();
    let (rows, _) = run_bare(snapshot, image, "xref", &args);
    // Code that is not mapped is judged in `imports.rs`.
    let mapped = rows.iter().filter(|row| row.get("state").is_none());
    let rows = mapped.filter(|row| hex(&row["target"]) == target);
    let refs = rows.map(|row| {
        let kind = row["kind"].as_str().expect("text").to_owned();
        (hex(&row["va"]), kind)
    });
    refs.filter(|(va, _)| vma.range.contains(va)).collect()
}
