//! `vmie sig explain`: what a signature means, and whether it is a good one.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use vmie::signature::Signature;
use vmie_rows::{Anchor, Bytes, Field, SigName, SigRow};

use crate::args::EngineArgs;
use crate::exit::{Done, Failure, Result};
use crate::options::Options;
use crate::output::{Row, SpaceKind, View};
use crate::signatures;

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

pub(super) fn run(args: &SigArgs, options: &Options) -> Result<Done> {
    match args {
        SigArgs::Explain(args) => explain(args, options),
    }
}

fn explain(args: &ExplainArgs, options: &Options) -> Result<Done> {
    let all = signatures::typed(&args.texts, &args.files, &options.reporter)?;
    if all.is_empty() {
        return Err(Failure::new("the files hold no signature").into());
    }
    let together = all.iter().map(|(signature, _)| signature.clone());
    signatures::compile(together.collect(), args.engine, &options.reporter)?;
    let mut sink = options.sink::<SigRow<'_>>(SpaceKind::Virtual);
    for (signature, name) in &all {
        if sink.row(&row(signature, name))?.is_break() {
            break;
        }
    }
    sink.finish(None)?;
    Ok(Done::FOUND)
}

fn row<'a>(signature: &Signature, sig: &'a SigName) -> SigRow<'a> {
    let anchor = |anchor: &vmie::signature::Anchor| Anchor {
        bytes: Bytes::of(&anchor.bytes),
        min_offset: anchor.min_offset,
        max_offset: anchor.max_offset,
    };
    let doubts = signature.warnings();
    SigRow {
        sig,
        canonical: signature.to_string(),
        min_len: signature.min_len(),
        max_len: signature.max_len(),
        mask: signature.mask().map(|mask| Bytes::of(&mask)),
        anchors: signature.anchors().iter().map(anchor).collect(),
        expected_per_gib: rounded(signature.expected_per_gib()),
        doubts: doubts.iter().map(ToString::to_string).collect(),
    }
}

/// Three digits that count: an estimate has no more.
fn rounded(estimate: f64) -> f64 {
    format!("{estimate:.2e}").parse().unwrap_or(estimate)
}

impl Row for SigRow<'_> {
    fn view(&self, _columns: &[&'static Field]) -> View {
        let mut text = format!("signature {}\n", self.sig);
        let mut line = |what: &str, value: String| {
            let _ = writeln!(text, "  {what:<9}  {value}");
        };
        line("canonical", self.canonical.clone());
        line(
            "length",
            match (self.min_len, self.max_len) {
                (min, max) if min == max => format!("{min} bytes"),
                (min, max) => format!("{min} to {max} bytes"),
            },
        );
        if let Some(mask) = &self.mask {
            line("mask", mask.to_string());
        }
        for anchor in &self.anchors {
            let at = match (anchor.min_offset, anchor.max_offset) {
                (min, max) if min == max => format!("at {min}"),
                (min, max) => format!("at {min} to {max}"),
            };
            line("anchor", format!("{} {at}", anchor.bytes));
        }
        let estimate = self.expected_per_gib;
        line(
            "expected",
            match estimate {
                few if few < 0.01 => "less than 0.01 in a GiB by chance".to_owned(),
                some if some < 100.0 => format!("{some} in a GiB by chance"),
                many => format!("{many:.0} in a GiB by chance"),
            },
        );
        for doubt in &self.doubts {
            line("warning", doubt.clone());
        }
        View::Text(crate::escape::message(&text).to_string())
    }
}
