//! What may be typed: the command line as clap sees it.
//!
//! Nothing here looks at a file or a terminal. [`options`](crate::options) and
//! [`space`](crate::space) turn what was typed into what to do.

mod dissect;
mod pointers;
mod refine;
mod snap;
mod source;

use std::path::PathBuf;

use clap::{
    ArgGroup, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint,
};
use clap_complete::Shell;
use vmie::signature::EngineKind;
use vmie::xref::CodeBits;
use vmie::{AddressSpace, ProgramWidth, Prot};

use crate::addr::{AddrExpr, RangeExpr, TargetExpr, parse_u64};
use crate::glob::Glob;
use crate::output::Format;
pub(crate) use dissect::{DissectArgs, DissectForm};
pub(crate) use pointers::{FromExpr, PathsArgs, PointerArgs, RefsArgs};
pub(crate) use refine::RefineArgs;
pub(crate) use snap::{
    Compress, GroupBy, Groups, SnapArgs, SnapDiffArgs, SnapSeriesArgs, SnapTakeArgs, SnapWatchArgs,
};
pub(crate) use source::{LayersArgs, SourceArgs};

/// Headings in the help. Set on each argument: a heading of a flattened group would spread to the
/// arguments behind it.
const GLOBAL: &str = "Global options";
const SPACE: &str = "Space";
const WHAT: &str = "What to find";

const AFTER_HELP: &str = "\
Addresses: 0x and hexadecimal digits, or decimal; where the operating system is known, also a
symbol, a module or module!symbol, each with or without +0x10. Ranges: A..B (B excluded) or A+LEN;
LEN takes KiB, MiB, GiB.

Exit status: 0 found or done, 1 nothing found, 2 error (also when nothing could be looked at),
3 incomplete under --strict. A closed pipe is success.

Start with `vmie demo`.";

/// Look into a virtual machine's memory from outside
#[derive(Parser, Debug)]
#[command(name = "vmie", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,

    #[command(flatten)]
    pub(crate) global: GlobalArgs,
}

/// What every verb takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct GlobalArgs {
    /// Shape of the results [default: table on a terminal, jsonl when piped]
    #[arg(short, long, global = true, help_heading = GLOBAL, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,

    /// Threads to use [default: one per CPU]
    #[arg(short = 'j', long, global = true, help_heading = GLOBAL, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,

    /// Stop after N rows
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,

    /// Exit with status 3 when a part could not be looked at
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) strict: bool,

    /// When to use colour
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,

    /// Print errors only: no warnings, notes, progress or coverage
    #[arg(short, long, global = true, help_heading = GLOBAL, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print more details on standard error
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(crate) verbose: bool,
}

/// When to use colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Show what an image is: format, physical ranges, CPUs, operating system
    Info(InfoArgs),
    /// List the mapped regions of an address space
    Maps(MapsArgs),
    /// Translate virtual addresses, showing every page-table entry
    Vtop(VtopArgs),
    /// Show memory: hex, raw bytes, 64-bit words or instructions
    Read(ReadArgs),
    /// Find byte signatures, or evaluate YARA rules
    Scan(ScanArgs),
    /// Explain signatures
    #[command(subcommand)]
    Sig(SigArgs),
    /// Find numbers, texts and bytes
    Find(Box<FindArgs>),
    /// Find whatever reads as text
    Strings(StringsArgs),
    /// Find the instructions that refer to an address
    Xref(XrefArgs),
    /// Find what points at an address or into a range
    Refs(RefsArgs),
    /// Find paths of pointers from fixed bases to an address
    Paths(PathsArgs),
    /// Guess the fields of an object
    Dissect(DissectArgs),
    /// Keep moments of memory, and compare them
    #[command(subcommand)]
    Snap(SnapArgs),
    /// List the processes of the guest
    Ps(PsArgs),
    /// List kernel modules, or the program and libraries of a process
    Modules(ModulesArgs),
    /// List the symbols of the kernel and its modules, or of a process
    Symbols(SymbolsArgs),
    /// Print a type of the kernel with offsets and sizes
    Type(TypeArgs),
    /// Print an instance of a kernel type with its values
    Show(ShowArgs),
    /// Take a guided tour on a built-in synthetic guest
    Demo(DemoArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the man page, or write one per verb into a directory
    Man(ManArgs),
}

