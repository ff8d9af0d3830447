//! An instance of a type with its values: what `show TYPE ADDR` prints.
//!
//! [`Types::show`] reads memory through any [`Memory`] of virtual addresses: an address space, a
//! snapshot. Rows come in the order of the members. Arrays of plain values take one row; characters
//! show as text; enums by name; pointers with what the [`Resolver`] calls their target, and, as deep as
//! asked for, with what they point to.
//!
//! What cannot be read is a row that says why, and the rest is shown all the same: a structure may lie
//! across a page that is not there.

use std::fmt;

use super::{Encoding, Field, MAX_NESTING, Record, Type, TypeError, TypeId, Types};
use crate::addr::{Address, Gva};
use crate::memory::{Fault, Memory};
use crate::os::symbols::Resolver;

/// How far behind a symbol an address may lie to be called after it: the largest objects have this size.
const MAX_NAME_OFFSET: u64 = 64 << 10;

/// How much to show.
#[derive(Clone, Copy, Debug)]
pub struct ShowOptions<'r> {
    /// How many elements of an array are shown.
    pub elements: u64,
    /// How many bytes of a text are shown.
    pub text: u64,
    /// How many pointers are followed, one behind the other.
    pub pointers: u32,
    /// How many rows there may be in all.
    pub rows: usize,
    /// Where the names of addresses come from.
    pub names: Option<&'r Resolver<'r>>,
}

impl Default for ShowOptions<'_> {
    fn default() -> Self {
        Self {
            elements: 16,
            text: 256,
            pointers: 0,
            rows: 10_000,
            names: None,
        }
    }
}

/// A line of what is shown.
#[derive(Clone, PartialEq, Debug)]
pub struct ShowRow {
    /// How many records, arrays and pointers it is in.
    pub depth: usize,
    /// The member's name, `[3]` for an element, empty for what has no name.
    pub name: String,
    /// Its first byte.
    pub va: Gva,
    /// Its type in C.
    pub ty: String,
    /// What is there.
    pub value: Value,
}

/// What is in memory at a [`ShowRow`].
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Value {
    /// Members or elements follow, one deeper, up to [`Value::End`].
    Begin,
    /// The end of members or elements.
    End,
    /// A number.
    Integer(i128),
    /// True or false.
    Bool(bool),
    /// A floating-point number.
    Float(f64),
    /// A value of an enum, with its name when it has one.
    Enum(i128, Option<String>),
    /// Characters up to their NUL, and whether they go on behind what is shown.
    Text(Vec<u8>, bool),
    /// Elements of an array of plain values, and how many more there are.
    List(Vec<Value>, u64),
    /// An address, what the resolver calls it, and, where a pointer was followed, what is there. What is
    /// there follows as rows instead when it is a record.
    Pointer(Gva, Option<String>, Option<Box<Value>>),
    /// Not readable.
    Unreadable(Fault<Gva>),
    /// So many elements are not shown.
    More(u64),
    /// A type that has no values.
    None,
}

impl Types {
    /// What is at `va` when taken for a `ty`.
    ///
    /// # Errors
    ///
    /// [`TypeError::Damaged`]. What cannot be read is no error but a row.
    pub fn show(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        ty: TypeId,
        va: Gva,
        options: &ShowOptions<'_>,
    ) -> Result<Vec<ShowRow>, TypeError> {
        let field = Field {
            bit_offset: 0,
            bit_size: None,
            ty,
        };
        self.show_field(memory, field, va, options)
    }

    /// What is at a member of a record that starts at `va`.
    ///
    /// # Errors
    ///
    /// As [`Types::show`].
    pub fn show_field(
        &self,
        memory: &dyn Memory<Addr = Gva>,
        field: Field,
        va: Gva,
        options: &ShowOptions<'_>,
    ) -> Result<Vec<ShowRow>, TypeError> {
        let mut viewer = Viewer {
            types: self,
            memory,
            options,
            rows: Vec::new(),
        };
        let bits = field.bit_size.map(|width| (field.bit_offset % 8, width));
        let at = Gva(va.raw().wrapping_add(field.offset()));
        viewer.show("", field.ty, at, bits, 0, options.pointers)?;
        Ok(viewer.rows)
    }
}

struct Viewer<'v> {
    types: &'v Types,
    memory: &'v dyn Memory<Addr = Gva>,
    options: &'v ShowOptions<'v>,
    rows: Vec<ShowRow>,
}

