//! `vmie demo`: a guided tour on a synthetic guest that is built on the spot.
//!
//! Every step shows a command line and then runs exactly that: it is parsed and executed like one that
//! was typed, so the tour cannot show what the command does not do. Steps that end with another
//! status than the tour promises are an error, which makes the tour a test of the whole command.

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use clap::{Args, ValueHint};
use vmie_replace::Replacement;
use vmie_synth::guest::{Demo, demo};
use vmie_synth::write::{self, Elf};

use crate::escape::shell_word;
use crate::exit::{Done, Failure, Result, Stop};
use crate::options::Options;
use crate::output::strip;
use crate::whole::Whole;

const HEADING: Style = AnsiColor::Green.on_default().bold();
const COMMAND: Style = Style::new().bold();

/// Files of the tour.
const ELF: &str = "demo.elf";
const RAW: &str = "demo.raw";
const SIGNATURES: &str = "demo.toml";

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Leave the images of the synthetic guest in this directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) keep: Option<PathBuf>,
}

pub(super) fn run(args: &DemoArgs, options: &Options, whole: &Whole) -> Result<Done> {
    let guest = demo();
    let home = Home::new(args.keep.as_deref())?;
    write_files(&guest, &home.dir).map_err(|error| {
        Failure::new(format!(
            "cannot write the demo's files into {}: {error}",
            home.dir.display()
        ))
        .hint("--keep DIR, with a directory that can be written to")
    })?;
    let tour = Tour {
        guest: &guest,
        home: &home,
        options,
        whole,
    };
    tour.run()
}

/// Where the images are while the tour runs.
struct Home {
    dir: PathBuf,
    /// Removed at the end, unless the images are kept.
    temporary: Option<tempfile::TempDir>,
}

impl Home {
    fn new(keep: Option<&Path>) -> Result<Self> {
        if let Some(dir) = keep {
            std::fs::create_dir_all(dir)
                .map_err(|error| Failure::new(format!("cannot make {}: {error}", dir.display())))?;
            return Ok(Self {
                dir: dir.to_owned(),
                temporary: None,
            });
        }
        let temporary = tempfile::Builder::new()
            .prefix("vmie-demo-")
            .tempdir()
            .map_err(|error| {
                Failure::new(format!("cannot make a temporary directory: {error}"))
                    .hint("--keep DIR, with a directory that can be written to")
            })?;
        Ok(Self {
            dir: temporary.path().to_owned(),
            temporary: Some(temporary),
        })
    }

    /// A file as the user would type it: without its directory when that is about to vanish.
    fn shown(&self, name: &str) -> String {
        match self.temporary {
            Some(_) => name.to_owned(),
            None => shell_word(&self.dir.join(name)),
        }
    }
}

fn write_files(guest: &Demo, dir: &Path) -> std::io::Result<()> {
    let phys = &guest.machine.phys;
    let create = |name: &str| Replacement::create(&dir.join(name)).map(BufWriter::new);
    let finish = |file: BufWriter<Replacement>| file.into_inner()?.commit();

    let core = Elf {
        cpus: vec![guest.cpu],
        ..Elf::default()
    };
    let mut elf = create(ELF)?;
    write::elf(&mut elf, phys.ranges(), &mut &*phys, &core)?;
    finish(elf)?;

    let mut raw = create(RAW)?;
    write::raw(&mut raw, phys.ranges(), &mut &*phys)?;
    finish(raw)?;

    let signature = &guest.program.signature;
    let mut file = create(SIGNATURES)?;
    writeln!(file, "# Signatures for `vmie scan -f`, one a line.")?;
    writeln!(file, "report = \"{signature}\"")?;
    writeln!(file, "prologue = \"55 48 89 E5 B8 [4] 5D C3\"")?;
    writeln!(
        file,
        "banner = '\\x44\\x65\\x6d\\x6f\\x20\\x6b\\x65\\x72\\x6e\\x65\\x6c'"
    )?;
    finish(file)
}

