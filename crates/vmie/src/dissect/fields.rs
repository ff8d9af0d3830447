//! One instance, from the front to the back.

use super::look::{Bytes, Look, u32_at, word};
use super::number::{Reading, eight, four, small};
use super::text::{Text, utf8, utf16};
use super::{Field, Kind, Value};
use crate::addr::Address;
use crate::pointers::Width;

/// The fields of an instance. They cover all of it, in order.
pub(super) fn classify<A: Address>(look: &mut Look<'_, A>, instance: &Bytes) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut at = 0;
    for &(from, to, cause) in &instance.holes {
        stretch(look, instance, at, from, &mut fields);
        fields.push(Field {
            offset: from as u64,
            len: (to - from) as u64,
            kind: Kind::Unreadable,
            value: Value::Unread(cause),
            detail: String::new(),
            confidence: 100,
            evidence: cause.to_string(),
        });
        at = to;
    }
    stretch(look, instance, at, instance.bytes.len(), &mut fields);
    fields
}

/// The fields of a part that was read.
fn stretch<A: Address>(
    look: &mut Look<'_, A>,
    instance: &Bytes,
    mut at: usize,
    end: usize,
    fields: &mut Vec<Field>,
) {
    while at < end {
        let before = at;
        if let Some(field) = pointers(look, instance, at, end) {
            at += field.len as usize;
            fields.push(field);
        } else if let Some((start, text, wide)) = text_near(look, instance, at, end) {
            numbers(instance, at, start, fields);
            at = start + text.len;
            fields.push(text_field(start, text, wide));
        } else {
            let to = unit(look, instance, at, end);
            numbers(instance, at, to, fields);
            at = to;
        }
        debug_assert!(at > before, "every turn takes at least a byte");
    }
}

/// Where the unit of numbers that begins at `at` ends: at the next border of eight bytes, or before the
/// next pointer where pointers have four.
fn unit<A: Address>(look: &mut Look<'_, A>, instance: &Bytes, at: usize, end: usize) -> usize {
    let address = instance.at.wrapping_add(at as u64);
    let to_border = (8 - address % 8) as usize;
    let middle = at + 4;
    if look.width == Width::Four
        && to_border == 8
        && middle < end
        && word(&instance.bytes[middle..end], Width::Four)
            .is_some_and(|value| look.pointee(value).is_some())
    {
        return middle;
    }
    end.min(at + to_border)
}

/// A field that is a pointer, or an object of the standard library, which may begin with anything.
fn pointers<A: Address>(
    look: &mut Look<'_, A>,
    instance: &Bytes,
    at: usize,
    end: usize,
) -> Option<Field> {
    let width = look.width;
    let address = instance.at.wrapping_add(at as u64);
    if !address.is_multiple_of(width.bytes() as u64) || at + width.bytes() > end {
        return None;
    }
    let value = word(&instance.bytes[at..end], width)?;
    let prot = look.pointee(value);
    let single = prot.map(|prot| pointer(look, at, value, prot.to_string()));
    // The table first: nothing else is as telling.
    if let Some(table) = &single
        && table.kind == Kind::Vtable
        && table.confidence > 90
    {
        return single;
    }
    // What is no pointer must be more than a number to be a string.
    let mut least = single.as_ref().map_or(55, |single| single.confidence);
    let mut best = single;
    for shape in [look.string(instance, at), look.vector(instance, at)] {
        if let Some(shape) = shape.filter(|shape| shape.confidence > least) {
            least = shape.confidence;
            best = Some(shape);
        }
    }
    best
}

/// What one word leads to.
fn pointer<A: Address>(look: &mut Look<'_, A>, at: usize, value: u64, prot: String) -> Field {
    let width = look.width.bytes();
    let field = |kind, detail, confidence, evidence| Field {
        offset: at as u64,
        len: width as u64,
        kind,
        value: Value::Address(value),
        detail,
        confidence,
        evidence,
    };
    if look.is_code(value) {
        let evidence = format!("leads to code ({prot})");
        return field(Kind::Function, String::new(), 80, evidence);
    }
    if let Some(table) = look.vtable(value) {
        let slots = match table.slots {
            1 => "1 slot".to_owned(),
            slots => format!("{slots} slots"),
        };
        let detail = match table.class() {
            class if class.is_empty() => slots,
            class => format!("{class}, {slots}"),
        };
        let (sure, why) = (table.confidence(), table.evidence());
        return field(Kind::Vtable, detail, sure, why);
    }
    let word = look.word(value);
    if let Some(table) = word.and_then(|word| look.vtable(word)) {
        let why = format!("leads to a virtual table: {}", table.evidence());
        let sure = table.confidence().saturating_sub(5);
        return field(Kind::Object, table.class(), sure, why);
    }
    // A pointer on a heap may happen to be made of letters.
    let aligned = value.is_multiple_of(width as u64);
    let leads_on = aligned && word.is_some_and(|word| look.pointee(word).is_some());
    let is_word = |text: &Text| leads_on && text.len <= width + 1;
    if let Some((text, wide)) = look.text(value).filter(|(text, _)| !is_word(text)) {
        let sure = text.confidence().min(90);
        let form = if wide { "UTF-16" } else { "text" };
        let why = format!(
            "leads to {form} of {} characters or more ({prot})",
            text.chars
        );
        let detail = format!("\"{}\"", text.text);
        return field(Kind::String, detail, sure, why);
    }
    let sure = if aligned { 65 } else { 45 };
    let why = format!("leads to mapped memory ({prot})");
    field(Kind::Pointer, String::new(), sure, why)
}