impl Viewer<'_> {
    fn push(&mut self, depth: usize, name: &str, va: Gva, ty: String, value: Value) {
        self.rows.push(ShowRow {
            depth,
            name: name.to_owned(),
            va,
            ty,
            value,
        });
    }

    /// Adds the rows of one value. `bits` are the first bit and the width of a bit-field.
    fn show(
        &mut self,
        name: &str,
        ty: TypeId,
        va: Gva,
        bits: Option<(u64, u32)>,
        depth: usize,
        pointers: u32,
    ) -> Result<(), TypeError> {
        if self.rows.len() >= self.options.rows {
            return Ok(());
        }
        let text = match bits {
            Some((_, width)) => format!("{}:{width}", self.types.declare(ty, "")),
            None => self.types.declare(ty, ""),
        };
        if depth > MAX_NESTING {
            return Err(TypeError::Damaged(ty.0));
        }
        match self.types.resolve(ty)?.1 {
            Type::Record(record) => {
                self.push(depth, name, va, text, Value::Begin);
                self.members(&record, va, depth + 1, pointers)?;
                self.push(depth, "", va, String::new(), Value::End);
            }
            Type::Array { element, count } if self.is_plain(element)? => {
                let value = self.list(element, count, va)?;
                self.push(depth, name, va, text, value);
            }
            Type::Array { element, count } => {
                self.push(depth, name, va, text, Value::Begin);
                let size = self.types.size_of(element)?;
                for i in 0..count.min(self.options.elements) {
                    if self.rows.len() >= self.options.rows {
                        break;
                    }
                    let at = Gva(va.raw().wrapping_add(size.wrapping_mul(i)));
                    self.show(&format!("[{i}]"), element, at, None, depth + 1, pointers)?;
                }
                if let Some(more @ 1..) = count.checked_sub(self.options.elements) {
                    self.push(depth + 1, "", va, String::new(), Value::More(more));
                }
                self.push(depth, "", va, String::new(), Value::End);
            }
            Type::Pointer { target, .. } => {
                self.pointer(name, (va, text), target, depth, pointers)?;
            }
            _ => {
                let value = self.scalar(ty, va, bits)?;
                self.push(depth, name, va, text, value);
            }
        }
        Ok(())
    }

    fn members(
        &mut self,
        record: &Record<'_>,
        va: Gva,
        depth: usize,
        pointers: u32,
    ) -> Result<(), TypeError> {
        for member in &record.members {
            let at = Gva(va.raw().wrapping_add(member.bit_offset / 8));
            let bits = member.bit_size.map(|width| (member.bit_offset % 8, width));
            self.show(member.name, member.ty, at, bits, depth, pointers)?;
        }
        Ok(())
    }

    fn pointer(
        &mut self,
        name: &str,
        (va, text): (Gva, String),
        target: TypeId,
        depth: usize,
        pointers: u32,
    ) -> Result<(), TypeError> {
        let to = match self.memory.read_u64(va) {
            Ok(to) => Gva(to),
            Err(fault) => {
                self.push(depth, name, va, text, Value::Unreadable(fault));
                return Ok(());
            }
        };
        let called = self.name_of(to);
        let follow = pointers > 0 && to.raw() != 0;
        let record = match self.types.resolve(target)?.1 {
            Type::Record(record) if follow => Some(record),
            _ => None,
        };
        let there = match record {
            None if to.raw() != 0 => self.pointed_to(target, to, follow)?,
            _ => None,
        };
        let value = Value::Pointer(to, called, there.map(Box::new));
        self.push(depth, name, va, text, value);
        if let Some(record) = record {
            let text = self.types.declare(target, "");
            self.push(depth + 1, "*", to, text, Value::Begin);
            self.members(&record, to, depth + 2, pointers - 1)?;
            self.push(depth + 1, "", to, String::new(), Value::End);
        }
        Ok(())
    }

    /// What a pointer to something that is no record points to. Text is shown always, and only if it
    /// looks like text: pointers to characters are used for bytes of any kind.
    fn pointed_to(
        &self,
        target: TypeId,
        to: Gva,
        follow: bool,
    ) -> Result<Option<Value>, TypeError> {
        Ok(match self.types.resolve(target)?.1 {
            Type::Int {
                encoding: Encoding::Char,
                ..
            } => match self.text(to, self.options.text, true) {
                Value::Text(bytes, more) if follow || is_text(&bytes) => {
                    Some(Value::Text(bytes, more))
                }
                Value::Unreadable(fault) if follow => Some(Value::Unreadable(fault)),
                _ => None,
            },
            Type::Int { .. } | Type::Float { .. } | Type::Enum { .. } | Type::Pointer { .. }
                if follow =>
            {
                Some(self.scalar(target, to, None)?)
            }
            _ => None,
        })
    }

    fn name_of(&self, va: Gva) -> Option<String> {
        let place = self.options.names?.name(va)?;
        // A place in an image, or far behind the last symbol before a stretch without any, says little
        // about a pointer.
        let near = place.symbol.is_some() && place.offset < MAX_NAME_OFFSET;
        near.then(|| place.to_string())
    }

    /// Whether values of the type take one word of a list.
    fn is_plain(&self, ty: TypeId) -> Result<bool, TypeError> {
        Ok(matches!(
            self.types.resolve(ty)?.1,
            Type::Int { .. } | Type::Float { .. } | Type::Enum { .. }
        ))
    }

    /// An array of plain values.
    fn list(&self, element: TypeId, count: u64, va: Gva) -> Result<Value, TypeError> {
        let (_, found) = self.types.resolve(element)?;
        if let Type::Int {
            encoding: Encoding::Char,
            ..
        } = found
        {
            let shown = count.min(self.options.text);
            return Ok(match self.text(va, shown, false) {
                Value::Text(bytes, more) => Value::Text(bytes, more && shown < count),
                other => other,
            });
        }
        let size = self.types.size_of(element)?;
        let shown = count.min(self.options.elements);
        let shown = shown.min(self.options.rows as u64);
        let mut values = Vec::new();
        for i in 0..shown {
            let at = Gva(va.raw().wrapping_add(size.wrapping_mul(i)));
            values.push(self.scalar(element, at, None)?);
        }
        Ok(Value::List(values, count - shown))
    }

    /// Up to `limit` characters, as far as they can be read; whether they go on is told by whether no
    /// NUL was met. `must` a NUL or the limit end them, or may a hole do so too?
    fn text(&self, va: Gva, limit: u64, may_end_at_hole: bool) -> Value {
        let mut bytes = vec![0; usize::try_from(limit.min(1 << 16)).unwrap_or(0)];
        if let Err(fault) = self.memory.read(va, &mut bytes) {
            let good = fault.addr.offset_from(va).unwrap_or(0);
            let good = usize::try_from(good).unwrap_or(0).min(bytes.len());
            let ended = bytes[..good].contains(&0);
            if !ended && (good == 0 || !may_end_at_hole) {
                return Value::Unreadable(fault);
            }
            bytes.truncate(good);
        }
        match bytes.iter().position(|&b| b == 0) {
            Some(len) => {
                bytes.truncate(len);
                Value::Text(bytes, false)
            }
            None => Value::Text(bytes, true),
        }
    }

    /// A value that takes one word, or a bit-field.
    fn scalar(&self, ty: TypeId, va: Gva, bits: Option<(u64, u32)>) -> Result<Value, TypeError> {
        let (_, found) = self.types.resolve(ty)?;
        let (size, signed) = match found {
            Type::Int { size, signed, .. } | Type::Enum { size, signed, .. } => (size, signed),
            Type::Float { size, .. } | Type::Pointer { size, .. } => (size, false),
            _ => return Ok(Value::None),
        };
        let (shift, width) = match bits {
            Some((shift, width)) => (shift, u64::from(width).min(128)),
            None => (0, size.saturating_mul(8)),
        };
        // The longest plain value has 16 bytes, and a bit-field of that width may start within a byte.
        let len = (shift + width).div_ceil(8);
        if width == 0 || width > 128 || len > 17 {
            return Ok(Value::None);
        }
        let mut bytes = [0; 24];
        let len = usize::try_from(len).unwrap_or(0);
        if let Err(fault) = self.memory.read(va, &mut bytes[..len]) {
            return Ok(Value::Unreadable(fault));
        }
        let low = u128::from_le_bytes(bytes[..16].try_into().expect("sixteen bytes"));
        let high = u128::from(bytes[16]);
        let raw = match shift {
            0 => low,
            _ => low >> shift | high << (128 - shift),
        };
        let unused = 128 - u32::try_from(width).unwrap_or(128);
        let number = match signed {
            true => (raw << unused).cast_signed() >> unused,
            false => (raw << unused >> unused).cast_signed(),
        };
        Ok(match found {
            Type::Int {
                encoding: Encoding::Bool,
                ..
            } if matches!(number, 0 | 1) => Value::Bool(number == 1),
            Type::Enum { values, .. } => {
                let named = values.iter().find(|&&(_, value)| {
                    let value = match signed {
                        true => i128::from(value),
                        false => i128::from(value.cast_unsigned()),
                    };
                    value == number
                });
                Value::Enum(number, named.map(|&(name, _)| name.to_owned()))
            }
            Type::Float { size: 4, .. } => Value::Float(f64::from(f32::from_bits(raw as u32))),
            Type::Float { size: 8, .. } => Value::Float(f64::from_bits(raw as u64)),
            Type::Float { .. } => Value::None,
            Type::Pointer { .. } => {
                let to = Gva(raw as u64);
                Value::Pointer(to, self.name_of(to), None)
            }
            _ => Value::Integer(number),
        })
    }
}

