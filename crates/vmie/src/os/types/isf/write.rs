//! Writing ISF.
//!
//! ISF knows records and enums by name only, so those without one are given one: that of an alias which
//! stands for nothing else (`typedef struct { ... } atomic_t`), else `unnamed_` and their number. Other
//! aliases, and qualifiers, do not exist in it and are looked through. Kernels define some names several
//! times, differently. The first definition keeps the name; others get their number behind it
//! (`console__4711`), so that members that have such a type have its size and not that of the first.

use std::collections::{BTreeMap, HashMap, HashSet};

use lzma_rust2::{XzOptions, XzWriter};

use super::base64;
use super::schema::{
    BUILD_MARK, Base, Descriptor, Enum, Field, File, Linux, Metadata, Origin, Producer, Symbol,
    User,
};
use super::variables::{self, Shape};
use crate::os::types::{Encoding, MAX_NESTING, Record, Type, TypeError, TypeId, Types};
use crate::os::{BuildId, Guest, OsError, SymbolTable};

/// The version of the schema that is written.
const FORMAT: &str = "6.2.0";

/// Who has written a file, and the version of what it writes: three numbers, the last of which grows with what
/// mends the content, the second with what adds to it, the first with what readers have to know. Not the
/// version of this crate, since readers tell good files from bad ones by this.
const PRODUCER: (&str, &str) = ("vmie", "1.0.0");

/// Bytes in a pointer.
const POINTER: u64 = 8;

/// How many elements a variable is said to have at most.
const MAX_ELEMENTS: u64 = 1 << 20;

/// How hard xz tries, of 0 to 9.
const XZ_PRESET: u32 = 3;

/// What to write.
#[derive(Clone, Copy, Debug)]
pub struct Export<'e> {
    /// The types.
    pub types: &'e Types,
    /// The symbols.
    pub symbols: &'e SymbolTable,
    /// The banner of the kernel, without the end of its line.
    pub banner: &'e str,
    /// Its build, where that is known.
    pub build: Option<&'e BuildId>,
    /// What to take off each address, so that addresses are those that the kernel was linked for.
    pub slide: u64,
}

/// Writes symbols and types as JSON.
///
/// Cost: about half a second for a kernel, and 40 MiB.
///
/// # Errors
///
/// When the writer fails. Types that are damaged are left out.
pub fn export(what: &Export<'_>, out: impl std::io::Write) -> std::io::Result<()> {
    let file = Exporter::new(what).file();
    serde_json::to_writer(out, &file).map_err(std::io::Error::from)
}

/// As [`export`], compressed with xz.
///
/// Cost: a few seconds for a kernel, and 80 MiB.
///
/// # Errors
///
/// As [`export`].
pub fn export_xz(what: &Export<'_>, out: impl std::io::Write) -> std::io::Result<()> {
    let xz = XzWriter::new(out, XzOptions::with_preset(XZ_PRESET))?;
    // JSON comes in crumbs.
    let mut buffered = std::io::BufWriter::with_capacity(1 << 16, xz);
    export(what, &mut buffered)?;
    let xz = buffered
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    xz.finish()?.flush()
}

/// Writes symbols and types of a guest's kernel as JSON.
///
/// # Errors
///
/// When the guest has no symbols or types, or the writer fails.
pub fn export_guest(guest: &dyn Guest, out: impl std::io::Write) -> Result<(), ExportError> {
    let (symbols, types) = (guest.symbols()?, guest.types()?);
    let what = Export {
        types: &types,
        symbols: &symbols,
        banner: guest.version(),
        build: guest.build_id(),
        slide: guest.slide(),
    };
    Ok(export(&what, out)?)
}

/// Why a guest's symbols and types were not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The guest does not have them.
    #[error(transparent)]
    Os(#[from] OsError),
    /// They could not be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

struct Exporter<'e> {
    what: &'e Export<'e>,
    base: BTreeMap<String, Base>,
    user: BTreeMap<String, User>,
    enums: BTreeMap<String, Enum>,
    /// Names of records and enums that go by another one than their own.
    names: HashMap<TypeId, String>,
}

impl<'e> Exporter<'e> {
    fn new(what: &'e Export<'e>) -> Self {
        let base = |size, kind: &str| Base {
            size,
            signed: false,
            kind: kind.into(),
            endian: "little".into(),
        };
        let base = [("void", base(0, "void")), ("pointer", base(8, "int"))];
        Self {
            what,
            base: base.map(|(name, base)| (name.to_owned(), base)).into(),
            user: BTreeMap::new(),
            enums: BTreeMap::new(),
            names: names(what.types),
        }
    }

