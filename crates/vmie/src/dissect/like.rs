//! Whether a place that holds the virtual table of a class is an instance of it.
//!
//! A virtual table's address stands in more places than in instances: functions that make instances leave
//! it on their stacks, and what they leave stays until something else is written over it. A search for the
//! address alone finds those too. So a candidate is laid over an instance that is known, the model:
//!
//! ```text
//! the model has                    the candidate has                        agrees / differs
//!   another virtual table            the same                                 +4
//!                                    anything else                            -6
//!   a string object                  one of the same library                  +3
//!                                    nothing but zeros                         0
//!                                    anything else                            -4
//!   a vector                         one / zeros / anything else              +2 / 0 / -2
//!   a pointer to data                one / null / anything else               +1 / 0 / -2
//!   a pointer to code                one / null / anything else               +1 / 0 / -2
//!   text                             text / zeros / anything else             +2 / 0 / -1
//!   a number                         one of its kind / a pointer              +1 / -2
//!   no pointer to code               a return address                         -4
//! an allocation of the same size                                              +3
//! return addresses before or behind it (a stack)                              -3
//! ```
//!
//! It is an instance when more agrees than differs, or as much. An instance that lies on a stack agrees with
//! the model in its fields and is kept. What differs is said.

use super::fields::classify;
use super::look::{Bytes, Look, word};
use super::{Field, Kind};
use crate::addr::Address;

/// How many words before and behind a candidate are searched for return addresses.
const AROUND: u64 = 16;
/// How many differences are told.
const TOLD: usize = 3;

/// How much a place looks like an instance that is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Likeness {
    /// Whether it is taken for an instance of the same class.
    pub alike: bool,
    /// How much agrees, in the weights of the module's table.
    pub agrees: u32,
    /// How much differs.
    pub differs: u32,
    /// What speaks for and against it.
    pub evidence: String,
}

pub(super) fn likeness<A: Address>(
    look: &mut Look<'_, A>,
    model: A,
    others: &[A],
    len: u64,
) -> Vec<Likeness> {
    let block = look.block(model.raw());
    // What lies behind the allocation belongs to something else.
    let len = block.map_or(len, |block| len.min(block));
    let bytes = look.bytes(model.raw(), len);
    let fields = classify(look, &bytes);
    let mut compare = |at: &A| {
        let mut scale = Scale::default();
        let candidate = look.bytes(at.raw(), len);
        if let Some(block) = block
            && look.block(at.raw()) == Some(block)
        {
            scale.agrees += 3;
            scale
                .notes
                .push("an allocation of the same size".to_owned());
        }
        let own = classify(look, &candidate);
        // The first word is the same: that is how it was found.
        for field in fields.iter().filter(|field| field.offset > 0) {
            weigh(look, &bytes, field, &candidate, &own, &mut scale);
        }
        surroundings(look, at.raw(), len, &mut scale);
        scale.judge()
    };
    others.iter().map(&mut compare).collect()
}

#[derive(Default)]
struct Scale {
    agrees: u32,
    differs: u32,
    fields: usize,
    differences: Vec<String>,
    notes: Vec<String>,
}

impl Scale {
    fn agree(&mut self, weight: u32) {
        self.agrees += weight;
        self.fields += 1;
    }

    fn differ(&mut self, weight: u32, offset: u64, what: &str) {
        self.differs += weight;
        self.differences.push(format!("+{offset:#x} {what}"));
    }

    fn judge(self) -> Likeness {
        let mut parts = vec![match self.fields {
            1 => "1 field agrees".to_owned(),
            fields => format!("{fields} fields agree"),
        }];
        let more = self.differences.len().saturating_sub(TOLD);
        parts.extend(self.differences.into_iter().take(TOLD));
        if more > 0 {
            parts.push(format!("{more} more differ"));
        }
        parts.extend(self.notes);
        Likeness {
            alike: self.agrees >= self.differs,
            agrees: self.agrees,
            differs: self.differs,
            evidence: parts.join("; "),
        }
    }
}

