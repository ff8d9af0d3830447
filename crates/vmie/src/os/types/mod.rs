//! The types of a kernel or a program, whatever format they come from.
//!
//! A [`TypeSource`] (BTF, an ISF file, in time a PDB) numbers its types and describes each on demand;
//! [`Types`] puts on top what users ask: find a type by name, follow aliases, find a member by a path
//! such as `tasks.next` or `comm[0]`, through members without a name, and know sizes.
//!
//! Descriptions are made when asked for. A kernel has more than a hundred thousand types, and listing
//! its processes takes a dozen of them.
//!
//! Sources are hostile: types may refer to numbers that do not exist, to themselves, and in circles.
//! Every chain that is followed is bounded by [`MAX_CHAIN`], every nesting by [`MAX_NESTING`].

mod declare;
#[cfg(feature = "isf")]
pub mod isf;
pub(in crate::os) mod kept;
mod layout;
mod show;
mod supplied;
#[cfg(feature = "isf")]
mod table;

use std::fmt;
use std::sync::OnceLock;

use super::symbols::NameIndex;

pub use kept::TypeStore;
pub use layout::{Layout, LayoutKind, LayoutRow};
pub use show::{ShowOptions, ShowRow, Value, show_text};
pub use supplied::{BuildId, NoBuildId, SuppliedTypes};

/// How many aliases and qualifiers are followed before a chain counts as circular.
pub const MAX_CHAIN: usize = 64;
/// How deep records may nest before they count as circular.
pub const MAX_NESTING: usize = 32;
/// How many records are looked into for one member. Depth alone does not bound the work: records that
/// hold the next one twice double it at each level.
const MAX_UNNAMED: usize = 10_000;

/// Number of a type within its source. What 0 means is up to the source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TypeId(pub u32);

/// What a type is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Type<'a> {
    /// No value.
    Void,
    /// An integer, a character or a truth value.
    Int {
        /// Its name.
        name: &'a str,
        /// Bytes.
        size: u64,
        /// Whether it is signed.
        signed: bool,
        /// How its values are meant.
        encoding: Encoding,
        /// The bits of it that count, when they are fewer than its bytes have: old BTF describes
        /// bit-fields so. Offset from the lowest bit, and number.
        bits: Option<(u32, u32)>,
    },
    /// A floating-point number.
    Float {
        /// Its name.
        name: &'a str,
        /// Bytes.
        size: u64,
    },
    /// An address of something.
    Pointer {
        /// What it points to.
        target: TypeId,
        /// Bytes.
        size: u64,
    },
    /// Elements of one type in a row.
    Array {
        /// Their type.
        element: TypeId,
        /// How many; 0 for an array that is as long as the allocation it ends.
        count: u64,
    },
    /// A structure or a union.
    Record(Record<'a>),
    /// Named numbers.
    Enum {
        /// Its name, empty for none.
        name: &'a str,
        /// Bytes.
        size: u64,
        /// Whether its values are signed.
        signed: bool,
        /// Names and values; of an unsigned enum, values above `i64::MAX` wrap.
        values: Vec<(&'a str, i64)>,
    },
    /// A record or an enum that is declared but not defined here.
    Forward {
        /// Its name.
        name: &'a str,
        /// `struct`, `union` or `enum`.
        keyword: &'static str,
    },
    /// Another name for a type.
    Alias {
        /// The name.
        name: &'a str,
        /// The type.
        target: TypeId,
    },
    /// A type with a qualifier, which changes nothing about its values.
    Qualified {
        /// `const`, `volatile`, `restrict`, `_Atomic`, or empty for an annotation.
        qualifier: &'static str,
        /// The type.
        target: TypeId,
    },
    /// The type of a function.
    Prototype {
        /// What it returns.
        result: TypeId,
        /// Names and types of what it takes.
        params: Vec<(&'a str, TypeId)>,
        /// Whether more arguments may follow.
        variadic: bool,
    },
    /// A function.
    Function {
        /// Its name.
        name: &'a str,
        /// Its type.
        prototype: TypeId,
    },
    /// A variable.
    Variable {
        /// Its name.
        name: &'a str,
        /// Its type.
        target: TypeId,
    },
    /// Something that describes no value: a section, an annotation of a declaration.
    Other {
        /// Its name.
        name: &'a str,
    },
}

/// How the values of an integer are meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// As numbers.
    Number,
    /// As characters.
    Char,
    /// As true or false.
    Bool,
}

/// A structure or a union.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Its name, empty for none.
    pub name: &'a str,
    /// Whether all members start at the same place.
    pub union: bool,
    /// Bytes.
    pub size: u64,
    /// What it consists of, in the source's order.
    pub members: Vec<Member<'a>>,
}