    fn file(mut self) -> File {
        for id in 0..self.what.types.end() {
            let id = TypeId(id);
            match self.what.types.get(id) {
                Ok(Type::Record(record)) => {
                    if let Ok(user) = self.record(&record) {
                        self.user
                            .entry(self.name_of(record.name, id))
                            .or_insert(user);
                    }
                }
                // Those that no record has as a member are wanted too: their values are the kernel's
                // constants.
                Ok(Type::Enum { .. }) => {
                    let _ = self.descriptor(id, 0);
                }
                _ => {}
            }
        }
        let symbols = self.symbols();
        let origin = match self.what.build {
            Some(build) => format!("kallsyms, {BUILD_MARK}{build}"),
            None => "kallsyms".to_owned(),
        };
        File {
            metadata: Metadata {
                format: FORMAT.into(),
                producer: Some(Producer {
                    name: PRODUCER.0.into(),
                    version: PRODUCER.1.into(),
                    datetime: None,
                }),
                // The schema has no word for BTF, and a hash for files only.
                linux: Some(Linux {
                    symbols: vec![Origin {
                        kind: Some("symtab".into()),
                        name: Some(origin),
                        ..Origin::default()
                    }],
                    types: Vec::new(),
                }),
            },
            base_types: self.base,
            user_types: self.user,
            enums: self.enums,
            symbols,
        }
    }

    fn record(&mut self, record: &Record<'_>) -> Result<User, TypeError> {
        let mut fields = BTreeMap::new();
        for (i, member) in record.members.iter().enumerate() {
            let anonymous = member.name.is_empty();
            // A bit-field without a name is padding.
            if anonymous && member.bit_size.is_some() {
                continue;
            }
            let name = match anonymous {
                true => format!("unnamed_field_{i}"),
                false => member.name.to_owned(),
            };
            let mut ty = self.descriptor(member.ty, 0)?;
            let mut offset = member.bit_offset / 8;
            if let Some(bit_length) = member.bit_size {
                // The schema knows bit-fields of these only, and so does C.
                if !matches!(ty, Descriptor::Base { .. } | Descriptor::Enum { .. }) {
                    return Err(TypeError::Damaged(member.ty.0));
                }
                // The position counts from the start of the type, which is aligned to its size.
                let size = self.what.types.size_of(member.ty)?.max(1);
                let start = offset - offset % size;
                let position = member.bit_offset - start * 8;
                ty = Descriptor::Bitfield {
                    bit_position: u32::try_from(position).unwrap_or(0),
                    bit_length,
                    ty: Box::new(ty),
                };
                offset = start;
            }
            fields.insert(
                name,
                Field {
                    ty,
                    offset,
                    anonymous,
                },
            );
        }
        Ok(User {
            kind: record.keyword().into(),
            size: record.size,
            fields,
        })
    }

    /// How a member refers to a type; base types and enums that it needs are written on the way.
    fn descriptor(&mut self, ty: TypeId, depth: usize) -> Result<Descriptor, TypeError> {
        if depth > MAX_NESTING {
            return Err(TypeError::Damaged(ty.0));
        }
        let (id, found) = self.what.types.resolve(ty)?;
        Ok(match found {
            Type::Int {
                name,
                size,
                signed,
                encoding,
                ..
            } => {
                let kind = match encoding {
                    Encoding::Bool => "bool",
                    Encoding::Char => "char",
                    Encoding::Number if size == 1 => "char",
                    Encoding::Number => "int",
                };
                self.base(name, size, signed, kind)
            }
            Type::Float { name, size } => self.base(name, size, true, "float"),
            Type::Pointer { target, .. } => Descriptor::Pointer {
                subtype: Box::new(self.descriptor(target, depth + 1)?),
            },
            Type::Array { element, count } => Descriptor::Array {
                count,
                subtype: Box::new(self.descriptor(element, depth + 1)?),
            },
            Type::Record(record) => {
                let name = self.name_of(record.name, id);
                match record.union {
                    true => Descriptor::Union { name },
                    false => Descriptor::Struct { name },
                }
            }
            Type::Forward { name, keyword } => {
                let name = name.to_owned();
                match keyword {
                    "union" => Descriptor::Union { name },
                    "enum" => Descriptor::Enum { name },
                    _ => Descriptor::Struct { name },
                }
            }
            Type::Enum {
                name,
                size,
                signed,
                values,
            } => {
                let name = self.name_of(name, id);
                let base = match signed {
                    true => format!("s{}", size * 8),
                    false => format!("u{}", size * 8),
                };
                self.base(&base, size, signed, "int");
                let constants = values
                    .iter()
                    .map(|&(name, value)| {
                        let value = match signed {
                            true => i128::from(value),
                            false => i128::from(value.cast_unsigned()),
                        };
                        (name.to_owned(), value)
                    })
                    .collect();
                let written = Enum {
                    size,
                    base,
                    constants,
                };
                self.enums.entry(name.clone()).or_insert(written);
                Descriptor::Enum { name }
            }
            Type::Prototype { .. } | Type::Function { .. } => Descriptor::Function {},
            _ => Descriptor::Base {
                name: "void".into(),
            },
        })
    }

