//! Raw memory: the bytes as they are, where the user says.

use super::advice::Advice;
use super::error::OpenErrorKind;
use super::format::Format;
use super::layers::{self, Laid};
use super::layout::{Layout, LayoutPart};
use super::opening::{OpenOptions, Opened, Parsed};
use super::segments::{Added, SegmentsBuilder};
use crate::addr::{Gpa, PAGE_SIZE};
use crate::filemap::FileMap;
use crate::hints::Hints;

/// From this size on a machine's RAM may be split around the hole below 4 GiB.
const MAYBE_SPLIT: u64 = 2 << 30;

/// Opens raw memory, with what lies under it.
pub(super) fn open(map: FileMap, options: &OpenOptions) -> Result<Opened, OpenErrorKind> {
    if options.has_companions() {
        let size = map.len();
        let (gpa, len, offset) = (Gpa(0), size, 0);
        let parts = match &options.layout {
            Some(layout) => layout.resolve(size),
            None => vec![LayoutPart { gpa, len, offset }],
        };
        let laid = Laid {
            format: Format::Raw,
            parts,
            hints: Hints::default(),
            notes: Vec::new(),
        };
        return layers::open(map, options, laid);
    }
    let parsed = parse(&map, options.layout.as_ref())?;
    Ok(Opened::one(map, Format::Raw, parsed))
}

/// Lays out a raw file; without a layout, everything from address 0 on.
fn parse(map: &FileMap, layout: Option<&Layout>) -> Result<Parsed, OpenErrorKind> {
    let size = map.len();
    if size < PAGE_SIZE {
        return Err(OpenErrorKind::TooShort { size });
    }
    let mut builder = SegmentsBuilder::new(size);
    let (mut notes, mut advice) = (Vec::new(), Vec::new());
    match layout {
        None => {
            if builder.add_file(0, size.next_multiple_of(PAGE_SIZE), 0) == Added::Truncated {
                notes.push(format!(
                    "the file ends {} bytes into a page of {PAGE_SIZE}: it was probably cut",
                    size % PAGE_SIZE
                ));
            }
            if size > MAYBE_SPLIT {
                notes.push(format!(
                    "taken as one piece from physical address 0; a machine with this much RAM may have part of it above \
                     4 GiB: if addresses look wrong, {}",
                    Advice::SayMachine
                ));
                advice.push(Advice::SayMachine);
            }
        }
        Some(layout) => {
            let parts = layout.resolve(size);
            if parts.iter().all(|part| part.offset >= size) {
                return Err(OpenErrorKind::LayoutBehindEnd {
                    layout: layout.to_string(),
                    size,
                });
            }
            for (i, part) in parts.iter().enumerate() {
                let what = match builder.add_file(part.gpa.0, part.len, part.offset) {
                    Added::Whole => continue,
                    Added::Truncated => "reaches beyond the end of the file",
                    Added::Refused => {
                        "is empty or beyond the 52 bits of a physical address; left out"
                    }
                };
                notes.push(format!(
                    "layout part {} ({:#x}+{:#x}@{:#x}) {what} ({size:#x} bytes)",
                    i + 1,
                    part.gpa,
                    part.len,
                    part.offset,
                ));
            }
        }
    }
    Ok(Parsed {
        builder,
        hints: Hints::default(),
        notes,
        advice,
        pages: None,
    })
}
