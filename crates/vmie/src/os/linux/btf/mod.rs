//! BTF: the types of a kernel, as it carries them for its own use.
//!
//! Format: Documentation/bpf/btf.rst in the kernel's sources. A header, a section of type records one
//! after another, and a section of NUL-terminated strings. A record is 12 bytes and what its kind adds;
//! records are numbered from 1 in the order in which they stand, and 0 is `void`.
//!
//! Opening steps over all records once, to note where each starts and to refuse what does not add up;
//! everything else is decoded when asked for. Split BTF (a module's types, numbered on from the
//! kernel's and sharing its strings) needs a base for numbers and strings, for which [`Btf`] keeps a
//! place: `first_id` and `first_string`.
//!
//! A blob of which parts are damaged is opened by [`salvage`], which leaves out what it cannot vouch for.

mod salvage;

use std::ops::Range;

use super::super::types::{Encoding, Member, Record, Type, TypeId, TypeSource};

const MAGIC: u16 = 0xeb9f;

/// Type kinds, by their numbers in the format.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Bytes in a pointer of the kernels that are read.
const POINTER: u64 = 8;

/// An opened BTF blob.
#[derive(Debug)]
pub(super) struct Btf {
    bytes: Vec<u8>,
    /// Where each record starts in `bytes`, by number; number 0 has none.
    records: Vec<u32>,
    strings: Range<usize>,
    /// The number of the first record.
    first_id: u32,
    /// The string offset of the first string.
    first_string: u32,
    /// What is known of damage; `None` for a blob that is whole.
    damage: Option<Damage>,
}

/// Where a blob is damaged.
#[derive(Debug)]
struct Damage {
    /// Strings that touch these ranges of bytes are lost.
    strings: Vec<Range<usize>>,
}

/// The name of what has one that is lost. It must not be empty: what has no name is looked through for
/// members.
const LOST_NAME: &str = "<lost>";

/// The 12 bytes that every record starts with.
#[derive(Clone, Copy)]
struct Head {
    name: u32,
    info: u32,
    /// Size in bytes or number of another type.
    word: u32,
}

impl Head {
    fn kind(self) -> u32 {
        self.info >> 24 & 0x1f
    }

    fn flag(self) -> bool {
        self.info >> 31 != 0
    }

    /// Whether it is that of a structure or a union.
    fn is_record(self) -> bool {
        matches!(self.kind(), kind::STRUCT | kind::UNION)
    }

    fn vlen(self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// Bytes behind these 12, or `None` for a kind that is not known.
    fn tail(self) -> Option<usize> {
        Some(match self.kind() {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * self.vlen(),
            kind::ENUM | kind::FUNC_PROTO => 8 * self.vlen(),
            kind::PTR
            | kind::FWD
            | kind::TYPEDEF
            | kind::VOLATILE
            | kind::CONST
            | kind::RESTRICT
            | kind::FUNC
            | kind::FLOAT
            | kind::TYPE_TAG => 0,
            _ => return None,
        })
    }
}

impl Btf {
    /// Opens a whole blob.
    ///
    /// Cost: one step for each record, about 5 ns.
    ///
    /// # Errors
    ///
    /// What does not add up.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        Self::open(bytes).map_err(|(why, _)| why)
    }

    /// The blob.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As [`Btf::parse`]; the bytes are handed back when they are refused.
    pub(super) fn open(bytes: Vec<u8>) -> Result<Self, (String, Vec<u8>)> {
        match Self::index(&bytes) {
            Ok((records, strings)) => Ok(Self {
                bytes,
                records,
                strings,
                first_id: 0,
                first_string: 0,
                damage: None,
            }),
            Err(why) => Err((why, bytes)),
        }
    }

