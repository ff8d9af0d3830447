//! How a type lies in memory: what `type NAME` prints.
//!
//! [`Types::layout`] gives one row for each member with its place, and rows for holes, which are bytes
//! or bits that belong to no member. Records without a name are opened up, since their members are used
//! as if they stood outside; records with a name are not, unless asked for.

use std::fmt;

use super::{Encoding, MAX_NESTING, Record, Type, TypeError, TypeId, Types};

/// How many rows a layout has at most. The largest record of a kernel has some hundred members; a
/// hostile source can nest without end.
const MAX_ROWS: usize = 100_000;

/// How a type lies in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// What it is: `struct task_struct`, `enum pid_type`.
    pub title: String,
    /// Bytes.
    pub size: u64,
    /// What it consists of.
    pub rows: Vec<LayoutRow>,
    /// Whether rows are missing because there would be too many.
    pub cut: bool,
}

/// A line of a [`Layout`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LayoutRow {
    /// How many opened records it is in.
    pub depth: usize,
    /// Where it starts, in bits from the start of the type.
    pub bit_offset: u64,
    /// How many bits it takes.
    pub bits: u64,
    /// What it is.
    pub kind: LayoutKind,
}

/// What a [`LayoutRow`] is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LayoutKind {
    /// A member.
    Member {
        /// Its name, empty for none.
        name: String,
        /// Its type in C, without the name.
        ty: String,
        /// Its declaration in C.
        declaration: String,
        /// Whether it is a bit-field.
        bit_field: bool,
    },
    /// The start of a record that is opened up.
    Open {
        /// `struct`, `union`, with the record's name when it has one.
        title: String,
    },
    /// Its end.
    Close {
        /// Name of the member whose type the record is, with bounds of an array; empty for none.
        name: String,
    },
    /// Bytes or bits that no member uses.
    Hole,
    /// A named value of an enum.
    Value {
        /// Its name.
        name: String,
        /// The value.
        value: i128,
    },
    /// The type itself, when it has no parts.
    Plain {
        /// Its declaration in C.
        declaration: String,
    },
}

impl Types {
    /// How a type lies in memory, aliases and qualifiers looked through. Records with names are opened
    /// `deep` levels down.
    ///
    /// # Errors
    ///
    /// [`TypeError::Damaged`].
    pub fn layout(&self, id: TypeId, deep: usize) -> Result<Layout, TypeError> {
        let (ty, found) = self.resolve(id)?;
        let mut layout = Layout {
            title: self.declare(id, ""),
            size: self.size_of(ty)?,
            rows: Vec::new(),
            cut: false,
        };
        let plain = |kind| LayoutRow {
            depth: 0,
            bit_offset: 0,
            bits: layout.size.saturating_mul(8),
            kind,
        };
        match found {
            Type::Record(record) => {
                layout.title = self.declare(ty, "");
                self.open(&record, 0, 0, deep, &mut layout)?;
            }
            Type::Enum { values, signed, .. } => {
                layout.title = self.declare(ty, "");
                layout.rows = values
                    .iter()
                    .map(|&(name, value)| {
                        let value = match signed {
                            true => i128::from(value),
                            false => i128::from(value.cast_unsigned()),
                        };
                        let name = name.to_owned();
                        plain(LayoutKind::Value { name, value })
                    })
                    .collect();
            }
            _ => {
                let declaration = match self.get(id)? {
                    Type::Alias { name, target } => {
                        format!("typedef {}", self.declare(target, name))
                    }
                    _ => self.declare(id, ""),
                };
                layout.rows.push(plain(LayoutKind::Plain { declaration }));
            }
        }
        Ok(layout)
    }