/// A member of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member<'a> {
    /// Its name, empty for none.
    pub name: &'a str,
    /// Where it starts, in bits from the start of the record.
    pub bit_offset: u64,
    /// Width in bits when it is a bit-field.
    pub bit_size: Option<u32>,
    /// Its type.
    pub ty: TypeId,
}

/// Where types come from.
pub trait TypeSource: Send + Sync {
    /// All numbers are below this.
    fn end(&self) -> u32;

    /// Describes a type; `None` when the number does not exist or what is there makes no sense.
    fn get(&self, id: TypeId) -> Option<Type<'_>>;

    /// The name of a type without describing it all; empty for none.
    fn name(&self, id: TypeId) -> &str;
}

/// A member that a path led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Where it starts, in bits from the start of the outermost record.
    pub bit_offset: u64,
    /// Width in bits when it is a bit-field.
    pub bit_size: Option<u32>,
    /// Its type.
    pub ty: TypeId,
}

impl Field {
    /// Where it starts, in bytes; of a bit-field, the byte that its first bit is in.
    pub fn offset(self) -> u64 {
        self.bit_offset / 8
    }
}

/// Why a type or a member was not found.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypeError {
    /// No type has this name.
    #[error("no type named {0:?}")]
    NoType(String),
    /// The record has no such member.
    #[error("{record} has no member {member:?}")]
    NoMember {
        /// The record.
        record: String,
        /// The member.
        member: String,
    },
    /// A path goes on behind something that has no members or elements.
    #[error("{0} has no members to go into")]
    NoRecord(String),
    /// A path that cannot be read.
    #[error("{path:?} is not a member path: {why}")]
    BadPath {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The source's description of a type makes no sense.
    #[error("type number {0} is damaged, refers to itself or does not exist")]
    Damaged(u32),
}

/// All types of one source. See the module documentation.
pub struct Types {
    source: Box<dyn TypeSource>,
    by_name: OnceLock<NameIndex>,
}

impl fmt::Debug for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Types")
            .field("end", &self.source.end())
            .finish()
    }
}

impl Types {
    /// The types of `source`.
    pub fn new(source: Box<dyn TypeSource>) -> Self {
        Self {
            source,
            by_name: OnceLock::new(),
        }
    }

    /// All type numbers are below this.
    pub fn end(&self) -> u32 {
        self.source.end()
    }