    /// Where each record of a blob starts, and where its strings are.
    fn index(bytes: &[u8]) -> Result<(Vec<u32>, Range<usize>), String> {
        let field = |at: usize| word(bytes, at).ok_or("shorter than its header");
        let (magic, hdr_len) = (field(0)?, field(4)? as usize);
        if magic & 0xffff != u32::from(MAGIC) {
            return Err(format!(
                "starts with {:#06x}, not {MAGIC:#06x}",
                magic & 0xffff
            ));
        }
        if magic >> 16 & 0xff != 1 {
            return Err(format!("version {} is not known", magic >> 16 & 0xff));
        }
        let section = |offset: u32, len: u32| {
            let start = hdr_len.checked_add(offset as usize)?;
            let end = start.checked_add(len as usize)?;
            (hdr_len >= 24 && end <= bytes.len()).then_some(start..end)
        };
        let types = section(field(8)?, field(12)?).ok_or("types lie outside")?;
        let strings = section(field(16)?, field(20)?).ok_or("strings lie outside")?;
        if u32::try_from(bytes.len()).is_err() {
            return Err("larger than 4 GiB".into());
        }
        if bytes[strings.clone()].first() != Some(&0) || bytes[strings.clone()].last() != Some(&0) {
            return Err("its strings do not start and end with a NUL".into());
        }

        let mut records = Vec::with_capacity(types.len() / 24 + 1);
        records.push(0);
        let mut at = types.start;
        while at < types.end {
            let number = records.len();
            let head = head_at(bytes, at).filter(|_| at + 12 <= types.end);
            let head = head.ok_or_else(|| format!("type {number} is cut off"))?;
            let tail = head
                .tail()
                .ok_or_else(|| format!("type {number} is of unknown kind {}", head.kind()))?;
            records.push(at as u32);
            at += 12 + tail;
            if at > types.end {
                return Err(format!("type {number} is cut off"));
            }
        }
        Ok((records, strings))
    }

    fn record(&self, id: TypeId) -> Option<(Head, &[u8])> {
        let index = id.0.checked_sub(self.first_id)? as usize;
        let start = *self.records.get(index).filter(|&&start| start != 0)? as usize;
        let head = head_at(&self.bytes, start)?;
        let tail = self.bytes.get(start + 12..)?.get(..head.tail()?)?;
        Some((head, tail))
    }

    /// The string at an offset; empty when the offset is wrong or the string is not text.
    fn string(&self, offset: u32) -> &str {
        let strings = &self.bytes[self.strings.clone()];
        let start = offset.wrapping_sub(self.first_string) as usize;
        let Some(rest) = strings.get(start..) else {
            return "";
        };
        let len = memchr::memchr(0, rest).unwrap_or(rest.len());
        if let Some(damage) = &self.damage
            && offset != 0
        {
            let from = self.strings.start + start;
            let lost = |range: &Range<usize>| range.start <= from + len && from <= range.end;
            if len == 0 || damage.strings.iter().any(lost) {
                return LOST_NAME;
            }
        }
        std::str::from_utf8(&rest[..len]).unwrap_or("")
    }

    /// Whether a member can be one: of a blob that is whole, all can.
    fn makes_sense(&self, head: Head, member: &[u8]) -> bool {
        if self.damage.is_none() {
            return true;
        }
        let (name, ty, offset) = (at(member, 0), at(member, 4), at(member, 8));
        let strings = &self.bytes[self.strings.clone()];
        let named = match name.checked_sub(1) {
            None => true,
            Some(before) => {
                self.string(name) == LOST_NAME || strings.get(before as usize) == Some(&0)
            }
        };
        named && ty != 0 && ty < self.end() && offset & 0xff_ffff <= head.word.saturating_mul(8)
    }

    fn members(&self, head: Head, tail: &[u8]) -> Vec<Member<'_>> {
        tail.chunks_exact(12)
            .filter(|member| self.makes_sense(head, member))
            .map(|member| {
                let (name, ty, offset) = (at(member, 0), at(member, 4), at(member, 8));
                // With the flag set, the upper byte of the offset is the width of a bit-field.
                let (bit_offset, bits) = match head.flag() {
                    true => (offset & 0xff_ffff, offset >> 24),
                    false => (offset, 0),
                };
                let mut bit_offset = u64::from(bit_offset);
                let mut bit_size = (bits != 0).then_some(bits);
                if !head.flag()
                    && let Some((shift, width)) = self.old_bit_field(TypeId(ty))
                {
                    bit_offset += u64::from(shift);
                    bit_size = Some(width);
                }
                Member {
                    name: self.string(name),
                    bit_offset,
                    bit_size,
                    ty: TypeId(ty),
                }
            })
            .collect()
    }

    /// Before records had a flag for bit-fields, their width stood in the integer type.
    fn old_bit_field(&self, ty: TypeId) -> Option<(u32, u32)> {
        let (head, tail) = self.record(ty)?;
        (head.kind() == kind::INT)
            .then(|| narrow_bits(head, tail))
            .flatten()
    }
}