/// Whose memory, names or modules are meant.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct OwnerArgs {
    /// This process; `vmie ps` lists them
    #[arg(long, help_heading = SPACE, value_name = "N", group = "space")]
    pub(crate) pid: Option<u32>,

    /// The only process of this name
    #[arg(long, help_heading = SPACE, value_name = "NAME", group = "space")]
    pub(crate) process: Option<String>,

    /// The kernel
    #[arg(long, help_heading = SPACE, group = "space")]
    pub(crate) kernel: bool,
}

/// Which memory of the guest is meant.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct SpaceArgs {
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,

    /// The address space whose top page table is at this physical address (flag bits are ignored)
    #[arg(long, help_heading = SPACE, value_name = "GPA", group = "space", value_parser = parse_u64)]
    pub(crate) cr3: Option<u64>,

    /// Physical memory itself
    #[arg(long, help_heading = SPACE, group = "space")]
    pub(crate) phys: bool,

    /// Only what the CPU would see: without pages in memory that the operating system makes it fault on
    #[arg(long, help_heading = SPACE, conflicts_with = "phys")]
    pub(crate) hardware: bool,

    /// How the page tables are laid out
    #[arg(
        long,
        value_name = "MODE",
        default_value = "auto",
        conflicts_with_all = ["phys", "pid", "process", "kernel"]
    )]
    pub(crate) paging: Paging,
}

impl SpaceArgs {
    /// Whether any was typed.
    pub(crate) fn is_typed(&self) -> bool {
        let owner = &self.owner;
        let process = owner.pid.is_some() || owner.process.is_some();
        process || owner.kernel || self.phys || self.cr3.is_some()
    }

    /// What is to be seen of a space.
    pub(crate) fn seen(&self, space: AddressSpace) -> AddressSpace {
        match self.hardware {
            true => space.hardware(),
            false => space,
        }
    }

    /// The same, with the kernel where nothing was typed.
    pub(crate) fn or_kernel(&self) -> Self {
        let mut args = self.clone();
        let owner = &mut args.owner;
        owner.kernel |= !self.is_typed();
        args
    }
}

/// How page tables are laid out, as typed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum)]
pub(crate) enum Paging {
    /// From the CPU state of the image, else by evidence in the tables
    #[default]
    Auto,
    /// Two levels, 32-bit entries
    X86,
    /// Three levels, 64-bit entries
    Pae,
    /// Four levels, 48-bit addresses
    #[value(name = "4level")]
    FourLevel,
    /// Five levels, 57-bit addresses
    #[value(name = "5level")]
    FiveLevel,
}

impl Paging {
    /// The mode of this name; `auto` for all that are none.
    pub(crate) fn of_name(name: &str) -> Self {
        Self::from_str(name, false).unwrap_or_default()
    }
}

/// Which regions to look at.
#[derive(Args, Clone, Debug)]
pub(crate) struct FilterArgs {
    /// Only these addresses
    #[arg(long, value_name = "RANGE")]
    pub(crate) range: Option<RangeExpr>,

    /// Only regions with at least these protections: letters of rwx, and u for user mode
    #[arg(long, value_name = "PERM", value_parser = parse_perm)]
    pub(crate) perm: Option<Prot>,
}

#[derive(Args, Debug)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Args, Debug)]
pub(crate) struct MapsArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    /// A row per physically contiguous extent, with its frame and page size
    #[arg(long)]
    pub(crate) extents: bool,

    /// A row for each mapping that the process has arranged, with or without pages, as in
    /// /proc/PID/maps
    #[arg(long, conflicts_with_all = ["extents", "phys", "cr3", "kernel"])]
    pub(crate) vmas: bool,
}

#[derive(Args, Debug)]
pub(crate) struct VtopArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,

    /// Virtual addresses
    #[arg(value_name = "ADDR", required = true)]
    pub(crate) addrs: Vec<AddrExpr>,
}

