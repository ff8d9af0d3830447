//! Reading ISF.
//!
//! The file's names are numbered first, so that types can refer to each other in any order; members
//! are resolved after that.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use super::schema::{BUILD_MARK, Base, Descriptor, Enum, File, User};
use super::{Isf, IsfError, MAX_BYTES, base64};
use crate::addr::{AddrRange, Gva};
use crate::os::types::table::{Entry, Part, TypeTable};
use crate::os::types::{Encoding, TypeId, Types};
use crate::os::{SymbolTable, SymbolTableBuilder};

/// What an xz file starts with.
const XZ_MAGIC: &[u8; 6] = b"\xfd7zXZ\0";

/// Bytes in a pointer, unless the file says otherwise.
const POINTER: u64 = 8;

/// Record names that stand for none.
const UNNAMED: &str = "unnamed_";

/// Reads a file's content.
pub(super) fn parse(bytes: &[u8]) -> Result<Isf, IsfError> {
    let unpacked;
    let json = if bytes.starts_with(XZ_MAGIC) {
        unpacked = unpack(bytes)?;
        &unpacked[..]
    } else {
        bytes
    };
    let file: File = serde_json::from_slice(json)?;
    let banner = file.symbols.get("linux_banner");
    let banner = banner
        .and_then(|symbol| base64::decode(symbol.constant_data.as_deref()?))
        .map(|bytes| {
            let len = bytes.iter().position(|&b| b == 0 || b == b'\n');
            String::from_utf8_lossy(&bytes[..len.unwrap_or(bytes.len())]).into_owned()
        });
    let linux = file.metadata.linux.as_ref();
    let origins = linux
        .into_iter()
        .flat_map(|linux| linux.symbols.iter().chain(&linux.types));
    let build = origins
        .filter_map(|origin| origin.name.as_deref()?.split_once(BUILD_MARK))
        .find_map(|(_, rest)| {
            let end = rest.find(|c: char| !c.is_ascii_hexdigit());
            rest[..end.unwrap_or(rest.len())].parse().ok()
        });
    Ok(Isf {
        symbols: Arc::new(symbols(&file)),
        types: Arc::new(Types::new(Box::new(Importer::table(&file)?))),
        banner,
        build,
    })
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, IsfError> {
    let mut unpacked = Vec::new();
    let reader = lzma_rust2::XzReader::new(bytes, true);
    let read = reader
        .take(MAX_BYTES + 1)
        .read_to_end(&mut unpacked)
        .map_err(IsfError::Xz)?;
    if read as u64 > MAX_BYTES {
        return Err(IsfError::TooLarge);
    }
    Ok(unpacked)
}

fn symbols(file: &File) -> SymbolTable {
    let mut builder = SymbolTableBuilder::with_capacity(file.symbols.len(), 0);
    for (name, symbol) in &file.symbols {
        let kind = match symbol.ty {
            Some(Descriptor::Function {}) => b'T',
            _ => b'D',
        };
        builder.push(name.as_bytes(), Gva(symbol.address), kind);
    }
    let addresses = || file.symbols.values().map(|symbol| Gva(symbol.address));
    let extent = addresses()
        .min()
        .zip(addresses().max())
        .and_then(|(first, last)| AddrRange::inclusive(first, last));
    builder.build(extent)
}

/// Which of the file's tables a name is in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Space {
    Base,
    User,
    Enum,
}