/// The bits of an integer that count, when they are not all.
fn narrow_bits(head: Head, tail: &[u8]) -> Option<(u32, u32)> {
    let data = at(tail, 0);
    let (offset, bits) = (data >> 16 & 0xff, data & 0xff);
    if u64::from(offset + bits) > u64::from(head.word) * 8 {
        return None;
    }
    (offset != 0 || u64::from(bits) != u64::from(head.word) * 8).then_some((offset, bits))
}

impl TypeSource for Btf {
    fn end(&self) -> u32 {
        self.first_id + self.records.len() as u32
    }

    fn name(&self, id: TypeId) -> &str {
        self.record(id)
            .map_or("", |(head, _)| self.string(head.name))
    }

    fn get(&self, id: TypeId) -> Option<Type<'_>> {
        if id.0 == 0 {
            return Some(Type::Void);
        }
        let (head, tail) = self.record(id)?;
        let name = self.string(head.name);
        let size = u64::from(head.word);
        let target = TypeId(head.word);
        let qualified = |qualifier| Type::Qualified { qualifier, target };
        Some(match head.kind() {
            kind::INT => {
                let encoding = at(tail, 0) >> 24 & 0xf;
                Type::Int {
                    name,
                    size,
                    signed: encoding & 1 != 0,
                    encoding: match encoding {
                        e if e & 4 != 0 => Encoding::Bool,
                        e if e & 2 != 0 || name == "char" => Encoding::Char,
                        _ => Encoding::Number,
                    },
                    bits: narrow_bits(head, tail),
                }
            }
            kind::PTR => Type::Pointer {
                target,
                size: POINTER,
            },
            kind::ARRAY => Type::Array {
                element: TypeId(at(tail, 0)),
                count: u64::from(at(tail, 8)),
            },
            kind @ (kind::STRUCT | kind::UNION) => Type::Record(Record {
                name,
                union: kind == kind::UNION,
                size,
                members: self.members(head, tail),
            }),
            kind::ENUM => Type::Enum {
                name,
                size,
                signed: head.flag(),
                values: tail
                    .chunks_exact(8)
                    .map(|value| {
                        let number = at(value, 4);
                        let number = match head.flag() {
                            true => i64::from(number.cast_signed()),
                            false => i64::from(number),
                        };
                        (self.string(at(value, 0)), number)
                    })
                    .collect(),
            },
            kind::ENUM64 => Type::Enum {
                name,
                size,
                signed: head.flag(),
                values: tail
                    .chunks_exact(12)
                    .map(|value| {
                        let number = u64::from(at(value, 8)) << 32 | u64::from(at(value, 4));
                        (self.string(at(value, 0)), number.cast_signed())
                    })
                    .collect(),
            },
            kind::FWD => Type::Forward {
                name,
                keyword: if head.flag() { "union" } else { "struct" },
            },
            kind::TYPEDEF => Type::Alias { name, target },
            kind::VOLATILE => qualified("volatile"),
            kind::CONST => qualified("const"),
            kind::RESTRICT => qualified("restrict"),
            kind::TYPE_TAG => qualified(""),
            kind::FUNC => Type::Function {
                name,
                prototype: target,
            },
            kind::FUNC_PROTO => {
                let mut params: Vec<_> = tail
                    .chunks_exact(8)
                    .map(|param| (self.string(at(param, 0)), TypeId(at(param, 4))))
                    .collect();
                // A last parameter with neither name nor type stands for "...".
                let variadic = tail.chunks_exact(8).last() == Some(&[0; 8]);
                if variadic {
                    params.pop();
                }
                Type::Prototype {
                    result: target,
                    params,
                    variadic,
                }
            }
            kind::VAR => Type::Variable { name, target },
            kind::FLOAT => Type::Float { name, size },
            _ => Type::Other { name },
        })
    }
}

fn head_at(bytes: &[u8], start: usize) -> Option<Head> {
    Some(Head {
        name: word(bytes, start)?,
        info: word(bytes, start + 4)?,
        word: word(bytes, start + 8)?,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
}

/// As [`word`], where the length has been checked; 0 otherwise.
fn at(bytes: &[u8], at: usize) -> u32 {
    word(bytes, at).unwrap_or(0)
}
