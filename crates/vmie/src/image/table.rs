//! The formats that vmie reads, in one table: how each is called, how it is told from others, what opens it.
//!
//! File names and extensions of files are never looked at. A format is told
//!
//! * by what its file begins with: then nothing but its own row opens it, however damaged the rest is (unless the
//!   user lays it out as raw memory, byte by byte);
//! * by the names of the files in its directory;
//! * by a file that was given beside it, where its memory has no magic number;
//! * by nothing: raw memory is what is left, and what is neither told so nor [refused](super::refused) by name.
//!
//! To add a format: a variant of [`Format`], a row here, and a module beside this one with the function that the row
//! names.

use std::fmt;
use std::path::Path;

#[cfg(feature = "cloud-hypervisor")]
use super::cloud_hypervisor;
use super::error::OpenErrorKind;
use super::format::Format;
use super::layout::Layout;
use super::opening::{OpenOptions, Opened};
use super::refused::{self, Refused};
use super::{elfcore, firecracker, kdump, lime, raw};
use crate::filemap::FileMap;

/// How many bytes of a file are looked at to tell what it is.
const HEAD: usize = 4096;

type Answer = Result<Opened, OpenErrorKind>;
type OfFile = fn(FileMap, &OpenOptions) -> Answer;
type OfDirectory = fn(&Path, &OpenOptions) -> Answer;
type WithState = fn(FileMap, &Path, &OpenOptions) -> Answer;

/// What there is to say of a format.
struct Row {
    format: Format,
    /// The name that the command uses.
    name: &'static str,
    /// With its article, for messages.
    article: &'static str,
    told: Told,
}

/// How a format is told from others, and what opens it.
enum Told {
    /// Its file begins with one of these.
    Magic(&'static [&'static [u8]], OfFile),
    /// It is a directory with these files in it.
    Directory(&'static [&'static str], OfDirectory),
    /// A state file is given with it.
    State(WithState),
    /// It is what is left.
    Rest(OfFile),
}

/// Sources of the magic numbers: the specifications of the formats, which stand in their modules.
static TABLE: &[Row] = &[
    Row {
        format: Format::Elf,
        name: "elf",
        article: "an ELF file",
        told: Told::Magic(&[b"\x7fELF"], elfcore::open),
    },
    Row {
        format: Format::Lime,
        name: "lime",
        article: "a LiME image",
        told: Told::Magic(&[b"EMiL"], lime::open),
    },
    Row {
        format: Format::Avml,
        name: "avml",
        article: "an AVML image",
        // One walk over headers for both, since files mix them.
        told: Told::Magic(&[b"AVML"], lime::open),
    },
    Row {
        format: Format::Kdump,
        name: "kdump",
        article: "a compressed kdump",
        told: Told::Magic(&[b"KDUMP   ", b"makedumpfile\0\0\0\0"], kdump::open),
    },
    Row {
        format: Format::CloudHypervisor,
        name: "cloud-hypervisor",
        article: "a Cloud Hypervisor snapshot",
        told: Told::Directory(&["memory-ranges", "state.json"], CLOUD_HYPERVISOR),
    },
    Row {
        format: Format::Firecracker,
        name: "firecracker",
        article: "a Firecracker snapshot",
        told: Told::State(firecracker::open),
    },
    Row {
        format: Format::Raw,
        name: "raw",
        article: "raw memory",
        told: Told::Rest(raw::open),
    },
];

#[cfg(feature = "cloud-hypervisor")]
const CLOUD_HYPERVISOR: OfDirectory = cloud_hypervisor::open;
#[cfg(not(feature = "cloud-hypervisor"))]
const CLOUD_HYPERVISOR: OfDirectory = |_, _| {
    Err(OpenErrorKind::Unsupported {
        found: "a Cloud Hypervisor snapshot".into(),
        advice: Advice::Other("use a vmie that was built with the feature `cloud-hypervisor`"),
    })
};