/// A command of the tour.
struct Step {
    title: &'static str,
    text: String,
    /// What is typed behind `vmie`.
    words: Vec<String>,
    /// The status it must end with.
    status: u8,
}

struct Tour<'a> {
    guest: &'a Demo,
    home: &'a Home,
    options: &'a Options,
    whole: &'a Whole,
}

impl Tour<'_> {
    fn run(&self) -> Result<Done> {
        self.say(&format!(
            "{HEADING}A guest to look into{HEADING:#}\n\
             vmie has just built a small x86-64 machine: {} MiB of RAM in two ranges, page tables,\n\
             a kernel and a program. It wrote the machine's memory to {} (an ELF core, as QEMU's\n\
             dump-guest-memory makes it) and {} (the plain bytes). Each step below shows a command\n\
             line and what it prints.\n",
            self.guest.machine.phys.ram_bytes() >> 20,
            self.home.shown(ELF),
            self.home.shown(RAW),
        ))?;
        for (number, step) in self.steps().iter().enumerate() {
            self.step(number + 1, step)?;
        }
        let ending = match self.home.temporary {
            Some(_) => "\
                The images are gone now. `vmie demo --keep DIR` leaves them in DIR, and then every command\n\
                line of the tour works as it is printed.\n"
                .to_owned(),
            None => format!(
                "The images are in {}; every command line above works as it is printed.\n",
                shell_word(&self.home.dir)
            ),
        };
        self.say(&format!(
            "\n{HEADING}That is the main job{HEADING:#}\n{ending}`vmie help` lists the verbs.\n"
        ))?;
        Ok(Done::FOUND)
    }

    fn steps(&self) -> Vec<Step> {
        let guest = self.guest;
        let program = &guest.program;
        let cr3 = format!("{:#x}", guest.space.root());
        let elf = ELF;
        let report = program.function("report");
        let border = (program.signature_va + 0x1000) & !0xfff;
        let ranges = guest.machine.phys.ranges();
        let layout = ranges
            .iter()
            .scan(0, |offset, range| {
                let len = range.end - range.start;
                let part = format!("{:#x}+{}MiB@{}MiB", range.start, len >> 20, *offset >> 20);
                *offset += len;
                Some(part)
            })
            .collect::<Vec<_>>()
            .join(",");
        let step = |title, text: &str, status, words: &[&str]| Step {
            title,
            text: text.to_owned(),
            words: words.iter().map(|&word| word.to_owned()).collect(),
            status,
        };
        vec![
            step(
                "What is this image?",
                "The core's CPU notes name the root of the page tables, CR3. That is the key to an address\n\
                 space.",
                0,
                &["info", elf],
            ),
            step(
                "What is mapped?",
                "All regions of the user half, protections taken over all table levels. One region has a\n\
                 page whose frame is not in the image; the column `absent` says how much is missing.",
                0,
                &["maps", elf, "--cr3", &cr3, "--range", "..0x800000000000"],
            ),
            step(
                "What may the kernel execute?",
                "Regions with at least these rights, in the upper half. vmie notes that the tables map\n\
                 themselves, as those of Windows do.",
                0,
                &[
                    "maps",
                    elf,
                    "--cr3",
                    &cr3,
                    "--range",
                    "0xffff800000000000..",
                    "--perm",
                    "x",
                ],
            ),
            step(
                "Where is an address in physical memory?",
                "One address through every table entry, down to its frame; and one that is swapped out,\n\
                 which the last entry tells.",
                0,
                &[
                    "vtop",
                    elf,
                    "--cr3",
                    &cr3,
                    &format!("{:#x}", program.banner.va),
                    &format!("{:#x}", guest.swapped_page),
                ],
            ),
            step(
                "What is there?",
                "The program's greeting.",
                0,
                &[
                    "read",
                    elf,
                    "--cr3",
                    &cr3,
                    &format!("{:#x}..+64", program.banner.va),
                ],
            ),
            step(
                "And as code?",
                "A function of the program, disassembled.",
                0,
                &[
                    "read",
                    elf,
                    "--cr3",
                    &cr3,
                    &format!("{:#x}..+{}", report.va, report.len),
                    "--as",
                    "asm",
                ],
            ),
            step(
                "Where does a byte signature occur?",
                &format!(
                    "The code looked for lies across the page border at {border:#x}, and the two pages are far\n\
                     apart in physical memory. In the address space it is one match."
                ),
                0,
                &["scan", elf, "--cr3", &cr3, "-s", &program.signature],
            ),
            step(
                "And in physical memory?",
                "There the two halves do not touch, so nothing is found. Everything was looked at, so the\n\
                 answer is a certain no: exit status 1. Had nothing been readable, it would be 2.",
                1,
                &["scan", elf, "--phys", "-s", &program.signature],
            ),
            step(
                "Several signatures at once",
                "From a file, in one pass; the first three matches in executable memory.",
                0,
                &[
                    "scan", elf, "--cr3", &cr3, "-f", SIGNATURES, "--perm", "x", "--limit", "3",
                ],
            ),
            step(
                "What about the absent page?",
                "Numbered records run through it. A hole is shown as a hole, never as zeros.",
                0,
                &[
                    "read",
                    elf,
                    "--cr3",
                    &cr3,
                    &format!(
                        "{:#x}..{:#x}",
                        guest.absent_page - 0x20,
                        guest.absent_page + 0x1020
                    ),
                ],
            ),
            step(
                "Is it a certain no?",
                "Record 300 stood on that page. It is not found, but a part was not looked at, and with\n\
                 --strict that has an exit status of its own, 3.",
                3,
                &[
                    "scan",
                    elf,
                    "--cr3",
                    &cr3,
                    "-s",
                    "72 65 63 6F 72 64 20 30 30 33 30 30",
                    "--strict",
                ],
            ),
            step(
                "For scripts",
                "Every verb gives its rows as JSON, JSON lines or CSV too; JSON lines when piped.",
                0,
                &[
                    "maps",
                    elf,
                    "--cr3",
                    &cr3,
                    "--range",
                    &format!("{:#x}..+{:#x}", guest.holed.va, guest.holed.len),
                    "-o",
                    "json",
                ],
            ),
            step(
                "A raw image needs to be told where its bytes belong",
                "Plain RAM does not say where the hole between its two ranges is. --layout does; for QEMU's\n\
                 machines there are names: pc, q35, microvm.",
                0,
                &[
                    "read",
                    RAW,
                    "--layout",
                    &layout,
                    "--cr3",
                    &cr3,
                    "--paging",
                    "4level",
                    &format!("{:#x}..+32", guest.kernel_banner.va),
                ],
            ),
        ]
    }

    fn step(&self, number: usize, step: &Step) -> Result<()> {
        let line: Vec<String> = step
            .words
            .iter()
            .map(|word| match word.as_str() {
                ELF | RAW | SIGNATURES => self.home.shown(word),
                word => shell_word(Path::new(word)),
            })
            .collect();
        self.say(&format!(
            "\n{HEADING}{number}. {}{HEADING:#}\n{}\n\n{COMMAND}$ vmie {}{COMMAND:#}\n",
            step.title,
            step.text,
            line.join(" ")
        ))?;
        let status = self.execute(step)?;
        if status != 0 {
            self.say(&format!("[exit status {status}]\n"))?;
        }
        if status == step.status {
            return Ok(());
        }
        Err(Failure::new(format!(
            "step {number} of the demo ended with status {status}, not {}",
            step.status
        ))
        .found(format!("vmie {}", line.join(" ")))
        .into())
    }

    /// Runs the words of a step as if they had been typed.
    fn execute(&self, step: &Step) -> Result<u8> {
        let words = step.words.iter().map(|word| match word.as_str() {
            ELF | RAW | SIGNATURES => self.home.dir.join(word).into_os_string(),
            word => word.into(),
        });
        (self.whole.run)(words.collect(), &self.options.typed)
    }

    fn say(&self, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(strip(text, self.options.output.color).as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| Stop::writing(&error))
    }
}
