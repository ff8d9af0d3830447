//! pmap.h: what an object is made of.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use vmie::dissect::{Dissector, Field, Kind, MAX_LEN, Value};
use vmie::{AddrRange, Coverage, Gva};

use crate::coverage;
use crate::error::{Code, Error};
use crate::guard::guard;
use crate::list::List;
use crate::memmodel::{Mem, handle};
use crate::pmap::width as pointer_width;

/// `STRUCT_TEXT_SIZE`.
const TEXT: usize = 256;

/// `struct_field`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CField {
    offset: u64,
    len: u64,
    number: u64,
    room: u64,
    real: f64,
    kind: u32,
    value: u32,
    confidence: u32,
    cut: u32,
    text: [c_char; TEXT],
    detail: [c_char; TEXT],
    evidence: [c_char; TEXT],
}

const _: () = assert!(size_of::<CField>() == 824);

/// The kinds, each at its number less one, and their names.
const KINDS: [(Kind, &CStr); 20] = [
    (Kind::Vtable, c"vtable"),
    (Kind::Function, c"function"),
    (Kind::Object, c"object"),
    (Kind::String, c"string"),
    (Kind::Pointer, c"pointer"),
    (Kind::StdString, c"std::string"),
    (Kind::LibcxxString, c"std::string"),
    (Kind::LibcxxAltString, c"std::string"),
    (Kind::MsvcString, c"std::string"),
    (Kind::MsvcWstring, c"std::wstring"),
    (Kind::StdVector, c"std::vector"),
    (Kind::Utf8, c"utf8"),
    (Kind::Utf16, c"utf16"),
    (Kind::Float, c"float"),
    (Kind::Double, c"double"),
    (Kind::Integer, c"integer"),
    (Kind::Flags, c"flags"),
    (Kind::Unknown, c"unknown"),
    (Kind::Zero, c"zero"),
    (Kind::Unreadable, c"unreadable"),
];

/// `STRUCT_UNKNOWN`.
const UNKNOWN: u32 = 18;

/// A kind's number; one that the header does not have yet is nothing in particular.
fn kind_number(kind: Kind) -> u32 {
    let index = KINDS.iter().position(|&(known, _)| known == kind);
    index.map_or(UNKNOWN, |index| index as u32 + 1)
}

/// Text as C has it, cut between characters where it is too long; whether it was cut.
fn fixed(text: &str) -> ([c_char; TEXT], bool) {
    let text = text.replace('\0', "\u{fffd}");
    let end = text.floor_char_boundary(TEXT - 1);
    let mut room = [0; TEXT];
    for (place, &byte) in room.iter_mut().zip(&text.as_bytes()[..end]) {
        *place = byte as c_char;
    }
    (room, end < text.len())
}

impl CField {
    fn new(field: &Field) -> Self {
        let (text, text_cut) = fixed(&field.value.to_string());
        let (detail, detail_cut) = fixed(&field.detail);
        let (evidence, evidence_cut) = fixed(&field.evidence);
        let (value, number, room, real) = match field.value {
            Value::Address(at) => (1, at, 0, 0.0),
            Value::Integer(number) => (2, number.cast_unsigned(), 0, 0.0),
            Value::Bits(bits) => (3, bits, 0, 0.0),
            Value::Float(real) => (4, 0, 0, real.into()),
            Value::Double(real) => (4, 0, 0, real),
            Value::Text(_) => (5, 0, 0, 0.0),
            Value::Room { used, room } => (6, used, room, 0.0),
            // Zeros, what was not read, and what the header does not know yet.
            _ => (0, 0, 0, 0.0),
        };
        let cut = u32::from(text_cut) | u32::from(detail_cut) << 1 | u32::from(evidence_cut) << 2;
        Self {
            offset: field.offset,
            len: field.len,
            number,
            room,
            real,
            kind: kind_number(field.kind),
            value,
            confidence: field.confidence.into(),
            cut,
            text,
            detail,
            evidence,
        }
    }
}

/// What of the object's own bytes was read.
fn covered(start: Gva, fields: &[Field]) -> Coverage<Gva> {
    let mut coverage = Coverage::default();
    for field in fields {
        match (&field.value, start.0.checked_add(field.offset)) {
            (&Value::Unread(cause), Some(at)) => coverage.add_gap(Gva(at), field.len, cause),
            _ => coverage.add_read(field.len),
        }
    }
    coverage
}

