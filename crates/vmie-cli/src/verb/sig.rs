//! `vmie sig explain`: what a signature means, and whether it is a good one.

use std::fmt::Write as _;

use serde::Serialize;
use vmie::signature::{Anchor, Signature};

use crate::args::{ExplainArgs, SigArgs};
use crate::exit::{Done, Failure, Result};
use crate::options::Options;
use crate::output::{Column, Row, SpaceKind, View, digits};
use crate::signatures::{self, SigName};

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
    let mut sink = options.sink("sig", SpaceKind::Virtual);
    for (signature, name) in &all {
        if sink.row(&SigRow::new(signature, name))?.is_break() {
            break;
        }
    }
    sink.finish::<SigRow<'_>>(None)?;
    Ok(Done::FOUND)
}

#[derive(Serialize)]
struct SigRow<'a> {
    sig: &'a SigName,
    /// The form in which it is always written.
    canonical: String,
    min_len: usize,
    max_len: usize,
    /// Two digits a byte, the known bits set; null where matches have several forms.
    mask: Option<String>,
    /// Of these bytes every match contains one.
    anchors: Vec<AnchorRow>,
    /// Matches by chance in a GiB of memory in use.
    expected_per_gib: f64,
    doubts: Vec<String>,
}

#[derive(Serialize)]
struct AnchorRow {
    bytes: String,
    min_offset: usize,
    max_offset: usize,
}

impl<'a> SigRow<'a> {
    fn new(signature: &Signature, sig: &'a SigName) -> Self {
        let anchor = |anchor: &Anchor| AnchorRow {
            bytes: digits(&anchor.bytes),
            min_offset: anchor.min_offset,
            max_offset: anchor.max_offset,
        };
        let doubts = signature.doubts();
        Self {
            sig,
            canonical: signature.to_string(),
            min_len: signature.min_len(),
            max_len: signature.max_len(),
            mask: signature.mask().map(|mask| digits(&mask)),
            anchors: signature.anchors().iter().map(anchor).collect(),
            expected_per_gib: rounded(signature.expected_per_gib()),
            doubts: doubts.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Three digits that count: an estimate has no more.
fn rounded(estimate: f64) -> f64 {
    format!("{estimate:.2e}").parse().unwrap_or(estimate)
}

impl Row for SigRow<'_> {
    const COLUMNS: &'static [Column] = &[
        Column::left("sig"),
        Column::left("canonical"),
        Column::right("min_len"),
        Column::right("max_len"),
        Column::left("mask"),
        Column::left("anchors"),
        Column::right("expected_per_gib"),
        Column::left("doubts"),
    ];

    fn view(&self) -> View {
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
            line("mask", mask.clone());
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
            line("doubt", doubt.clone());
        }
        View::Text(crate::escape::message(&text).to_string())
    }
}