    fn base(&mut self, name: &str, size: u64, signed: bool, kind: &str) -> Descriptor {
        let base = Base {
            size,
            signed,
            kind: kind.into(),
            endian: "little".into(),
        };
        self.base.entry(name.to_owned()).or_insert(base);
        Descriptor::Base { name: name.into() }
    }

    fn name_of(&self, name: &str, id: TypeId) -> String {
        match (self.names.get(&id), name) {
            (Some(other), _) => other.clone(),
            (None, "") => format!("unnamed_{}", id.0),
            (None, name) => name.to_owned(),
        }
    }

    fn symbols(&mut self) -> BTreeMap<String, Symbol> {
        let extent = self.what.symbols.extent();
        let mut symbols = BTreeMap::new();
        let all = self.what.symbols.iter();
        // From each to the next at another address: those are in order.
        let mut behind: Vec<u64> = all.map(|symbol| symbol.va.0).collect();
        behind.dedup();
        for symbol in self.what.symbols.iter() {
            // Per-CPU symbols are offsets and do not move.
            let moves = extent.is_some_and(|extent| extent.contains(symbol.va));
            let slide = if moves { self.what.slide } else { 0 };
            let ty = match symbol.kind {
                't' | 'T' | 'w' | 'W' => Some(Descriptor::Function {}),
                _ => {
                    let next = behind.partition_point(|&va| va <= symbol.va.0);
                    let room = behind.get(next).map_or(0, |next| next - symbol.va.0);
                    self.variable(symbol.name, room)
                }
            };
            let banner = (symbol.name == "linux_banner")
                .then(|| base64::encode(format!("{}\n\0", self.what.banner).as_bytes()));
            let entry = Symbol {
                address: symbol.va.0.wrapping_sub(slide),
                ty: ty.or(Some(Descriptor::Base {
                    name: "void".into(),
                })),
                constant_data: banner,
            };
            symbols.entry(symbol.name.to_owned()).or_insert(entry);
        }
        symbols
    }

    /// What a variable is; `room` is how many bytes there are up to the next symbol.
    fn variable(&mut self, name: &str, room: u64) -> Option<Descriptor> {
        if let Some((shape, ty)) = variables::of(self.what.types, name) {
            let size = self.what.types.size_of(ty).ok()?;
            let subtype = Box::new(self.descriptor(ty, 0).ok()?);
            // Padding may follow: what is in there is all zeros.
            let count = |size: u64| room.checked_div(size).unwrap_or(0).min(MAX_ELEMENTS);
            return Some(match shape {
                Shape::One => *subtype,
                Shape::Pointer => Descriptor::Pointer { subtype },
                Shape::Array => Descriptor::Array {
                    count: count(size),
                    subtype,
                },
                Shape::Pointers => Descriptor::Array {
                    count: count(POINTER),
                    subtype: Box::new(Descriptor::Pointer { subtype }),
                },
            });
        }
        let known = self.what.types.named(name);
        let variable = known
            .into_iter()
            .find(|&id| matches!(self.what.types.get(id), Ok(Type::Variable { .. })))?;
        self.descriptor(variable, 0).ok()
    }
}

/// Names for the records and enums that cannot have their own: further definitions of a name, and those
/// that have no name but an alias.
fn names(types: &Types) -> HashMap<TypeId, String> {
    let all = || (0..types.end()).map(TypeId);
    let mut names = HashMap::new();
    // Records and enums are kept apart.
    let mut defined: HashSet<(bool, &str)> = HashSet::new();
    let mut taken: HashSet<&str> = HashSet::new();
    for id in all() {
        let (is_enum, name) = match types.get(id) {
            Ok(Type::Record(Record { name, .. })) => (false, name),
            Ok(Type::Enum { name, .. }) => (true, name),
            Ok(Type::Forward { name, .. }) => {
                taken.insert(name);
                continue;
            }
            _ => continue,
        };
        if !name.is_empty() && !defined.insert((is_enum, name)) {
            names.insert(id, format!("{name}__{}", id.0));
        }
        taken.insert(name);
    }
    for id in all() {
        if let Ok(Type::Alias { name, target }) = types.get(id)
            && let Ok(Type::Record(Record { name: "", .. }) | Type::Enum { name: "", .. }) =
                types.get(target)
            && !names.contains_key(&target)
            && taken.insert(name)
        {
            names.insert(target, name.to_owned());
        }
    }
    names
}
