//! String objects of the standard libraries, which are known by their shape.
//!
//! ```text
//! libstdc++ (C++11 on), 2 words + 16 bytes      Visual C++, 16 bytes + 2 words
//!   word  text                                    16 B  the text, up to 15 bytes of it, or a word: where
//!   word  length                                        it is
//!   16 B  the text, up to 15 bytes of it,         word  length
//!         or a word: the capacity                 word  capacity: 15 in place, else 16 or more, one less
//!                                                       than a multiple of 16
//!                                                 std::wstring: the same in units of two bytes, 7 and 8
//! libc++, 3 words, as it usually is             libc++, alternate layout (Apple's arm64)
//!   in place: 1 B twice the length, the text      in place: the text, at the end 1 B the length
//!   word  bytes allocated, lowest bit set         word  text
//!   word  length                                  word  length
//!   word  text                                    word  bytes allocated, highest bit set
//! ```
//!
//! All have a terminator behind the text, so length, text and terminator must agree. That is what tells
//! strings from chance; an empty one has little that could agree, and is seldom believed.
//!
//! Sources: `basic_string.h` of libstdc++, `__string/basic_string.h` of libc++ (`__long`, `__short`),
//! `xstring` of Microsoft's STL (`_String_val`): the layouts as published, which their ABIs freeze.

use super::look::{Bytes, Look, word};
use super::shape::MAX_ROOM;
use super::text::SHOWN;
use super::{Field, Kind, Value};
use crate::addr::Address;
use crate::pointers::Width;

/// What a shape that fits says.
struct Found {
    kind: Kind,
    len: usize,
    text: String,
    confidence: u8,
    evidence: String,
}