    fn open(
        &self,
        record: &Record<'_>,
        start: u64,
        depth: usize,
        deep: usize,
        out: &mut Layout,
    ) -> Result<(), TypeError> {
        let mut end = 0;
        for member in &record.members {
            if out.rows.len() >= MAX_ROWS {
                out.cut = true;
                return Ok(());
            }
            let bits = match member.bit_size {
                Some(bits) => u64::from(bits),
                None => self.size_of(member.ty)?.saturating_mul(8),
            };
            if !record.union && member.bit_offset > end {
                let hole = member.bit_offset - end;
                out.push(depth, start.saturating_add(end), hole, LayoutKind::Hole);
            }
            end = end.max(member.bit_offset.saturating_add(bits));
            let at = start.saturating_add(member.bit_offset);
            self.lay_member(
                member.name,
                member.ty,
                (at, bits),
                member.bit_size,
                depth,
                deep,
                out,
            )?;
        }
        let whole = record.size.saturating_mul(8);
        if !record.union && !record.members.is_empty() && end < whole {
            out.push(
                depth,
                start.saturating_add(end),
                whole - end,
                LayoutKind::Hole,
            );
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // a member is that much
    fn lay_member(
        &self,
        name: &str,
        ty: TypeId,
        (at, bits): (u64, u64),
        bit_size: Option<u32>,
        depth: usize,
        deep: usize,
        out: &mut Layout,
    ) -> Result<(), TypeError> {
        let (element, bounds) = self.innermost(ty)?;
        if let Type::Record(inner) = self.resolve(element)?.1
            && (deep > 0 || self.is_unnamed_record(element)?)
            && depth < MAX_NESTING
            && !inner.members.is_empty()
        {
            let title = match inner.name {
                "" => inner.keyword().to_owned(),
                name => format!("{} {name}", inner.keyword()),
            };
            out.push(depth, at, bits, LayoutKind::Open { title });
            let deeper = match self.is_unnamed_record(element)? {
                true => deep,
                false => deep - 1,
            };
            self.open(&inner, at, depth + 1, deeper, out)?;
            let name = format!("{name}{bounds}");
            out.push(depth, at, bits, LayoutKind::Close { name });
            return Ok(());
        }
        let mut declaration = self.declare(ty, name);
        if let Some(width) = bit_size {
            declaration += &format!(":{width}");
        }
        let kind = LayoutKind::Member {
            name: name.to_owned(),
            ty: self.declare(ty, ""),
            declaration,
            bit_field: bit_size.is_some(),
        };
        out.push(depth, at, bits, kind);
        Ok(())
    }

    /// Whether the type is a record that has no name, not even through an alias.
    fn is_unnamed_record(&self, ty: TypeId) -> Result<bool, TypeError> {
        let mut at = ty;
        for _ in 0..MAX_NESTING {
            match self.get(at)? {
                Type::Qualified { target, .. } => at = target,
                Type::Record(record) => return Ok(record.name.is_empty()),
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// What an array of arrays is made of in the end, and its bounds in C; the type itself otherwise.
    pub(super) fn innermost(&self, ty: TypeId) -> Result<(TypeId, String), TypeError> {
        let mut at = ty;
        let mut bounds = String::new();
        for _ in 0..MAX_NESTING {
            let (_, Type::Array { element, count }) = self.resolve(at)? else {
                return Ok((at, bounds));
            };
            bounds += &match count {
                0 => "[]".to_owned(),
                count => format!("[{count}]"),
            };
            at = element;
        }
        Err(TypeError::Damaged(ty.0))
    }
}

impl Record<'_> {
    /// `struct` or `union`.
    pub fn keyword(&self) -> &'static str {
        if self.union { "union" } else { "struct" }
    }
}

impl Encoding {
    /// One word for tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Char => "char",
            Self::Bool => "bool",
        }
    }
}

impl Layout {
    fn push(&mut self, depth: usize, bit_offset: u64, bits: u64, kind: LayoutKind) {
        self.rows.push(LayoutRow {
            depth,
            bit_offset,
            bits,
            kind,
        });
    }
}

impl fmt::Display for Layout {
    /// C, with offset and size of each member in bytes in a comment behind it; of bit-fields, the bit
    /// within the byte and the width in bits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const COLUMN: usize = 56;
        let braces = !matches!(
            self.rows.first(),
            Some(LayoutRow {
                kind: LayoutKind::Plain { .. },
                ..
            })
        );
        if braces {
            writeln!(f, "{} {{", self.title)?;
        }
        for row in &self.rows {
            let indent = "    ".repeat(row.depth + usize::from(braces));
            let (text, places) = match &row.kind {
                LayoutKind::Member { declaration, .. } => (format!("{indent}{declaration};"), true),
                LayoutKind::Open { title } => (format!("{indent}{title} {{"), false),
                LayoutKind::Close { name } if name.is_empty() => (format!("{indent}}};"), true),
                LayoutKind::Close { name } => (format!("{indent}}} {name};"), true),
                LayoutKind::Value { name, value } => (format!("{indent}{name} = {value},"), false),
                LayoutKind::Plain { declaration } => (format!("{indent}{declaration};"), true),
                LayoutKind::Hole => (format!("{indent}/* hole of {} */", amount(row.bits)), true),
            };
            if !places {
                writeln!(f, "{text}")?;
                continue;
            }
            let bit_field = match &row.kind {
                LayoutKind::Member { bit_field, .. } => *bit_field,
                LayoutKind::Hole => row.bits % 8 != 0,
                _ => false,
            };
            let byte = row.bit_offset / 8;
            if bit_field {
                let place = format!("{byte}:{}", row.bit_offset % 8);
                writeln!(f, "{text:COLUMN$} /* {place:>7} {:>6} bits */", row.bits)?;
            } else {
                writeln!(f, "{text:COLUMN$} /* {byte:>7} {:>6} */", row.bits / 8)?;
            }
        }
        if self.cut {
            writeln!(f, "    /* more than {MAX_ROWS} rows: cut off */")?;
        }
        if braces {
            writeln!(f, "}}; /* {} */", amount(self.size.saturating_mul(8)))?;
        }
        Ok(())
    }
}

fn amount(bits: u64) -> String {
    match (bits / 8, bits % 8) {
        (1, 0) => "1 byte".into(),
        (bytes, 0) => format!("{bytes} bytes"),
        (_, _) if bits == 1 => "1 bit".into(),
        (_, _) => format!("{bits} bits"),
    }
}