impl fmt::Display for Value {
    /// As C would write it, as far as it would. Text is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin => f.write_str("{"),
            Self::End => f.write_str("}"),
            // Small numbers are counts, large ones are addresses, masks and hashes.
            Self::Integer(number @ -0xffff..=0xffff) => write!(f, "{number}"),
            Self::Integer(number) if *number < 0 => write!(f, "{number}"),
            Self::Integer(number) => write!(f, "{number} ({number:#x})"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Enum(number, Some(name)) => write!(f, "{name} ({number})"),
            Self::Enum(number, None) => write!(f, "{number}"),
            Self::Text(bytes, more) => {
                write!(f, "\"{}\"", bytes.escape_ascii())?;
                f.write_str(if *more { "..." } else { "" })
            }
            Self::List(values, more) => list(f, values, *more),
            Self::Pointer(to, called, there) => {
                match to.raw() {
                    0 => f.write_str("NULL")?,
                    _ => write!(f, "{to}")?,
                }
                if let Some(called) = called {
                    write!(f, " <{called}>")?;
                }
                match there {
                    Some(there) => write!(f, " -> {there}"),
                    None => Ok(()),
                }
            }
            Self::Unreadable(fault) => write!(f, "<unreadable: {fault}>"),
            Self::More(count) => write!(f, "... {count} more"),
            Self::None => f.write_str("<no value>"),
        }
    }
}

