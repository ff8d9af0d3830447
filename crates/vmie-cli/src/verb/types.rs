//! `vmie type`: how a type of the guest's kernel lies in memory.
//!
//! Tables print it as C with offsets and sizes; the other formats have a row for each member, hole and
//! named value.

use clap::Args;
use vmie::os::{LayoutKind, LayoutRow, TypeError};
use vmie_rows::MemberRow;

use crate::args::SourceArgs;
use crate::escape;
use crate::exit::{Done, Failure, Result};
use crate::guest::{failed, tell_findings};
use crate::options::Options;
use crate::output::{Format, Row, SpaceKind};
use crate::source::Source;

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

pub(super) fn run(args: &TypeArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let guest = source.os()?.guest();
    let types = guest.types().map_err(|error| failed(&error))?;
    let damaged = tell_findings(&guest.findings(), &options.reporter);
    let field = types
        .expression(&args.name)
        .map_err(|error| unknown(&error))?;
    let layout = types.layout(field.ty, args.deep);
    let layout = layout.map_err(|error| unknown(&error))?;
    if layout.cut {
        options
            .reporter
            .warn("the type has more members than are shown");
    }
    let done = Done {
        found: true,
        complete: !layout.cut && !damaged,
    };
    let mut sink = options.sink::<MemberRow<'_>>(SpaceKind::Virtual);
    if options.output.format == Format::Table {
        sink.text(&escape::message(&layout.to_string()))?;
        sink.finish(None)?;
        return Ok(done);
    }
    for member in layout.rows.iter().filter_map(row) {
        if sink.row(&member)?.is_break() {
            break;
        }
    }
    sink.finish(None)?;
    Ok(done)
}

/// No such type, or no such member.
pub(super) fn unknown(error: &TypeError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error {
        TypeError::NoType(_) => failure
            .hint("the name as in C, with or without struct, union or enum, such as task_struct"),
        TypeError::NoMember { record, .. } => {
            failure.hint(format!("`vmie type ... '{record}'`, to see its members"))
        }
        _ => failure,
    }
}

fn row(row: &LayoutRow) -> Option<MemberRow<'_>> {
    let (kind, name, ty, value) = match &row.kind {
        LayoutKind::Member { name, ty, .. } => ("member", Some(name), Some(ty), None),
        LayoutKind::Open { title } => ("open", None, Some(title), None),
        LayoutKind::Close { name } => ("close", Some(name), None, None),
        LayoutKind::Hole => ("hole", None, None, None),
        LayoutKind::Value { name, value } => ("value", Some(name), None, Some(*value)),
        LayoutKind::Plain { declaration } => ("plain", None, Some(declaration), None),
        _ => return None,
    };
    let bit_field = match &row.kind {
        LayoutKind::Member { bit_field, .. } => *bit_field,
        _ => !row.bits.is_multiple_of(8),
    };
    Some(MemberRow {
        offset: row.bit_offset / 8,
        bit: bit_field.then_some(row.bit_offset % 8),
        len: (!bit_field).then_some(row.bits / 8),
        bits: bit_field.then_some(row.bits),
        kind,
        depth: row.depth,
        name: name.map(String::as_str).filter(|name| !name.is_empty()),
        r#type: ty.map(String::as_str),
        value,
    })
}

impl Row for MemberRow<'_> {}