#[derive(Args, Debug)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,

    /// What to read: A..B (B excluded) or A+LEN
    #[arg(value_name = "RANGE")]
    pub(crate) range: RangeExpr,

    /// How to show it
    #[arg(long = "as", value_name = "VIEW", default_value = "hex")]
    pub(crate) view: ReadAs,

    /// With --as raw: write this byte for every byte that cannot be read
    #[arg(long, value_name = "BYTE", value_parser = parse_byte)]
    pub(crate) fill: Option<u8>,

    /// With --as asm: how wide the code is [default: as the process's program, else by the paging mode]
    #[arg(long, value_name = "BITS", value_parser = ["16", "32", "64"])]
    pub(crate) bits: Option<String>,
}

/// How `read` shows memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum ReadAs {
    /// 16 bytes a row, with their ASCII
    Hex,
    /// The bytes themselves
    Raw,
    /// Little-endian 64-bit words
    U64,
    /// x86 instructions
    Asm,
}

/// For what looks at many spaces at once.
#[derive(Args, Clone, Debug)]
pub(crate) struct EverywhereArgs {
    /// Every process's own half, each physical frame looked at once; with --kernel, the kernel too
    #[arg(
        long,
        help_heading = SPACE,
        conflicts_with_all = ["pid", "process", "cr3", "phys", "paging"]
    )]
    pub(crate) all_processes: bool,
}

/// For what looks at many spaces one by one.
#[derive(Args, Clone, Debug)]
pub(crate) struct EachArgs {
    /// Every process's own half, names looked up in each; with --kernel, the kernel too
    #[arg(
        long,
        help_heading = SPACE,
        conflicts_with_all = ["pid", "process", "cr3", "phys", "paging"]
    )]
    pub(crate) all_processes: bool,
}

/// Where to search.
#[derive(Args, Clone, Debug)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    #[command(flatten)]
    pub(crate) everywhere: EverywhereArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

/// Which signatures.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").args(["signatures", "files", "rules"]).required(true).multiple(true))]
pub(crate) struct SignatureArgs {
    /// A signature, such as '48 8B ?? ?? E8'; may be given several times
    #[arg(
        short,
        long = "signature",
        value_name = "SIG",
        required_unless_present_any = ["files", "rules"]
    )]
    pub(crate) signatures: Vec<String>,

    /// A file of signatures, one `name = "signature"` a line (TOML)
    #[arg(short = 'f', long = "file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,

    /// Instead of signatures, YARA rules: a file, or all .yar and .yara files in a folder
    #[arg(
        long = "yara",
        value_name = "FILE|DIR",
        value_hint = ValueHint::AnyPath,
        conflicts_with_all = ["signatures", "files"]
    )]
    pub(crate) rules: Vec<PathBuf>,

    /// With --yara: an external variable, NAME=VALUE, of the type that yara gives it: an integer, a
    /// float, true or false, else text; may be given several times
    #[arg(
        short = 'd',
        long = "define",
        value_name = "N=V",
        allow_hyphen_values = true
    )]
    pub(crate) defined: Vec<String>,
}

/// How signatures are found.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct EngineArgs {
    /// Find signatures with this engine: auto, avx512, avx2, portable, anchored, dense or naive.
    /// The results are the same; -v says which one auto takes
    #[arg(
        long,
        value_name = "ENGINE",
        env = "VMIE_ENGINE",
        hide_env_values = true,
        default_value = "auto"
    )]
    pub(crate) engine: EngineKind,
}

#[derive(Args, Debug)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    pub(crate) search: SearchArgs,
    #[command(flatten)]
    pub(crate) what: SignatureArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    /// Show so many bytes before each match and from it on
    #[arg(long, value_name = "N", value_parser = parse_context)]
    pub(crate) context: Option<usize>,
}

/// What to do with signatures.
#[derive(Subcommand, Debug)]
pub(crate) enum SigArgs {
    /// Show the canonical form, the mask, the anchors, and whether a signature is a good one
    Explain(ExplainArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// Signatures, such as '48 8B ?? ?? E8'
    #[arg(value_name = "SIG", required_unless_present = "files")]
    pub(crate) texts: Vec<String>,

    /// A file of signatures, one `name = "signature"` a line (TOML)
    #[arg(short = 'f', long = "file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// What to look for: at least one value, text or sequence of bytes.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args([
    "u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "str", "utf16", "bytes",
    "refine",
]))]
pub(crate) struct FindArgs {
    #[command(flatten)]
    pub(crate) search: SearchArgs,

