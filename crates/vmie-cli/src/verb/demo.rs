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
use vmie_synth::linux::{Demo, demo};
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
const LATER: &str = "demo-later.elf";
const RAW: &str = "demo.raw";
const SIGNATURES: &str = "demo.toml";
const RULES: &str = "demo.yar";
const SNAPSHOT: &str = "demo.snap";
const FILES: [&str; 6] = [ELF, LATER, RAW, SIGNATURES, RULES, SNAPSHOT];

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
    /// Where the command was started, to which it returns from a directory that is removed.
    started: Option<PathBuf>,
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(started) = &self.started {
            // What fails is the removal of the directory then, at worst.
            let _ = std::env::set_current_dir(started);
        }
    }
}

impl Home {
    fn new(keep: Option<&Path>) -> Result<Self> {
        if let Some(dir) = keep {
            std::fs::create_dir_all(dir)
                .map_err(|error| Failure::new(format!("cannot make {}: {error}", dir.display())))?;
            return Ok(Self {
                dir: dir.to_owned(),
                temporary: None,
                started: None,
            });
        }
        let failed = |error: std::io::Error| {
            Failure::new(format!("cannot make a temporary directory: {error}"))
                .hint("--keep DIR, with a directory that can be written to")
        };
        let temporary = tempfile::Builder::new()
            .prefix("vmie-demo-")
            .tempdir()
            .map_err(failed)?;
        // Within it a file's name is all there is to say of it, and rows that name one say the same every time.
        let started = std::env::current_dir().ok();
        std::env::set_current_dir(temporary.path()).map_err(failed)?;
        Ok(Self {
            dir: temporary.path().to_owned(),
            temporary: Some(temporary),
            started,
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
    let create = |name: &str| Replacement::create(&dir.join(name)).map(BufWriter::new);
    let finish = |file: BufWriter<Replacement>| file.into_inner()?.commit();

    let core = Elf {
        cpus: vec![guest.cpu],
        ..Elf::default()
    };
    for (name, machine) in [(ELF, &guest.machine), (LATER, &guest.later())] {
        let phys = &machine.phys;
        let mut elf = create(name)?;
        write::elf(&mut elf, phys.ranges(), &mut &*phys, &core)?;
        finish(elf)?;
    }

    let phys = &guest.machine.phys;
    let mut raw = create(RAW)?;
    write::raw(&mut raw, phys.ranges(), &mut &*phys)?;
    finish(raw)?;

    let signature = &guest.program.signature;
    let mut file = create(SIGNATURES)?;
    writeln!(file, "# Signatures for `vmie scan -f`, one a line.")?;
    writeln!(file, "report = \"{signature}\"")?;
    writeln!(file, "prologue = \"55 48 89 E5 [3-8] 5D C3\"")?;
    writeln!(
        file,
        "banner = '\\x4f\\x72\\x62\\x69\\x74\\x61\\x6c\\x20\\x73\\x74'"
    )?;
    finish(file)?;

    let mut file = create(RULES)?;
    write!(
        file,
        "// Rules for `vmie scan --yara`.\n\
         rule orbital_station {{\n    \
             meta:\n        description = \"the station's program, by its greeting and a function\"\n    \
             strings:\n        $greeting = \"Orbital station\"\n        \
             $log = \"Station log\" wide\n        $hit = {{ {signature} }}\n    \
             condition:\n        $greeting and $log and #hit == 1\n}}\n"
    )?;
    finish(file)
}

/// A range as it is typed: `len` bytes from an address or a name on.
fn range(start: impl std::fmt::Display, len: u64) -> String {
    format!("{start}..+{len:#x}")
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

fn step(title: &'static str, text: &str, status: u8, words: &[&str]) -> Step {
    Step {
        title,
        text: text.to_owned(),
        words: words.iter().map(|&word| word.to_owned()).collect(),
        status,
    }
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
             vmie has just built a small x86-64 machine that runs Linux: {} MiB of RAM in two ranges, a\n\
             kernel, and a handful of processes. It wrote the machine's memory to {} (an ELF core, as\n\
             QEMU's dump-guest-memory makes it), to {} a moment later, and to {} (the plain\n\
             bytes). Each step below shows a command line and what it prints.\n",
            self.guest.machine.phys.ram_bytes() >> 20,
            self.home.shown(ELF),
            self.home.shown(LATER),
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
        let mut steps = self.system();
        steps.extend(self.bytes());
        steps.extend(self.objects());
        steps.extend(self.holes());
        steps.extend(self.without_names());
        steps
    }

    /// What a guest is and what runs in it.
    fn system(&self) -> Vec<Step> {
        let process = Demo::PROCESS.1;
        vec![
            step(
                "What is this image?",
                "Its format, its memory, its CPUs, and the system that was found in it: nothing was given\n\
                 but the image, no profile and no symbol file.",
                0,
                &["info", ELF],
            ),
            step(
                "What runs there?",
                "The processes, each below the one that started it.",
                0,
                &["ps", ELF, "--tree"],
            ),
            step(
                "What has a process mapped?",
                "The regions of one process, by its name, with the rights that the page tables give. One has\n\
                 a page whose frame is not in the image, and one page that is swapped out: `absent` says\n\
                 how much is missing.",
                0,
                &["maps", ELF, "--process", process],
            ),
            step(
                "Which programs and libraries are those?",
                "Modules of the process; without --process it is those of the kernel.",
                0,
                &["modules", ELF, "--process", process],
            ),
            step(
                "Which symbols has the kernel?",
                "From its own tables in memory. Wherever an address goes, such a name does as well.",
                0,
                &["symbols", ELF, "init_*"],
            ),
            step(
                "And which types?",
                "From its own type information; whole structures, or a part of one.",
                0,
                &["type", ELF, "vm_area_struct"],
            ),
            step(
                "What is in an instance?",
                "A structure of the kernel with its values.",
                0,
                &["show", ELF, "pid_namespace", "init_pid_ns"],
            ),
        ]
    }

    /// Bytes, code and signatures.
    fn bytes(&self) -> Vec<Step> {
        let (guest, program) = (self.guest, &self.guest.program);
        let process = Demo::PROCESS.1;
        let damage = program.function("take_damage");
        let border = (program.signature_va + 0x1000) & !0xfff;
        let mut steps = vec![
            step(
                "Where is an address in physical memory?",
                "A variable of the program through every table entry, down to its frame; and an address\n\
                 that is swapped out, which the last entry tells.",
                0,
                &[
                    "vtop",
                    ELF,
                    "--process",
                    process,
                    "station!world",
                    &format!("{:#x}", guest.swapped_page),
                ],
            ),
            step(
                "What is there?",
                "The program's greeting.",
                0,
                &[
                    "read",
                    ELF,
                    "--process",
                    process,
                    &range(format_args!("{:#x}", program.banner.va), 48),
                ],
            ),
            step(
                "And as code?",
                "A function of the program, disassembled.",
                0,
                &[
                    "read",
                    ELF,
                    "--process",
                    process,
                    &range("station!take_damage", damage.len),
                    "--as",
                    "asm",
                ],
            ),
            step(
                "Where does a byte signature occur?",
                &format!(
                    "The code looked for lies across the page border at {border:#x}, and the two pages are\n\
                     far apart in physical memory. In the process it is one match."
                ),
                0,
                &["scan", ELF, "--process", process, "-s", &program.signature],
            ),
            step(
                "And in physical memory?",
                "There the two halves do not touch, so nothing is found. Everything was looked at, so the\n\
                 answer is a certain no: exit status 1. Had nothing been readable, it would be 2.",
                1,
                &["scan", ELF, "--phys", "-s", &program.signature],
            ),
            step(
                "Several signatures, all processes at once",
                "From a file, in one pass; the first three matches in executable memory, with the process\n\
                 and region of each.",
                0,
                &[
                    "scan",
                    ELF,
                    "--all-processes",
                    "-f",
                    SIGNATURES,
                    "--perm",
                    "x",
                    "--limit",
                    "3",
                ],
            ),
        ];
        // A command that was built without rules has none to show.
        if cfg!(feature = "yara") {
            steps.push(step(
                "Which process is it?",
                "A YARA rule on the memory of one process: what it is about, and where its strings are.",
                0,
                &["scan", ELF, "--process", process, "--yara", RULES],
            ));
        }
        steps
    }

    /// Objects, references, and what changes.
    fn objects(&self) -> Vec<Step> {
        let program = &self.guest.program;
        let process = Demo::PROCESS.1;
        let ship = format!("{:#x}", program.ships[0].va);
        let health = format!("{:#x}", program.ships[0].va + 0x18);
        vec![
            step(
                "Where is a value?",
                "A ship of the station has 100 hit points, a number as games and simulations keep it.",
                0,
                &["find", ELF, "--process", process, "--f32", "100"],
            ),
            step(
                "What is the object around it?",
                "Its fields, as far as bytes tell; the class by the type information that C++ compilers\n\
                 leave in programs. With --like, all objects of the class vote.",
                0,
                &[
                    "dissect",
                    ELF,
                    "--process",
                    process,
                    &ship,
                    "--len",
                    "0x60",
                    "--like",
                ],
            ),
            step(
                "How is it reached?",
                "Paths from the program's own data, which is where it is after every start, over pointers to\n\
                 the value. Where the heap is does not matter then.",
                0,
                &[
                    "paths",
                    ELF,
                    "--process",
                    process,
                    &health,
                    "--from",
                    "station",
                    "--max-offset",
                    "0x40",
                    "--depth",
                    "3",
                ],
            ),
            step(
                "Which code uses it?",
                "The instructions that refer to the variable where those paths begin.",
                0,
                &["xref", ELF, "--process", process, "--to", "station!world"],
            ),
            step(
                "Take a snapshot",
                "A snapshot of what the process has mapped now, as a source for every verb.",
                0,
                &["snap", "take", ELF, "--process", process, "-O", SNAPSHOT],
            ),
            step(
                "What has changed since?",
                "The snapshot beside the same process in the second image: a ship has been hit, and a clock\n\
                 and a counter have gone on.",
                0,
                &["snap", "diff", SNAPSHOT, LATER, "--process", process],
            ),
        ]
    }

    /// What is not in an image.
    fn holes(&self) -> Vec<Step> {
        let guest = self.guest;
        let process = Demo::PROCESS.1;
        vec![
            step(
                "What about the absent page?",
                "Numbered records run through it. A hole is shown as a hole, never as zeros.",
                0,
                &[
                    "read",
                    ELF,
                    "--process",
                    process,
                    &range(format_args!("{:#x}", guest.absent_page - 0x20), 0x1040),
                ],
            ),
            step(
                "Is it a certain no?",
                "Record 300 stood on that page. It is not found, but a part was not looked at, and with\n\
                 --strict that has an exit status of its own, 3.",
                3,
                &[
                    "find",
                    ELF,
                    "--process",
                    process,
                    "--str",
                    "record 00300",
                    "--strict",
                ],
            ),
        ]
    }

    /// Address spaces by their root alone, other formats.
    fn without_names(&self) -> Vec<Step> {
        let guest = self.guest;
        let cr3 = format!("{:#x}", guest.space.root());
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
        vec![
            step(
                "Without names",
                "An address space needs no system: its root, CR3, is enough, here for what user mode may\n\
                 execute there.",
                0,
                &["maps", ELF, "--cr3", &cr3, "--perm", "xu"],
            ),
            step(
                "For scripts",
                "Every verb gives its rows as JSON, JSON lines or CSV too.",
                0,
                &[
                    "maps",
                    ELF,
                    "--cr3",
                    &cr3,
                    "--range",
                    &range(format_args!("{:#x}", guest.holed.va), guest.holed.len),
                    "-o",
                    "json",
                ],
            ),
            step(
                "A raw image needs to be told where its bytes belong",
                "Plain RAM does not say where the hole between its two ranges is. --layout does; for QEMU's\n\
                 machines there are names: pc, q35, microvm.",
                0,
                &["ps", RAW, "--layout", &layout],
            ),
        ]
    }

    fn step(&self, number: usize, step: &Step) -> Result<()> {
        let line: Vec<String> = step
            .words
            .iter()
            .map(|word| match word.as_str() {
                word if FILES.contains(&word) => self.home.shown(word),
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
            word if FILES.contains(&word) && self.home.temporary.is_none() => {
                self.home.dir.join(word).into_os_string()
            }
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
