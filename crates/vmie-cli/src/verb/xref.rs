//! `vmie xref`: the instructions that refer to an address.

use serde::Serialize;
use vmie::xref::{CodeBits, Xref, XrefIndex, Xrefs, scan};
use vmie::{AddrRange, Gva, Mode};

use crate::args::{BitsArg, EverywhereArgs, FilterArgs, SearchArgs, XrefArgs};
use crate::asm::{Bits, Disassembler, MAX_LEN};
use crate::exit::{Done, Failure, Result};
use crate::interrupt;
use crate::options::Options;
use crate::output::{Cell, Column, Hex, Row, View};
use crate::place::Place;
use crate::seek::Seek;
use crate::source::Source;
use crate::space::Space;
use crate::texts::Texts;

pub(super) fn run(args: &XrefArgs, options: &Options) -> Result<Done> {
    interrupt::listen();
    let source = Source::open(&args.source, &options.reporter)?;
    let space = Space::select(&source, &args.space, &options.reporter)?;
    let Some(memory) = space.target.by_virtual() else {
        return Err(
            Failure::new("physical memory has no instructions that refer to addresses")
                .found("--phys; what code refers to are virtual addresses")
                .hint("--pid, --process, --kernel or --cr3")
                .into(),
        );
    };
    let lookup = |name: &str| space.lookup(name);
    let targets = args.to.iter().map(|to| to.resolve(&lookup));
    let targets: Vec<AddrRange<Gva>> = targets.collect::<std::result::Result<_, _>>()?;
    let texts = match &args.str[..] {
        [] => None,
        texts => Some(Texts::find("xref", texts, &source, &space, options)?),
    };
    if let Some(texts) = texts.as_ref().filter(|texts| texts.places.is_empty()) {
        return texts.nowhere::<XrefRow>("xref", &space, options);
    }
    let bits = bits(args.bits, space.mode());
    let search = SearchArgs {
        source: args.source.clone(),
        space: args.space.clone(),
        everywhere: EverywhereArgs {
            all_processes: false,
        },
        filter: FilterArgs {
            range: args.range.clone(),
            perm: Some(args.perm),
        },
    };
    let seek = Seek {
        verb: "xref",
        args: &search,
        options,
        asked: false,
    };
    let xrefs = Xrefs::to_any(targets, bits);
    let width = match bits {
        CodeBits::B32 => Bits::B32,
        CodeBits::B64 => Bits::B64,
    };
    let mut disassembler = Disassembler::new(width);
    let names = &space.names;
    let done = seek.one(
        &source,
        &space,
        memory,
        None,
        |place, xref: Xref, around| {
            if args.linear && !xref.linear {
                return None;
            }
            let bytes = around.read(xref.va.0, usize::from(xref.len).min(MAX_LEN));
            Some(XrefRow {
                place,
                kind: xref.kind.name(),
                target: Hex(xref.target.0),
                target_name: names.name(xref.target.0),
                len: xref.len,
                text: disassembler.decode(xref.va.0, &bytes).1,
                linear: xref.linear,
            })
        },
        |options, progress, emit| {
            let mut emit = |xref: Xref| emit(xref.va, xref);
            if !args.all && texts.is_none() {
                return scan(memory, &xrefs, options, progress, emit);
            }
            // What texts and all that is mapped have in common: the index knows all references to it.
            let (index, mut outcome) = XrefIndex::build(memory, bits, options, progress);
            let flow = match &texts {
                None => index.each(memory, AddrRange::all(), &mut emit),
                Some(texts) => {
                    let places = texts.places.iter();
                    let ranges = places.filter_map(|&place| AddrRange::new(Gva(place), 1));
                    let mut found: Vec<Xref> =
                        ranges.flat_map(|range| index.to(memory, range)).collect();
                    found.sort_unstable();
                    found.into_iter().try_for_each(&mut emit)
                }
            };
            outcome.stopped |= flow.is_break();
            outcome
        },
    )?;
    let complete = done.complete && texts.is_none_or(|texts| texts.complete);
    Ok(Done { complete, ..done })
}

fn bits(typed: BitsArg, mode: Option<Mode>) -> CodeBits {
    if typed.is_32(mode) {
        CodeBits::B32
    } else {
        CodeBits::B64
    }
}

#[derive(Serialize)]
struct XrefRow {
    #[serde(flatten)]
    place: Place,
    kind: &'static str,
    target: Hex,
    /// The name of the target, with a known operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_name: Option<String>,
    len: u8,
    text: String,
    /// Whether a decode of the bytes before arrives at the instruction.
    linear: bool,
}

impl Row for XrefRow {
    const COLUMNS: &'static [Column] = &[
        Column::right("va"),
        Column::left("kind"),
        Column::right("target"),
        Column::left("text"),
        Column::left("linear"),
        Column::left("name").with_os(),
        Column::left("target_name").with_os(),
        Column::hidden("len"),
    ];

    fn view(&self) -> View {
        let text = |text: Option<&String>| Cell::new(text.map_or("", |text| text));
        View::Cells(vec![
            Cell::new(format!("{:#x}", self.place.va.0)).strong(),
            Cell::new(self.kind),
            Cell::new(format!("{:#x}", self.target.0)),
            Cell::new(self.text.clone()),
            Cell::new(if self.linear { "yes" } else { "no" }),
            text(self.place.name.as_ref()),
            text(self.target_name.as_ref()),
        ])
    }
}
