//! What `scan` takes.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueHint};

use crate::addr::parse_u64;
use crate::args::{EngineArgs, MoreArgs, SearchArgs, several};
use crate::exit::Failure;

#[derive(Args, Clone, Debug)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    pub(crate) search: SearchArgs,
    #[command(flatten)]
    pub(crate) more: MoreArgs,
    #[command(flatten)]
    pub(crate) what: SignatureArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    /// Show so many bytes before each match and from it on
    #[arg(long, value_name = "N", value_parser = parse_context)]
    pub(crate) context: Option<usize>,
}

several!(ScanArgs, search.source);

/// Which signatures.
#[derive(Args, Clone, Debug)]
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

fn parse_context(text: &str) -> Result<usize, Failure> {
    const MOST: u64 = 4096;
    match parse_u64(text)? {
        n @ 1..=MOST => Ok(n as usize),
        _ => Err(Failure::new(format!(
            "`{text}` is not a number of bytes from 1 to {MOST}"
        ))),
    }
}