    /// Numbers of this type: V, A..B (B excluded), A..=B
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) u8: Vec<String>,
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) i8: Vec<String>,
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) u16: Vec<String>,
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) i16: Vec<String>,
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) u32: Vec<String>,
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) i32: Vec<String>,
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) u64: Vec<String>,
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) i64: Vec<String>,

    /// Numbers of this type, equal as typed; V~T for those at most T off, A..B, A..=B
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) f32: Vec<String>,
    #[arg(long, help_heading = WHAT, value_name = "V", allow_hyphen_values = true)]
    pub(crate) f64: Vec<String>,

    /// Text, in UTF-8 (which for English text is ASCII)
    #[arg(long, help_heading = WHAT, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) str: Vec<String>,

    /// Text, in UTF-16 with the low byte first, as Windows has it
    #[arg(long, help_heading = WHAT, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) utf16: Vec<String>,

    /// Bytes in hexadecimal, such as '4d 5a 90'
    #[arg(long, help_heading = WHAT, value_name = "HEX")]
    pub(crate) bytes: Vec<String>,

    /// Upper and lower case of texts are the same
    #[arg(short, long)]
    pub(crate) ignore_case: bool,

    /// Only at addresses that are multiples of N, a power of two
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_align)]
    pub(crate) align: u64,

    #[command(flatten)]
    pub(crate) again: RefineArgs,
}

#[derive(Args, Debug)]
pub(crate) struct StringsArgs {
    #[command(flatten)]
    pub(crate) search: SearchArgs,

    /// At least so many characters
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) min: u16,

    /// In these encodings
    #[arg(
        long,
        value_name = "ENCODING",
        value_delimiter = ',',
        default_value = "ascii,utf16"
    )]
    pub(crate) encoding: Vec<StringEncoding>,
}

/// Encodings of strings, as typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum StringEncoding {
    /// A byte each: letters, digits, signs and blanks of ASCII
    Ascii,
    /// One to four bytes each: every character that is not a control; contains ASCII
    Utf8,
    /// Two bytes each, the low byte first: ASCII, and Latin, Greek and Cyrillic letters
    Utf16,
}

#[derive(Args, Debug)]
pub(crate) struct XrefArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,
    #[command(flatten)]
    pub(crate) everywhere: EachArgs,

    /// References to an address, or to any of a range; may be given several times
    #[arg(long, value_name = "ADDR|RANGE", required_unless_present_any = ["str", "all"])]
    pub(crate) to: Vec<TargetExpr>,

    /// References to every place where this text stands (UTF-8); may be given several times
    #[arg(long, value_name = "TEXT", conflicts_with = "to")]
    pub(crate) str: Vec<String>,

    /// All references to where something is mapped, by target
    #[arg(long, conflicts_with_all = ["to", "str", "all_processes"])]
    pub(crate) all: bool,

    /// Only references from these addresses
    #[arg(long, value_name = "RANGE")]
    pub(crate) range: Option<RangeExpr>,

    /// Only code in regions with at least these protections: letters of rwx, and u for user mode
    #[arg(long, value_name = "PERM", default_value = "x", value_parser = parse_perm)]
    pub(crate) perm: Prot,

    /// How wide code is
    #[arg(long, value_name = "BITS", default_value = "auto")]
    pub(crate) bits: BitsArg,

    /// Only instructions at which a decode of the bytes before arrives: fewer false ones
    #[arg(long)]
    pub(crate) linear: bool,
}

/// How wide code or pointers are, as typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum BitsArg {
    /// As wide as the process's program; without a process, by the paging mode: 64 in long mode, else 32
    Auto,
    /// 32 bits
    #[value(name = "32")]
    B32,
    /// 64 bits
    #[value(name = "64")]
    B64,
}