impl<A: Address> Look<'_, A> {
    /// The string object at an offset, of whichever library fits best.
    pub(super) fn string(&mut self, instance: &Bytes, offset: usize) -> Option<Field> {
        let shapes = [
            self.gnu(instance, offset),
            self.llvm_in_place(instance, offset),
            self.llvm_elsewhere(instance, offset),
            self.microsoft(instance, offset, false),
            self.microsoft(instance, offset, true),
        ];
        // The first of equals: the same in every run.
        let best = shapes.into_iter().flatten().reduce(|best, one| {
            if one.confidence > best.confidence {
                one
            } else {
                best
            }
        })?;
        Some(Field {
            offset: offset as u64,
            len: best.len as u64,
            kind: best.kind,
            value: Value::Text(best.text),
            detail: best.kind.library().to_owned(),
            confidence: best.confidence,
            evidence: best.evidence,
        })
    }

    fn gnu(&mut self, instance: &Bytes, offset: usize) -> Option<Found> {
        let size = self.width.bytes();
        let bytes = part(instance, offset, 2 * size + 16)?;
        let data = word(bytes, self.width)?;
        let used = word(&bytes[size..], self.width)?;
        let local = &bytes[2 * size..];
        let found = |text, confidence, evidence| Found {
            kind: Kind::StdString,
            len: 2 * size + 16,
            text,
            confidence,
            evidence,
        };
        if Some(data) == instance.at.checked_add((offset + 2 * size) as u64) {
            let used = usize::try_from(used).ok().filter(|&used| used <= 15)?;
            let text = whole(&local[..used]).filter(|_| local[used] == 0)?;
            let sure = if used == 0 { 85 } else { 97 };
            let why = "points at its own buffer; length and terminator agree";
            return Some(found(text, sure, why.to_owned()));
        }
        let room = word(local, self.width)?;
        if room < 15 {
            return None;
        }
        let (text, sure, why) = self.elsewhere(data, used, room, 1)?;
        Some(found(text, sure, why))
    }

    fn llvm_in_place(&mut self, instance: &Bytes, offset: usize) -> Option<Found> {
        let len = 3 * self.width.bytes();
        let bytes = part(instance, offset, len)?;
        let (first, last) = (bytes[0], bytes[len - 1]);
        // Usually the text is behind its length; in the alternate layout it is before.
        let usual = (first & 1 == 0).then(|| (usize::from(first / 2), &bytes[1..]));
        let alternate = (last & 0x80 == 0).then(|| (usize::from(last), &bytes[..len - 1]));
        let fits = |(used, room): (usize, &[u8])| {
            if used == 0 || used >= room.len() || room[used] != 0 {
                return None;
            }
            let text = whole(&room[..used]).filter(|text| !text.contains('\0'))?;
            // A byte that happens to be the length of the text beside it: one in 256, and fewer the longer
            // the text is. Nothing behind the text speaks for a string that never was longer.
            let clean = room[used..].iter().all(|&byte| byte == 0);
            let sure = match used {
                1 => 30,
                2 | 3 => 52,
                _ => 88,
            } + if clean { 6 } else { 0 };
            Some((text, sure))
        };
        let (kind, (text, confidence), where_) = match (
            usual
                .and_then(fits)
                .map(|fit| (Kind::LibcxxString, fit, "before")),
            alternate
                .and_then(fits)
                .map(|fit| (Kind::LibcxxAltString, fit, "at the end")),
        ) {
            (Some(one), Some(other)) if other.1.1 > one.1.1 => other,
            (Some(one), _) => one,
            (None, Some(other)) => other,
            (None, None) => return None,
        };
        Some(Found {
            kind,
            len,
            text,
            confidence,
            evidence: format!("text in place; the length {where_} and the terminator agree"),
        })
    }

    fn llvm_elsewhere(&mut self, instance: &Bytes, offset: usize) -> Option<Found> {
        let size = self.width.bytes();
        let bytes = part(instance, offset, 3 * size)?;
        let part = |index: usize| word(&bytes[index * size..], self.width);
        let (first, used, last) = (part(0)?, part(1)?, part(2)?);
        let high = match self.width {
            Width::Four => 1 << 31,
            Width::Eight => 1 << 63,
        };
        let (kind, data, allocated) = if last & high != 0 {
            (Kind::LibcxxAltString, first, last & !high)
        } else if first & 1 == 1 {
            (Kind::LibcxxString, last, first & !1)
        } else {
            return None;
        };
        // With the terminator, and more than fits in place.
        let room = allocated
            .checked_sub(1)
            .filter(|&room| room >= 3 * size as u64 - 2)?;
        let (text, confidence, evidence) = self.elsewhere(data, used, room, 1)?;
        Some(Found {
            kind,
            len: 3 * size,
            text,
            confidence,
            evidence: format!("{evidence}, marked as long"),
        })
    }

    fn microsoft(&mut self, instance: &Bytes, offset: usize, wide: bool) -> Option<Found> {
        let size = self.width.bytes();
        let bytes = part(instance, offset, 16 + 2 * size)?;
        let unit = if wide { 2 } else { 1 };
        let in_place = 16 / unit as u64 - 1;
        let used = word(&bytes[16..], self.width)?;
        let room = word(&bytes[16 + size..], self.width)?;
        let found = |text, confidence, evidence| Found {
            kind: if wide {
                Kind::MsvcWstring
            } else {
                Kind::MsvcString
            },
            len: 16 + 2 * size,
            text,
            confidence,
            evidence,
        };
        // Capacities are rounded up so that, with the terminator, they fill multiples of 16 bytes.
        if used > room || room & in_place != in_place {
            return None;
        }
        if room == in_place {
            let end = usize::try_from(used).ok()? * unit;
            let ended = bytes[end..end + unit].iter().all(|&byte| byte == 0);
            let text = if wide {
                shown_wide(&bytes[..end]).filter(|text| text.encode_utf16().count() * 2 == end)
            } else {
                whole(&bytes[..end])
            };
            let text = text.filter(|text| ended && !text.contains('\0'))?;
            let sure = match used {
                // Nothing but a small number, 7 or 15.
                0 if bytes[..16].iter().any(|&byte| byte != 0) => return None,
                0 => 50,
                1 => 80,
                _ => 95,
            };
            let why = format!("text in place; length, terminator and the capacity of {room} agree");
            return Some(found(text, sure, why));
        }
        let (text, sure, why) = self.elsewhere(word(bytes, self.width)?, used, room, unit)?;
        Some(found(text, sure, why))
    }

    /// Text at an address, with a length and a capacity in units: the text, how sure that is, and why.
    fn elsewhere(
        &mut self,
        data: u64,
        used: u64,
        room: u64,
        unit: usize,
    ) -> Option<(String, u8, String)> {
        if used > room || room >= MAX_ROOM || !self.pointee(data)?.write() {
            return None;
        }
        let len = used.checked_mul(unit as u64)?;
        let end = data.checked_add(len)?;
        let terminator = self.some::<2>(end);
        if terminator.len() < unit || terminator[..unit].iter().any(|&byte| byte != 0) {
            return None;
        }
        let bytes = self.some::<{ 2 * SHOWN }>(data);
        let known = bytes
            .len()
            .min(SHOWN * unit)
            .min(usize::try_from(len).ok()?);
        let text = match unit {
            1 => shown(&bytes[..known])?,
            _ => shown_wide(&bytes[..known])?,
        };
        let sure = if used == 0 { 60 } else { 92 };
        let units = if unit == 1 { "bytes" } else { "units" };
        let why = format!("text of {used} {units} with its terminator, room for {room}");
        Some((text, sure, why))
    }
}

/// A part of an instance that was read.
fn part(instance: &Bytes, offset: usize, len: usize) -> Option<&[u8]> {
    let bytes = instance.bytes.get(offset..offset.checked_add(len)?)?;
    instance.is_read(offset, offset + len).then_some(bytes)
}

/// The bytes as text, cut; `None` when they are not text.
fn shown(bytes: &[u8]) -> Option<String> {
    // A cut may fall into a character.
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    text.chars().all(is_fine).then(|| text.to_owned())
}

/// The same of a text of which all is there: half a character at its end is none.
fn whole(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.chars().all(is_fine).then(|| text.to_owned())
}

/// The same for UTF-16.
fn shown_wide(bytes: &[u8]) -> Option<String> {
    let units = bytes.as_chunks::<2>().0.iter().copied();
    let mut text = String::new();
    let mut chars = char::decode_utf16(units.map(u16::from_le_bytes)).peekable();
    while let Some(one) = chars.next() {
        match one {
            Ok(c) if is_fine(c) => text.push(c),
            // Half a character, where the text was cut.
            Err(_) if chars.peek().is_none() => break,
            _ => return None,
        }
    }
    Some(text)
}

fn is_fine(c: char) -> bool {
    !c.is_control() || "\t\r\n".contains(c)
}