struct Importer<'f> {
    file: &'f File,
    table: TypeTable,
    named: HashMap<(Space, &'f str), TypeId>,
    /// Types that are made of others, so that each is there once.
    made: HashMap<Made, TypeId>,
    pointer: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Made {
    Pointer(TypeId),
    Array(TypeId, u64),
}

impl<'f> Importer<'f> {
    fn table(file: &'f File) -> Result<TypeTable, IsfError> {
        let mut importer = Self {
            file,
            table: TypeTable::default(),
            named: HashMap::new(),
            made: HashMap::new(),
            pointer: file
                .base_types
                .get("pointer")
                .map_or(POINTER, |base| base.size),
        };
        importer.push(Entry::Void)?;
        for (name, base) in &file.base_types {
            let entry = base_entry(name, base)?;
            let id = importer.push(entry)?;
            importer.named.insert((Space::Base, name), id);
        }
        for (name, found) in &file.enums {
            let entry = importer.enum_entry(name, found)?;
            let id = importer.push(entry)?;
            importer.named.insert((Space::Enum, name), id);
        }
        for name in file.user_types.keys() {
            let id = importer.push(Entry::Void)?;
            importer.named.insert((Space::User, name), id);
        }
        for (name, user) in &file.user_types {
            let entry = importer.user_entry(name, user)?;
            let id = importer.named[&(Space::User, name.as_str())];
            importer.table.set(id, entry);
        }
        Ok(importer.table)
    }

    fn push(&mut self, entry: Entry) -> Result<TypeId, IsfError> {
        self.table.push(entry).ok_or(IsfError::TooLarge)
    }

    fn enum_entry(&self, name: &str, found: &Enum) -> Result<Entry, IsfError> {
        let signed = self
            .file
            .base_types
            .get(&found.base)
            .is_some_and(|base| base.signed);
        let value = |(constant, &value): (&String, &i128)| {
            let value = i64::try_from(value)
                .ok()
                .or_else(|| u64::try_from(value).ok().map(u64::cast_signed));
            let why = || error(name, format!("{constant} has more than 64 bits"));
            Ok((constant.clone(), value.ok_or_else(why)?))
        };
        let mut values: Vec<_> = found
            .constants
            .iter()
            .map(value)
            .collect::<Result<_, IsfError>>()?;
        values.sort_by_key(|&(_, value)| value);
        Ok(Entry::Enum {
            name: own_name(name),
            size: found.size,
            signed,
            values,
        })
    }

    fn user_entry(&mut self, name: &str, user: &'f User) -> Result<Entry, IsfError> {
        let mut members = Vec::with_capacity(user.fields.len());
        for (field_name, field) in &user.fields {
            let mut bit_offset = field
                .offset
                .checked_mul(8)
                .ok_or_else(|| error(name, format!("{field_name} lies outside")))?;
            let mut bit_size = None;
            let mut descriptor = &field.ty;
            if let Descriptor::Bitfield {
                bit_position,
                bit_length,
                ty,
            } = descriptor
            {
                bit_offset = bit_offset.saturating_add(u64::from(*bit_position));
                bit_size = Some(*bit_length);
                descriptor = ty;
            }
            members.push(Part {
                name: match field.anonymous {
                    true => String::new(),
                    false => field_name.clone(),
                },
                bit_offset,
                bit_size,
                ty: self.resolve(descriptor)?,
            });
        }
        // The file lists them by name.
        members.sort_by_key(|part| part.bit_offset);
        Ok(Entry::Record {
            name: own_name(name),
            union: user.kind == "union",
            size: user.size,
            members,
        })
    }

    fn resolve(&mut self, descriptor: &'f Descriptor) -> Result<TypeId, IsfError> {
        Ok(match descriptor {
            Descriptor::Base { name } => match self.named.get(&(Space::Base, name)) {
                Some(&id) => id,
                None => return Err(error(name, "there is no such base type".into())),
            },
            Descriptor::Struct { name } | Descriptor::Class { name } => {
                self.named_or_declared(Space::User, name, "struct")?
            }
            Descriptor::Union { name } => self.named_or_declared(Space::User, name, "union")?,
            Descriptor::Enum { name } => self.named_or_declared(Space::Enum, name, "enum")?,
            Descriptor::Pointer { subtype } => {
                let target = self.resolve(subtype)?;
                let size = self.pointer;
                self.made(Made::Pointer(target), Entry::Pointer { target, size })?
            }
            Descriptor::Array { count, subtype } => {
                let (element, count) = (self.resolve(subtype)?, *count);
                self.made(Made::Array(element, count), Entry::Array { element, count })?
            }
            // A bit-field of a bit-field, or outside of a record, is just its type.
            Descriptor::Bitfield { ty, .. } => self.resolve(ty)?,
            Descriptor::Function {} => self.push(Entry::Function)?,
        })
    }

    fn named_or_declared(
        &mut self,
        space: Space,
        name: &'f str,
        keyword: &'static str,
    ) -> Result<TypeId, IsfError> {
        if let Some(&id) = self.named.get(&(space, name)) {
            return Ok(id);
        }
        let name_of_its_own = own_name(name);
        let id = self.push(Entry::Forward {
            name: name_of_its_own,
            keyword,
        })?;
        self.named.insert((space, name), id);
        Ok(id)
    }

    fn made(&mut self, made: Made, entry: Entry) -> Result<TypeId, IsfError> {
        if let Some(&id) = self.made.get(&made) {
            return Ok(id);
        }
        let id = self.push(entry)?;
        self.made.insert(made, id);
        Ok(id)
    }
}

fn base_entry(name: &str, base: &Base) -> Result<Entry, IsfError> {
    if base.endian != "little" {
        return Err(error(
            name,
            format!("byte order {:?} is not read", base.endian),
        ));
    }
    let (name, size) = (name.to_owned(), base.size);
    let int = |encoding| Entry::Int {
        name: name.clone(),
        size,
        signed: base.signed,
        encoding,
    };
    Ok(match base.kind.as_str() {
        "void" => Entry::Void,
        "float" => Entry::Float { name, size },
        "bool" => int(Encoding::Bool),
        "char" if name == "char" => int(Encoding::Char),
        _ => int(Encoding::Number),
    })
}

fn own_name(name: &str) -> String {
    match name.starts_with(UNNAMED) {
        true => String::new(),
        false => name.to_owned(),
    }
}

fn error(name: &str, why: String) -> IsfError {
    let name = name.to_owned();
    IsfError::Type { name, why }
}