impl BitsArg {
    /// The width of the code of a program that is this wide.
    pub(crate) fn code(self, program: ProgramWidth) -> CodeBits {
        match self {
            Self::B32 => CodeBits::B32,
            Self::B64 => CodeBits::B64,
            Self::Auto => program.code.unwrap_or(CodeBits::B64),
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,

    /// Each process below its parent
    #[arg(long)]
    pub(crate) tree: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ModulesArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
}

/// `symbols SOURCE [PATTERN]`, or `symbols export SOURCE`.
#[derive(Debug)]
pub(crate) enum SymbolsArgs {
    List(SymbolListArgs),
    Export(ExportArgs),
}

/// The verb of [`SymbolsArgs::Export`].
const EXPORT: &str = "export";

// Written by hand: what clap derives for arguments or a verb behind them cannot tell which of both was
// typed when the arguments contain further groups.
impl Args for SymbolsArgs {
    fn augment_args(command: Command) -> Command {
        // Afterwards: groups of arguments bring texts about themselves.
        let export = ExportArgs::augment_args(Command::new(EXPORT))
            .about("Write the kernel's symbols and types to a file for other tools")
            .long_about(None);
        SymbolListArgs::augment_args(command)
            .subcommand(export)
            .args_conflicts_with_subcommands(true)
            .disable_help_subcommand(true)
            .subcommand_negates_reqs(true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SymbolsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand_matches(EXPORT) {
            Some(matches) => ExportArgs::from_arg_matches(matches).map(Self::Export),
            None => SymbolListArgs::from_arg_matches(matches).map(Self::List),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,

    /// As an ISF file: Volatility 3's symbol JSON
    #[arg(long, required = true)]
    pub(crate) isf: bool,

    /// Write to this file instead of standard output; compressed with xz if its name ends in .xz
    #[arg(short = 'O', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct SymbolListArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,

    /// Only those of this module; `kernel` is the kernel itself
    #[arg(long, value_name = "NAME")]
    pub(crate) module: Option<String>,

    /// Only these names: `*` stands for any characters, `?` for one
    #[arg(value_name = "PATTERN")]
    pub(crate) pattern: Option<Glob>,
}

#[derive(Args, Debug)]
pub(crate) struct TypeArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,

    /// A type, such as task_struct, or the type of a member, such as task_struct.se
    #[arg(value_name = "TYPE")]
    pub(crate) name: String,

    /// Open up the types of members so many levels down
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) deep: usize,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,

    /// A type, such as task_struct, or a member of one, such as task_struct.comm
    #[arg(value_name = "TYPE")]
    pub(crate) name: String,

    /// Where the instance is; of a member, where the record is that it belongs to
    #[arg(value_name = "ADDR")]
    pub(crate) addr: AddrExpr,

    /// Follow pointers so many levels
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=16))]
    pub(crate) follow: u32,

    /// Show so many elements of each array
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) elements: u64,
}

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Leave the images of the synthetic guest in this directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) keep: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Write vmie.1 and a page per verb into this directory
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}

fn parse_perm(text: &str) -> Result<Prot, String> {
    Prot::parse(text)
        .filter(|&prot| prot != Prot::NONE)
        .ok_or_else(|| format!("`{text}` is not a set of r, w, x and u, such as rx"))
}

/// Protections as `--perm` takes them.
pub(crate) fn perm_letters(perm: Prot) -> String {
    let user = if perm.user() { "u" } else { "" };
    format!("{perm}{user}").replace('-', "")
}

fn parse_context(text: &str) -> Result<usize, String> {
    const MOST: u64 = 4096;
    match parse_u64(text)? {
        n @ 1..=MOST => Ok(n as usize),
        _ => Err(format!(
            "`{text}` is not a number of bytes from 1 to {MOST}"
        )),
    }
}

fn parse_align(text: &str) -> Result<u64, String> {
    let align = parse_u64(text)?;
    if align.is_power_of_two() {
        Ok(align)
    } else {
        Err(format!("`{text}` is not a power of two"))
    }
}

fn parse_byte(text: &str) -> Result<u8, String> {
    u8::try_from(parse_u64(text)?).map_err(|_| format!("`{text}` does not fit in a byte"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
