//! Where memory comes from, and what belongs to a memory file that cannot be read by itself.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use vmie::Layout;

use crate::addr::parse_u64;

/// Heading in the help.
pub(crate) const SOURCE: &str = "Source";

/// The word that stands for zeros under all files. A file of this name is `./zero`.
const ZERO: &str = "zero";

/// Where the guest's memory comes from.
#[derive(Args, Clone, Debug)]
pub(crate) struct SourceArgs {
    /// Memory image (raw, LiME, AVML or ELF core) or snapshot, recognised by its content; or qemu:SOCKET,
    /// a running guest by the QMP socket of its QEMU
    #[arg(value_name = "SOURCE", value_hint = ValueHint::AnyPath)]
    pub(crate) source: PathBuf,

    /// How a raw image lays out physical memory: pc, q35, microvm (QEMU's rules by RAM size),
    /// or GPA+LEN@OFFSET,...
    #[arg(long, help_heading = SOURCE, value_name = "LAYOUT")]
    pub(crate) layout: Option<Layout>,

    #[command(flatten)]
    pub(crate) layers: LayersArgs,

    /// Types for a kernel that has none, or damaged ones: an ISF file (Volatility 3's symbol JSON), plain or
    /// xz, another image of the same kernel, what --os-cache kept, or a folder with such files
    #[arg(long, help_heading = SOURCE, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) types: Option<PathBuf>,

    /// Keep in SOURCE.vmie-os where the operating system was found, which spares the next search, and beside it the
    /// kernel's types (BUILD.vmie-types), for images of the same kernel in which they are damaged
    #[arg(long, help_heading = SOURCE)]
    pub(crate) os_cache: bool,

    /// The kernel that is meant where memory has several, by its top page table, as `info` lists them
    #[arg(long, help_heading = SOURCE, value_name = "GPA", value_parser = parse_u64)]
    pub(crate) kernel_at: Option<u64>,

    /// Show the symbols of C++ and Rust as the linker has them, not as their sources call them
    #[arg(long)]
    pub(crate) no_demangle: bool,

    /// Stop a running guest while it is looked at, so that all of it is of one instant
    #[arg(long, help_heading = SOURCE)]
    pub(crate) pause: bool,

    /// Read what is intact of a damaged snapshot
    #[arg(long, help_heading = SOURCE)]
    pub(crate) salvage: bool,
}

/// For verbs that ask several sources the same.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct MoreArgs {
    /// Further sources, which are asked the same; rows then say which one they are of
    #[arg(value_name = "SOURCE", value_hint = ValueHint::AnyPath)]
    pub(crate) more: Vec<PathBuf>,
}

/// Arguments of a verb that asks several sources the same.
pub(crate) trait Several: Clone + Sync {
    /// The source, which is the first.
    fn source(&self) -> &SourceArgs;

    /// The same, to be another one.
    fn source_mut(&mut self) -> &mut SourceArgs;

    /// Those behind it.
    fn more(&self) -> &[PathBuf];
}

/// Says where the sources stand in the arguments of a verb: `several!(MapsArgs, source)`, or whose arguments they have:
/// `several!(LsofArgs as answer)`.
macro_rules! several {
    ($args:ty as $answer:ident) => {
        impl $crate::args::Several for $args {
            fn source(&self) -> &$crate::args::SourceArgs {
                self.$answer.source()
            }

            fn source_mut(&mut self) -> &mut $crate::args::SourceArgs {
                self.$answer.source_mut()
            }

            fn more(&self) -> &[std::path::PathBuf] {
                self.$answer.more()
            }
        }
    };
    ($args:ty, $($source:ident).+) => {
        impl $crate::args::Several for $args {
            fn source(&self) -> &$crate::args::SourceArgs {
                &self.$($source).+
            }

            fn source_mut(&mut self) -> &mut $crate::args::SourceArgs {
                &mut self.$($source).+
            }

            fn more(&self) -> &[std::path::PathBuf] {
                &self.more.more
            }
        }
    };
}
pub(crate) use several;

/// What a memory file needs beside it.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct LayersArgs {
    /// The state file of a Firecracker snapshot whose memory file is the source
    #[arg(long, help_heading = SOURCE, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) state: Option<PathBuf>,

    /// What a source that holds only changes builds on (a diff snapshot): read where the source has holes. More than
    /// once for a series, the oldest last; `zero` for a full snapshot that was copied without its zeros
    #[arg(long, help_heading = SOURCE, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) base: Vec<PathBuf>,
}

impl LayersArgs {
    /// The first of these options that was typed.
    pub(crate) fn typed(&self) -> Option<&'static str> {
        let state = self.state.is_some().then_some("--state");
        state.or((!self.base.is_empty()).then_some("--base"))
    }

    /// The files under the source, and whether there are zeros under the last of them. An error where `zero` is not
    /// the last one.
    pub(crate) fn bases(&self) -> Result<(Vec<PathBuf>, bool), &'static str> {
        let mut bases = self.base.clone();
        let is_zero = |path: &PathBuf| path.as_os_str() == OsStr::new(ZERO);
        let zeros = bases.pop_if(|path| is_zero(path)).is_some();
        if bases.iter().any(is_zero) {
            return Err("--base zero is what lies under everything: it comes last");
        }
        Ok((bases, zeros))
    }
}