/// See pmap.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `fields` is NULL or has room for `max` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn struct_dissect(
    m: *mut Mem,
    cr3: usize,
    addr: u64,
    len: u64,
    fields: *mut CField,
    max: c_int,
) -> c_int {
    guard(-1, || {
        // SAFETY: the caller's contract.
        unsafe { dissect(m, cr3, (addr, len), 0, (fields, max)) }
    })
}

/// See pmap.h.
///
/// # Safety
///
/// As [`struct_dissect`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn struct_dissect_width(
    m: *mut Mem,
    cr3: usize,
    addr: u64,
    len: u64,
    width: u32,
    fields: *mut CField,
    max: c_int,
) -> c_int {
    guard(-1, || {
        if width == 0 {
            coverage::clear();
            return Err(Error::argument("pointers of 0 bytes; expected 4 or 8"));
        }
        // SAFETY: the caller's contract.
        unsafe { dissect(m, cr3, (addr, len), width, (fields, max)) }
    })
}

/// # Safety
///
/// As [`struct_dissect`].
unsafe fn dissect(
    m: *mut Mem,
    cr3: usize,
    (addr, len): (u64, u64),
    width: u32,
    (fields, max): (*mut CField, c_int),
) -> Result<c_int, Error> {
    coverage::clear();
    // SAFETY: the caller's contract.
    let m = unsafe { handle(m) }?;
    // SAFETY: the caller's contract.
    let mut list = unsafe { List::new(fields, max) }?;
    let typed = pointer_width(width)?;
    if AddrRange::new(Gva(addr), len).is_none() {
        return Err(Error::argument(format!(
            "an object of {len:#x} bytes at {addr:#x} is none, or goes beyond the address space"
        )));
    }
    if len > MAX_LEN {
        return Err(Error::new(
            Code::Limit,
            format!("an object of {len:#x} bytes; no more than {MAX_LEN:#x} are looked at"),
        ));
    }
    let space = m.space(cr3)?;
    let width = typed.or_else(|| m.width(&space, addr).pointers);
    let width = width.unwrap_or_default();
    let found = Dissector::new(&*space.memory, width).instance(Gva(addr), len);
    coverage::searched(&covered(Gva(addr), &found), false)?;
    for field in &found {
        list.push(CField::new(field));
    }
    Ok(list.total())
}

/// See pmap.h.
#[unsafe(no_mangle)]
pub extern "C" fn struct_kind_name(kind: u32) -> *const c_char {
    guard(ptr::null(), || {
        let name = kind
            .checked_sub(1)
            .and_then(|index| KINDS.get(index as usize));
        let (_, name) =
            name.ok_or_else(|| Error::argument(format!("{kind} is no STRUCT_ kind")))?;
        Ok(name.as_ptr())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_names_and_numbers_of_the_header() {
        let header = include_str!("../include/pmap.h");
        for (index, (kind, name)) in KINDS.into_iter().enumerate() {
            assert_eq!(name.to_str(), Ok(kind.label()));
            assert_eq!(kind_number(kind) as usize, index + 1);
        }
        let from = header.find("STRUCT_VTABLE = 1").expect("the first kind");
        let to = header.find("STRUCT_UNREADABLE").expect("the last kind");
        let numbers: Vec<u32> = header[from..to + 40]
            .lines()
            .filter_map(|line| line.trim().strip_prefix("STRUCT_")?.split_once(" = "))
            .filter_map(|(_, rest)| {
                let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
                digits?.parse().ok()
            })
            .collect();
        assert_eq!(numbers, (1..=20).collect::<Vec<u32>>());
        assert!(header.contains("STRUCT_UNKNOWN = 18,"));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let shown = |room: [c_char; TEXT]| {
            let bytes: Vec<u8> = room
                .iter()
                .map(|&c| c as u8)
                .take_while(|&c| c != 0)
                .collect();
            String::from_utf8(bytes).expect("whole characters")
        };
        let (room, cut) = fixed("a\0b");
        assert_eq!((shown(room), cut), ("a\u{fffd}b".to_owned(), false));
        let exact = "x".repeat(TEXT - 1);
        let (room, cut) = fixed(&exact);
        assert_eq!((shown(room), cut), (exact, false));
        let (room, cut) = fixed(&"\u{e9}".repeat(TEXT));
        assert_eq!((shown(room), cut), ("\u{e9}".repeat((TEXT - 1) / 2), true));
    }
}