    /// Describes a type.
    ///
    /// # Errors
    ///
    /// [`TypeError::Damaged`].
    pub fn get(&self, id: TypeId) -> Result<Type<'_>, TypeError> {
        self.source.get(id).ok_or(TypeError::Damaged(id.0))
    }

    /// All types that bear `name`, by ascending number, whatever they are. `struct x`, `union x` and
    /// `enum x` ask for one kind only.
    ///
    /// Cost: the first call indexes all names (some milliseconds for a kernel).
    pub fn named(&self, name: &str) -> Vec<TypeId> {
        let (keyword, bare) = match name.trim().split_once(char::is_whitespace) {
            Some((keyword @ ("struct" | "union" | "enum"), bare)) => (keyword, bare.trim_start()),
            _ => ("", name.trim()),
        };
        if bare.is_empty() {
            return Vec::new();
        }
        let index = self.by_name.get_or_init(|| {
            let named = |id| Some((self.source.name(TypeId(id)).as_bytes(), id));
            let all = (0..self.end()).filter_map(named);
            NameIndex::build(all.filter(|(name, _)| !name.is_empty()))
        });
        index
            .candidates(bare.as_bytes())
            .map(TypeId)
            .filter(|&id| self.source.name(id) == bare)
            .filter(|&id| keyword.is_empty() || self.keyword(id) == Some(keyword))
            .collect()
    }

    fn keyword(&self, id: TypeId) -> Option<&'static str> {
        match self.source.get(id)? {
            Type::Record(record) => Some(if record.union { "union" } else { "struct" }),
            Type::Enum { .. } => Some("enum"),
            _ => None,
        }
    }

    /// The type that a user means by `name`: a definition before a declaration, a record or an enum
    /// before an alias of that name, and anything before a function or a variable.
    ///
    /// # Errors
    ///
    /// [`TypeError::NoType`].
    pub fn find(&self, name: &str) -> Result<TypeId, TypeError> {
        let rank = |id: &TypeId| match self.source.get(*id) {
            Some(Type::Record(_)) => 0,
            Some(Type::Enum { .. }) => 1,
            Some(Type::Int { .. } | Type::Float { .. }) => 2,
            Some(Type::Alias { .. }) => 3,
            Some(Type::Forward { .. }) => 4,
            Some(_) => 5,
            None => 6,
        };
        self.named(name)
            .into_iter()
            .min_by_key(rank)
            .ok_or_else(|| TypeError::NoType(name.to_owned()))
    }

    /// The type behind all aliases and qualifiers.
    ///
    /// # Errors
    ///
    /// [`TypeError::Damaged`] for a type that is damaged or refers to itself.
    pub fn resolve(&self, id: TypeId) -> Result<(TypeId, Type<'_>), TypeError> {
        let mut at = id;
        for _ in 0..MAX_CHAIN {
            match self.get(at)? {
                Type::Alias { target, .. }
                | Type::Qualified { target, .. }
                | Type::Variable { target, .. } => at = target,
                found => return Ok((at, found)),
            }
        }
        Err(TypeError::Damaged(id.0))
    }

    /// Bytes that a value of this type takes; 0 for types that have no values.
    ///
    /// # Errors
    ///
    /// As [`Types::resolve`].
    pub fn size_of(&self, id: TypeId) -> Result<u64, TypeError> {
        let mut at = id;
        let mut times = 1_u64;
        for _ in 0..MAX_NESTING {
            match self.resolve(at)?.1 {
                Type::Array { element, count } => {
                    times = times.checked_mul(count).ok_or(TypeError::Damaged(at.0))?;
                    at = element;
                }
                Type::Int { size, .. }
                | Type::Float { size, .. }
                | Type::Pointer { size, .. }
                | Type::Enum { size, .. }
                | Type::Record(Record { size, .. }) => {
                    return size.checked_mul(times).ok_or(TypeError::Damaged(id.0));
                }
                _ => return Ok(0),
            }
        }
        Err(TypeError::Damaged(id.0))
    }

    /// What a path leads to: members separated by dots, elements as `[3]`. Members without a name are
    /// gone through as if what they contain stood in their place.
    ///
    /// # Errors
    ///
    /// The part of the path that does not exist.
    pub fn field(&self, record: TypeId, path: &str) -> Result<Field, TypeError> {
        let mut here = Field {
            bit_offset: 0,
            bit_size: None,
            ty: record,
        };
        for part in PathParts::new(path) {
            let (ty, found) = self.resolve(here.ty)?;
            match (part?, found) {
                (Part::Member(name), Type::Record(_)) => {
                    let mut budget = MAX_UNNAMED;
                    let field = self.member(ty, name, 0, &mut budget)?.ok_or_else(|| {
                        TypeError::NoMember {
                            record: self.describe(ty),
                            member: name.to_owned(),
                        }
                    })?;
                    here = Field {
                        bit_offset: here
                            .bit_offset
                            .checked_add(field.bit_offset)
                            .ok_or(TypeError::Damaged(ty.0))?,
                        ..field
                    };
                }
                (Part::Element(index), Type::Array { element, .. }) => {
                    // The first one stands at the start, whatever its size.
                    let size = match index {
                        0 => 0,
                        _ => self.size_of(element)?,
                    };
                    here.bit_offset = size
                        .checked_mul(index)
                        .and_then(|bytes| bytes.checked_mul(8))
                        .and_then(|bits| bits.checked_add(here.bit_offset))
                        .ok_or(TypeError::Damaged(ty.0))?;
                    here.bit_size = None;
                    here.ty = element;
                }
                _ => return Err(TypeError::NoRecord(self.describe(ty))),
            }
        }
        Ok(here)
    }

    /// Byte offset of a member of the named type: `offset_of("task_struct", "tasks.next")`.
    ///
    /// # Errors
    ///
    /// As [`Types::find`] and [`Types::field`].
    pub fn offset_of(&self, name: &str, path: &str) -> Result<u64, TypeError> {
        Ok(self.field(self.find(name)?, path)?.offset())
    }

    fn member(
        &self,
        record: TypeId,
        name: &str,
        depth: usize,
        budget: &mut usize,
    ) -> Result<Option<Field>, TypeError> {
        let (ty, Type::Record(found)) = self.resolve(record)? else {
            return Ok(None);
        };
        if depth > MAX_NESTING || *budget == 0 {
            return Err(TypeError::Damaged(ty.0));
        }
        *budget -= 1;
        if let Some(member) = found.members.iter().find(|member| member.name == name) {
            return Ok(Some(Field {
                bit_offset: member.bit_offset,
                bit_size: member.bit_size,
                ty: member.ty,
            }));
        }
        // One that is damaged does not keep the others from being looked into.
        let mut damaged = None;
        for unnamed in found.members.iter().filter(|member| member.name.is_empty()) {
            let inside = match self.member(unnamed.ty, name, depth + 1, budget) {
                Ok(inside) => inside,
                Err(error) => {
                    damaged = Some(error);
                    None
                }
            };
            if let Some(field) = inside {
                return Ok(Some(Field {
                    bit_offset: field
                        .bit_offset
                        .checked_add(unnamed.bit_offset)
                        .ok_or(TypeError::Damaged(ty.0))?,
                    ..field
                }));
            }
        }
        damaged.map_or(Ok(None), Err)
    }

    /// A short name for messages: `struct list_head`, `unsigned long`.
    pub(in crate::os) fn describe(&self, id: TypeId) -> String {
        let name = self.source.name(id);
        let name = if name.is_empty() {
            "without a name"
        } else {
            name
        };
        match self.source.get(id) {
            Some(Type::Record(record)) if record.union => format!("union {name}"),
            Some(Type::Record(_)) => format!("struct {name}"),
            Some(Type::Enum { .. }) => format!("enum {name}"),
            Some(Type::Forward { keyword, .. }) => {
                format!("{keyword} {name}, which is only declared,")
            }
            Some(Type::Pointer { .. }) => "a pointer".to_owned(),
            Some(Type::Array { .. }) => "an array".to_owned(),
            Some(Type::Void) => "void".to_owned(),
            _ => format!("type {name}"),
        }
    }
}