/// Lays one field of the model over the candidate.
fn weigh<A: Address>(
    look: &mut Look<'_, A>,
    model: &Bytes,
    field: &Field,
    candidate: &Bytes,
    own: &[Field],
    scale: &mut Scale,
) {
    let (from, to) = (field.offset as usize, (field.offset + field.len) as usize);
    let Some(bytes) = candidate.bytes.get(from..to) else {
        return;
    };
    if !model.is_read(from, to) || !candidate.is_read(from, to) {
        return;
    }
    let zero = bytes.iter().all(|&byte| byte == 0);
    let offset = field.offset;
    let same = own
        .iter()
        .any(|one| (one.offset, one.len, one.kind) == (offset, field.len, field.kind));
    if field.kind == Kind::Vtable {
        if bytes == &model.bytes[from..to] {
            scale.agree(4);
        } else {
            scale.differ(6, offset, "is not the same virtual table");
        }
        return;
    }
    if zero {
        return;
    }
    match field.kind {
        kind if kind.is_string() => {
            let found = look.string(candidate, from);
            if found.is_some_and(|one| one.kind == kind) {
                scale.agree(3);
            } else {
                scale.differ(4, offset, "is no string object");
            }
        }
        Kind::StdVector => {
            if look.vector(candidate, from).is_some() {
                scale.agree(2);
            } else {
                scale.differ(2, offset, "is no vector");
            }
        }
        Kind::Function => match word(bytes, look.width) {
            Some(value) if look.is_return(value) => {
                scale.differ(4, offset, "is a return address");
            }
            Some(value) if look.is_code(value) => scale.agree(1),
            _ => scale.differ(2, offset, "leads to no code"),
        },
        kind if kind.is_pointer() => match word(bytes, look.width) {
            Some(value) if look.is_return(value) => {
                scale.differ(4, offset, "is a return address");
            }
            Some(value) if look.is_code(value) => scale.differ(2, offset, "leads to code"),
            Some(value) if look.pointee(value).is_some() => scale.agree(1),
            _ => scale.differ(2, offset, "is no pointer"),
        },
        Kind::Utf8 | Kind::Utf16 if same => scale.agree(2),
        Kind::Utf8 | Kind::Utf16 => scale.differ(1, offset, "is no text"),
        _ => numbers(look, field, candidate, same, scale),
    }
}

/// Numbers of the model, and zeros.
fn numbers<A: Address>(
    look: &mut Look<'_, A>,
    field: &Field,
    candidate: &Bytes,
    same: bool,
    scale: &mut Scale,
) {
    let size = look.width.bytes() as u64;
    let address = candidate.at.wrapping_add(field.offset);
    // Every word that begins in the field; a pointer over two numbers counts once.
    let first = field.offset + address.wrapping_neg() % size;
    let mut fine = true;
    for offset in (first..field.offset + field.len).step_by(size as usize) {
        let at = offset as usize;
        let end = at + size as usize;
        if end > candidate.bytes.len() || !candidate.is_read(at, end) {
            continue;
        }
        let Some(value) = word(&candidate.bytes[at..end], look.width) else {
            continue;
        };
        if look.is_return(value) {
            scale.differ(4, offset, "is a return address");
            fine = false;
        } else if field.kind != Kind::Zero && look.pointee(value).is_some() {
            scale.differ(2, offset, "is a pointer");
            fine = false;
        }
    }
    if fine && same && !matches!(field.kind, Kind::Zero | Kind::Unknown) {
        scale.agree(1);
    }
}

/// Return addresses near by.
fn surroundings<A: Address>(look: &mut Look<'_, A>, at: u64, len: u64, scale: &mut Scale) {
    let width = look.width;
    let size = width.bytes() as u64;
    let behind = at.saturating_add(len.next_multiple_of(size));
    for start in [at.saturating_sub(AROUND * size), behind] {
        let bytes = look.some::<{ AROUND as usize * 8 }>(start);
        let words = bytes.chunks_exact(size as usize).take(AROUND as usize);
        for value in words.filter_map(|bytes| word(bytes, width)) {
            if look.is_return(value) {
                scale.differs += 3;
                scale.notes.push("a return address beside it".to_owned());
                return;
            }
        }
    }
}

impl<A: Address> Look<'_, A> {
    /// Whether a word leads to code behind a call, as return addresses do.
    fn is_return(&mut self, value: u64) -> bool {
        const LONGEST: usize = 7;
        if !self.is_code(value) {
            return false;
        }
        let Some(start) = value.checked_sub(LONGEST as u64) else {
            return false;
        };
        let bytes = self.some::<LONGEST>(start);
        bytes.len() == LONGEST && ends_in_call(&bytes)
    }
}

/// Whether the last of these bytes may be a call: `E8` and four bytes, or `FF /2` with its operand.
fn ends_in_call(bytes: &[u8]) -> bool {
    let len = bytes.len();
    if len >= 5 && bytes[len - 5] == 0xe8 {
        return true;
    }
    (2..=len).any(|count| {
        let call = &bytes[len - count..];
        let (modrm, sib) = (call[1], call.get(2).copied().unwrap_or(0));
        let operand = match (modrm >> 6, modrm & 7) {
            (0, 5) => 4,
            (0, 4) if sib & 7 == 5 => 5,
            (0, 4) => 1,
            (1, 4) => 2,
            (1, _) => 1,
            (2, 4) => 5,
            (2, _) => 4,
            _ => 0,
        };
        call[0] == 0xff && (modrm >> 3) & 7 == 2 && count == 2 + operand
    })
}
