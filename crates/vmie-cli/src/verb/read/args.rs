//! What `read` takes.

use clap::{Args, ValueEnum};

use crate::addr::{RangeExpr, parse_u64};
use crate::args::{SourceArgs, SpaceArgs};
use crate::exit::Failure;

#[derive(Args, Debug)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) space: SpaceArgs,

    /// What to read: A..B (B excluded), A..+LEN, a name, or an address alone, for 256 bytes
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

fn parse_byte(text: &str) -> Result<u8, Failure> {
    u8::try_from(parse_u64(text)?)
        .map_err(|_| Failure::new(format!("`{text}` does not fit in a byte")))
}