/// Said of a file that is not what its first bytes say.
const READ_AS_RAW: &str =
    "the file does not look like raw memory; read as raw because a layout was given";

impl Format {
    fn row(self) -> &'static Row {
        let row = TABLE.iter().find(|row| row.format == self);
        row.expect("every format has a row")
    }

    /// With its article, for messages.
    pub(super) fn article(self) -> &'static str {
        self.row().article
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.row().name)
    }
}

/// What a file is, by how it begins.
enum Found {
    Format(&'static Row, OfFile),
    Refused(Refused),
}

fn probe(head: &[u8]) -> Option<Found> {
    let told = TABLE.iter().find_map(|row| match row.told {
        Told::Magic(starts, open) => starts
            .iter()
            .any(|start| head.starts_with(start))
            .then_some(Found::Format(row, open)),
        _ => None,
    });
    told.or_else(|| refused::file(head).map(Found::Refused))
}

fn refuse(refused: Refused) -> OpenErrorKind {
    let Refused {
        what,
        advice,
        beside,
    } = refused;
    match beside {
        true => OpenErrorKind::Beside {
            found: what,
            advice,
        },
        false => OpenErrorKind::Unsupported {
            found: what.into(),
            advice,
        },
    }
}

fn not_layered(row: &Row) -> OpenErrorKind {
    OpenErrorKind::NotLayered {
        found: row.article.into(),
    }
}

fn layout_for_format(row: &Row, layout: &Layout) -> OpenErrorKind {
    OpenErrorKind::LayoutForFormat {
        found: row.article,
        layout: layout.to_string(),
    }
}

/// Opens a directory.
pub(super) fn open_directory(path: &Path, options: &OpenOptions) -> Answer {
    let told = TABLE.iter().find_map(|row| match row.told {
        Told::Directory(files, open) => files
            .iter()
            .all(|file| path.join(file).is_file())
            .then_some((row, open)),
        _ => None,
    });
    let Some((row, open)) = told else {
        return Err(match refused::directory(path) {
            Some(refused) => refuse(refused),
            None => OpenErrorKind::NotAFile {
                found: "a directory",
            },
        });
    };
    match &options.layout {
        _ if options.has_companions() => Err(not_layered(row)),
        Some(layout) => Err(layout_for_format(row, layout)),
        None => open(path, options),
    }
}

/// Opens a file.
pub(super) fn open_file(map: FileMap, options: &OpenOptions) -> Answer {
    let mut head = vec![0; HEAD.min(usize::try_from(map.len()).unwrap_or(HEAD))];
    let found = map.read(0, &mut head).then(|| probe(&head)).flatten();
    let layout = options.layout.as_ref();
    let mut note = None;
    match found {
        None => {}
        Some(Found::Format(row, _)) if options.has_companions() => return Err(not_layered(row)),
        Some(Found::Format(row, open)) => match layout {
            None => return open(map, options),
            // Every byte of it is said to be memory.
            Some(Layout::Explicit(_)) => note = Some(READ_AS_RAW),
            Some(layout) => return Err(layout_for_format(row, layout)),
        },
        Some(Found::Refused(refused)) => match layout {
            None => return Err(refuse(refused)),
            Some(_) if options.has_companions() && refused.beside => return Err(refuse(refused)),
            Some(_) if options.has_companions() => {}
            Some(_) => note = Some(READ_AS_RAW),
        },
    }
    let mut opened = rest(map, options)?;
    opened.parsed.notes.extend(note.map(str::to_owned));
    Ok(opened)
}

/// Opens what no magic number tells: by its state file if there is one.
fn rest(map: FileMap, options: &OpenOptions) -> Answer {
    for row in TABLE {
        match (&row.told, &options.state) {
            (Told::State(open), Some(state)) => return open(map, state, options),
            (Told::Rest(open), None) => return open(map, options),
            _ => {}
        }
    }
    unreachable!("the table has a row for what is left, and one for what a state file tells")
}

#[cfg(test)]
mod tests;
