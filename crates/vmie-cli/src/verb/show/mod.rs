//! `vmie show`: an instance of a type of the guest's kernel, with its values.
//!
//! Tables print it as C; the other formats have a row for each value, with the path of members that
//! leads to it.

mod page;

use clap::Args;
use serde_json::Value as Json;
use vmie::Gva;
use vmie::os::{ShowOptions, ShowRow, Value, show_text};
use vmie_rows::{Hex, ValueRow};

use super::types::unknown;
use crate::addr::AddrExpr;
use crate::args::{SourceArgs, SpaceArgs};
use crate::escape;
use crate::exit::{Done, Failure, Result};
use crate::guest::{failed, tell_findings};
use crate::names::Names;
use crate::options::Options;
use crate::output::{Format, Row, SpaceKind};
use crate::source::Source;
use crate::space::{Space, Target};

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

    /// Show nested records of an instance that is longer than a page so deep
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64), conflicts_with = "all")]
    pub(crate) depth: u32,

    /// Show all of an instance, however long, zeros too
    #[arg(long)]
    pub(crate) all: bool,

    /// Follow pointers so many levels
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=16))]
    pub(crate) follow: u32,

    /// Show so many elements of each array
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) elements: u64,
}

pub(super) fn run(args: &ShowArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.source, &options.reporter)?;
    let guest = source.os()?.guest();
    let types = guest.types().map_err(|error| failed(&error))?;
    let damaged = tell_findings(&guest.findings(), &options.reporter);
    let field = types
        .expression(&args.name)
        .map_err(|error| unknown(&error))?;
    let space = Space::select(&source, &args.space.or_kernel(), &options.reporter)?;
    let Target::Virtual(memory) = &space.of.target else {
        return Err(Failure::new("types hold virtual addresses")
            .hint("leave out --phys")
            .into());
    };
    let va = Gva(args.addr.resolve(&space.names)?);
    let how = ShowOptions {
        elements: args.elements,
        pointers: args.follow,
        names: space.names.resolver(),
        ..ShowOptions::default()
    };
    let rows = types.show_field(memory, field, va, &how);
    let mut rows = rows.map_err(|error| unknown(&error))?;
    for row in &mut rows {
        name_region(&mut row.value, &space.names);
    }

    let missing = rows.iter().any(|row| is_missing(&row.value));
    if missing && !rows.iter().any(|row| is_there(&row.value)) {
        let faults = rows.iter().filter_map(|row| match &row.value {
            Value::Unreadable(fault) => Some(fault.cause.to_string()),
            _ => None,
        });
        let failure = Failure::new(format!("nothing of {} at {va} can be read", args.name))
            .hint("another address, or the space that it is from: --pid N, --process NAME");
        return Err(faults.take(1).fold(failure, Failure::found).into());
    }
    let mut sink = options.sink::<ValueRow>(SpaceKind::Virtual);
    if options.output.format == Format::Table {
        let (text, cut) = match args.all {
            true => (show_text(&rows), false),
            false => page::text(&rows, &args.name, args.depth as usize),
        };
        sink.text(&escape::message(&text))?;
        sink.finish(None)?;
        if cut {
            options.reporter.note(
                "zeros are named only, and nested records summed up: --depth N or --all for more",
            );
        }
    } else {
        let mut path = Vec::new();
        for row in &rows {
            path.truncate(row.depth);
            path.push(row.name.as_str());
            if let Some(row) = self::row(row, &path)
                && sink.row(&row)?.is_break()
            {
                break;
            }
        }
        sink.finish(None)?;
    }
    Ok(Done {
        found: true,
        complete: !missing && !damaged,
    })
}

/// Names what pointers lead to that no symbol or image names: the region.
fn name_region(value: &mut Value, names: &Names<'_>) {
    match value {
        Value::Pointer(va, name, target) => {
            if name.is_none() && va.0 != 0 {
                *name = names.pointee(va.0);
            }
            if let Some(target) = target {
                name_region(target, names);
            }
        }
        Value::List(values, _) => values.iter_mut().for_each(|one| name_region(one, names)),
        _ => {}
    }
}

/// Whether some of a value cannot be read.
fn is_missing(value: &Value) -> bool {
    match value {
        Value::Unreadable(_) => true,
        Value::List(values, _) => values.iter().any(is_missing),
        Value::Pointer(.., Some(target)) => is_missing(target),
        _ => false,
    }
}

/// Whether some of a value was read.
fn is_there(value: &Value) -> bool {
    match value {
        Value::Begin | Value::End | Value::More(_) | Value::None | Value::Unreadable(_) => false,
        Value::List(values, _) => values.iter().any(is_there),
        _ => true,
    }
}

fn row(row: &ShowRow, path: &[&str]) -> Option<ValueRow> {
    let (name, gap) = match &row.value {
        Value::Begin | Value::End | Value::More(_) => return None,
        Value::Pointer(_, name, _) => (name.clone(), None),
        Value::Unreadable(fault) => (None, Some(fault.cause.label())),
        _ => (None, None),
    };
    Some(ValueRow {
        va: Hex(row.va.0),
        path: joined(path),
        r#type: row.ty.clone(),
        value: json(&row.value),
        name,
        gap,
    })
}

/// Member names as C joins them.
fn joined(path: &[&str]) -> String {
    let mut text = String::new();
    for name in path.iter().filter(|name| !name.is_empty()) {
        if !text.is_empty() && !name.starts_with('[') {
            text.push('.');
        }
        text.push_str(name);
    }
    text
}

fn json(value: &Value) -> Json {
    /// Beyond this, numbers of JavaScript lose digits.
    const EXACT: i128 = 1 << 53;
    match value {
        &Value::Integer(number) if (-EXACT..=EXACT).contains(&number) => {
            i64::try_from(number).map_or(Json::Null, Json::from)
        }
        Value::Integer(number) => number.to_string().into(),
        &Value::Bool(value) => value.into(),
        &Value::Float(number) => number.into(),
        Value::Enum(_, Some(name)) => name.as_str().into(),
        &Value::Enum(number, None) => json(&Value::Integer(number)),
        Value::Text(bytes, _) => String::from_utf8_lossy(bytes).into(),
        Value::List(values, _) => values.iter().map(json).collect(),
        Value::Pointer(va, ..) => format!("{:#x}", va.0).into(),
        _ => Json::Null,
    }
}

impl Row for ValueRow {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_as_in_c() {
        assert_eq!(joined(&["", "tasks", "next"]), "tasks.next");
        assert_eq!(joined(&["", "list", "[2]", "prev"]), "list[2].prev");
        assert_eq!(joined(&[""]), "");
    }

    #[test]
    fn large_numbers_keep_their_digits() {
        assert_eq!(json(&Value::Integer(-5)), Json::from(-5));
        assert_eq!(
            json(&Value::Integer(i128::from(u64::MAX))),
            Json::from("18446744073709551615")
        );
    }
}