/// Whether bytes are not empty and characters that are printed or separate lines.
fn is_text(bytes: &[u8]) -> bool {
    let fits = |&b: &u8| b.is_ascii_graphic() || matches!(b, b' ' | b'\t' | b'\n');
    !bytes.is_empty() && bytes.iter().all(fits)
}

/// Elements between braces; of equal ones in a row, the first with their number.
fn list(f: &mut fmt::Formatter<'_>, values: &[Value], more: u64) -> fmt::Result {
    f.write_str("{")?;
    let mut rest = values;
    while let Some(first) = rest.first() {
        if rest.len() < values.len() {
            f.write_str(", ")?;
        }
        let run = rest.iter().take_while(|value| *value == first).count();
        write!(f, "{first}")?;
        if run > 1 {
            write!(f, " <{run} times>")?;
        }
        rest = &rest[run..];
    }
    match (more, values.is_empty()) {
        (0, _) => {}
        (more, true) => write!(f, "... {more} more")?,
        (more, false) => write!(f, ", ... {more} more")?,
    }
    f.write_str("}")
}

/// The rows as C would write them.
pub fn show_text(rows: &[ShowRow]) -> String {
    let mut text = String::new();
    let mut after_begin = false;
    for row in rows {
        if after_begin && row.value == Value::End {
            // Nothing came between the braces: close them on the same line.
            text.pop();
            text += if row.depth == 0 { "}\n" } else { "},\n" };
            after_begin = false;
            continue;
        }
        after_begin = row.value == Value::Begin;
        text += &"    ".repeat(row.depth);
        let name = match row.name.as_str() {
            name if row.depth == 0 || name.starts_with('[') || name == "*" => name.to_owned(),
            "" => String::new(),
            name => format!(".{name}"),
        };
        let comma = match (&row.value, row.depth) {
            (Value::Begin | Value::More(_), _) | (_, 0) => "",
            _ => ",",
        };
        text += &match (&row.value, name.is_empty()) {
            (Value::End | Value::More(_), _) => format!("{}{comma}\n", row.value),
            (Value::Begin, true) if row.depth == 0 => format!("({}) {{\n", row.ty),
            (_, true) => format!("{}{comma}\n", row.value),
            (_, false) => format!("{name} = {}{comma}\n", row.value),
        };
    }
    text
}