/// One step of a member path.
pub(in crate::os) enum Part<'p> {
    Member(&'p str),
    Element(u64),
}

/// Splits a member path.
pub(in crate::os) struct PathParts<'p> {
    path: &'p str,
    rest: &'p str,
    first: bool,
}

impl<'p> PathParts<'p> {
    pub(in crate::os) fn new(path: &'p str) -> Self {
        Self {
            path,
            rest: path,
            first: true,
        }
    }

    fn bad(&mut self, why: &'static str) -> Option<Result<Part<'p>, TypeError>> {
        self.rest = "";
        Some(Err(TypeError::BadPath {
            path: self.path.to_owned(),
            why,
        }))
    }
}

impl<'p> Iterator for PathParts<'p> {
    type Item = Result<Part<'p>, TypeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        if let Some(inside) = self.rest.strip_prefix('[') {
            let Some((index, rest)) = inside.split_once(']') else {
                return self.bad("a [ without its ]");
            };
            let parsed = match index.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => index.parse(),
            };
            let Ok(index) = parsed else {
                return self.bad("an index is a number");
            };
            self.rest = rest;
            self.first = false;
            return Some(Ok(Part::Element(index)));
        }
        let name = match self.rest.strip_prefix('.') {
            Some(name) if !self.first => name,
            None if self.first => self.rest,
            _ => return self.bad("members are separated by dots"),
        };
        let len = name.find(['.', '[']).unwrap_or(name.len());
        if len == 0 {
            return self.bad("a member without a name");
        }
        self.rest = &name[len..];
        self.first = false;
        Some(Ok(Part::Member(&name[..len])))
    }
}