/// Text that begins at `at` or before the next place where a pointer may be.
fn text_near<A: Address>(
    look: &mut Look<'_, A>,
    instance: &Bytes,
    at: usize,
    end: usize,
) -> Option<(usize, Text, bool)> {
    const SURE: u8 = 50;
    let address = instance.at.wrapping_add(at as u64);
    let width = look.width.bytes() as u64;
    let next = at + (width - address % width) as usize;
    let bytes = &instance.bytes[..end];
    let found = (at..next.min(end)).find_map(|start| {
        let even = address.wrapping_add((start - at) as u64).is_multiple_of(2);
        let wide = utf16(&bytes[start..]).filter(|text| even && text.confidence() >= SURE);
        if let Some(text) = wide {
            return Some((start, text, true));
        }
        let text = utf8(&bytes[start..]).filter(|text| text.confidence() >= SURE)?;
        Some((start, text, false))
    });
    found.filter(|(start, text, _)| !ends_in_pointer(look, instance, *start, text, end))
}

/// Whether what looks like text goes on from one word into the next and ends within that, which is a pointer: the end of a
/// number and the beginning of an address may be letters by chance.
fn ends_in_pointer<A: Address>(
    look: &mut Look<'_, A>,
    instance: &Bytes,
    start: usize,
    text: &Text,
    end: usize,
) -> bool {
    let width = look.width.bytes();
    let letters = text.len - usize::from(text.terminated);
    let last = start + letters - 1;
    let into = (instance.at.wrapping_add(last as u64) % width as u64) as usize;
    let Some(word) = last.checked_sub(into).filter(|&word| word > start) else {
        return false;
    };
    let Some(behind) = instance.bytes.get(last + 1..(word + width).min(end)) else {
        return false;
    };
    let Some(field) = pointers(look, instance, word, end) else {
        return false;
    };
    // Behind the end of a text there is padding.
    if behind.iter().any(|&byte| byte != 0) {
        return true;
    }
    // All of a small address may be letters, with zeros above them. Of eight bytes hardly any four letters are mapped by
    // chance; three are in a program that is not relocated, and four in one of 32 bits.
    let by_chance = width < 8 || into < 3;
    word - start < width && (!by_chance || field.confidence > text.confidence())
}

fn text_field(at: usize, text: Text, wide: bool) -> Field {
    let kind = if wide { Kind::Utf16 } else { Kind::Utf8 };
    let end = if text.terminated {
        "and a terminator"
    } else {
        "without terminator"
    };
    Field {
        offset: at as u64,
        len: text.len as u64,
        kind,
        confidence: text.confidence(),
        evidence: format!("{} characters {end}", text.chars),
        value: Value::Text(text.text),
        detail: String::new(),
    }
}

/// Fields for bytes that are neither pointers nor text.
fn numbers(instance: &Bytes, mut at: usize, end: usize, fields: &mut Vec<Field>) {
    while at < end {
        let address = instance.at.wrapping_add(at as u64);
        let bytes = &instance.bytes[at..end];
        let readings = match bytes.first_chunk::<8>() {
            Some(bytes) if address.is_multiple_of(8) => eight(u64::from_le_bytes(*bytes)),
            _ => match u32_at(bytes, 0) {
                Some(bits) if address.is_multiple_of(4) => vec![four(bits)],
                _ => {
                    // Up to the border where a larger number may begin.
                    let len = if address.is_multiple_of(2) { 2 } else { 1 };
                    vec![small(&bytes[..len.min(bytes.len())])]
                }
            },
        };
        for reading in readings {
            let Reading {
                len,
                kind,
                value,
                confidence,
                evidence,
            } = reading;
            fields.push(Field {
                offset: at as u64,
                len: len as u64,
                kind,
                value,
                detail: String::new(),
                confidence,
                evidence: evidence.to_owned(),
            });
            at += len;
        }
    }
}

/// What bytes hold when they are a field of this kind.
pub(super) fn value(kind: Kind, bytes: &[u8], width: Width) -> Value {
    if bytes.iter().all(|&byte| byte == 0) {
        return Value::Zeros;
    }
    let mut padded = [0; 8];
    let len = bytes.len().min(8);
    padded[..len].copy_from_slice(&bytes[..len]);
    let bits = u64::from_le_bytes(padded);
    match kind {
        Kind::Float => Value::Float(f32::from_bits(bits as u32)),
        Kind::Double => Value::Double(f64::from_bits(bits)),
        Kind::Integer if bytes.len() >= 4 => {
            let unused = 64 - 8 * len as u32;
            Value::Integer((bits << unused).cast_signed() >> unused)
        }
        Kind::Integer => Value::Integer(bits.cast_signed()),
        Kind::Utf8 | Kind::Utf16 => match (utf8(bytes), utf16(bytes)) {
            (Some(text), _) if kind == Kind::Utf8 => Value::Text(text.text),
            (_, Some(text)) if kind == Kind::Utf16 => Value::Text(text.text),
            _ => Value::Bits(bits),
        },
        Kind::StdVector => {
            let size = width.bytes();
            let part = |index: usize| bytes.get(index * size..).and_then(|part| word(part, width));
            match (part(0), part(1), part(2)) {
                (Some(begin), Some(end), Some(top)) if begin <= end && end <= top => Value::Room {
                    used: end - begin,
                    room: top - begin,
                },
                _ => Value::Bits(bits),
            }
        }
        kind if kind.is_pointer() => Value::Address(bits),
        _ => Value::Bits(bits),
    }
}
