//! Types in memory of our own: a [`TypeSource`] for formats that are read as a whole.

use super::{Encoding, Member, Record, Type, TypeId, TypeSource};

/// A type that owns its names. The fields are those of [`Type`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    Void,
    Int {
        name: String,
        size: u64,
        signed: bool,
        encoding: Encoding,
    },
    Float {
        name: String,
        size: u64,
    },
    Pointer {
        target: TypeId,
        size: u64,
    },
    Array {
        element: TypeId,
        count: u64,
    },
    Record {
        name: String,
        union: bool,
        size: u64,
        members: Vec<Part>,
    },
    Enum {
        name: String,
        size: u64,
        signed: bool,
        values: Vec<(String, i64)>,
    },
    Forward {
        name: String,
        keyword: &'static str,
    },
    /// A function of which no more is known.
    Function,
}

/// A member that owns its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) bit_offset: u64,
    pub(super) bit_size: Option<u32>,
    pub(super) ty: TypeId,
}

/// Types by number.
#[derive(Clone, Debug, Default)]
pub(super) struct TypeTable {
    entries: Vec<Entry>,
}

impl TypeTable {
    /// Adds a type and answers its number; `None` when numbers have run out.
    pub(super) fn push(&mut self, entry: Entry) -> Option<TypeId> {
        let id = u32::try_from(self.entries.len()).ok()?;
        self.entries.push(entry);
        Some(TypeId(id))
    }

    /// Replaces a type.
    pub(super) fn set(&mut self, id: TypeId, entry: Entry) {
        if let Some(slot) = self.entries.get_mut(id.0 as usize) {
            *slot = entry;
        }
    }
}

impl TypeSource for TypeTable {
    fn end(&self) -> u32 {
        self.entries.len() as u32
    }

    fn name(&self, id: TypeId) -> &str {
        match self.entries.get(id.0 as usize) {
            Some(
                Entry::Int { name, .. }
                | Entry::Float { name, .. }
                | Entry::Record { name, .. }
                | Entry::Enum { name, .. }
                | Entry::Forward { name, .. },
            ) => name,
            _ => "",
        }
    }

    fn get(&self, id: TypeId) -> Option<Type<'_>> {
        Some(match self.entries.get(id.0 as usize)? {
            Entry::Void => Type::Void,
            &Entry::Int {
                ref name,
                size,
                signed,
                encoding,
            } => Type::Int {
                name,
                size,
                signed,
                encoding,
                bits: None,
            },
            &Entry::Float { ref name, size } => Type::Float { name, size },
            &Entry::Pointer { target, size } => Type::Pointer { target, size },
            &Entry::Array { element, count } => Type::Array { element, count },
            &Entry::Record {
                ref name,
                union,
                size,
                ref members,
            } => Type::Record(Record {
                name,
                union,
                size,
                members: members
                    .iter()
                    .map(|part| Member {
                        name: &part.name,
                        bit_offset: part.bit_offset,
                        bit_size: part.bit_size,
                        ty: part.ty,
                    })
                    .collect(),
            }),
            &Entry::Enum {
                ref name,
                size,
                signed,
                ref values,
            } => Type::Enum {
                name,
                size,
                signed,
                values: values.iter().map(|(name, v)| (name.as_str(), *v)).collect(),
            },
            &Entry::Forward { ref name, keyword } => Type::Forward { name, keyword },
            Entry::Function => Type::Prototype {
                result: TypeId(0),
                params: Vec::new(),
                variadic: true,
            },
        })
    }
}
