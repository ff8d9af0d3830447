//! Objects of the standard library that are known by their shape.
//!
//! ```text
//! std::string of libstdc++ (C++11 on)      std::vector (libstdc++, libc++)
//!   word  text                               word  first element
//!   word  length                             word  behind the last element
//!   16 B  the text, up to 15 bytes of it,    word  behind the last one there is room for
//!         or a word: the capacity
//! ```

use super::look::{Bytes, Look, word};
use super::text::SHOWN;
use super::{Field, Kind, Value};
use crate::addr::Address;

/// The most bytes that a string or vector is believed to have.
const MAX_ROOM: u64 = 1 << 32;

impl<A: Address> Look<'_, A> {
    /// A string object at an offset.
    pub(super) fn string(&mut self, instance: &Bytes, offset: usize) -> Option<Field> {
        let size = self.width.bytes();
        let len = 2 * size + 16;
        let bytes = instance.bytes.get(offset..offset + len)?;
        if !instance.is_read(offset, offset + len) {
            return None;
        }
        let data = word(bytes, self.width)?;
        let used = word(&bytes[size..], self.width)?;
        let local = &bytes[2 * size..];
        let here = instance.at.checked_add((offset + 2 * size) as u64)?;
        let field = |text: String, confidence, evidence: String| Field {
            offset: offset as u64,
            len: len as u64,
            kind: Kind::StdString,
            value: Value::Text(text),
            detail: String::new(),
            confidence,
            evidence,
        };
        if data == here {
            let used = usize::try_from(used).ok().filter(|&used| used <= 15)?;
            let text = shown(&local[..used]).filter(|_| local[used] == 0)?;
            let sure = if used == 0 { 85 } else { 97 };
            let why = "points at its own buffer; length and terminator agree";
            return Some(field(text, sure, why.to_owned()));
        }
        let room = word(local, self.width)?;
        if used > room || !(15..MAX_ROOM).contains(&room) {
            return None;
        }
        if !self.pointee(data)?.write() {
            return None;
        }
        let end = data.checked_add(used)?;
        if self.some::<1>(end) != [0] {
            return None;
        }
        let bytes = self.some::<SHOWN>(data);
        let known = bytes.len().min(usize::try_from(used).ok()?);
        let text = shown(&bytes[..known])?;
        let sure = if used == 0 { 60 } else { 92 };
        let why = format!("text of {used} bytes with its terminator, room for {room}");
        Some(field(text, sure, why))
    }

    /// A vector at an offset.
    pub(super) fn vector(&mut self, instance: &Bytes, offset: usize) -> Option<Field> {
        let size = self.width.bytes();
        let len = 3 * size;
        let bytes = instance.bytes.get(offset..offset + len)?;
        if !instance.is_read(offset, offset + len) {
            return None;
        }
        let begin = word(bytes, self.width)?;
        let end = word(&bytes[size..], self.width)?;
        let top = word(&bytes[2 * size..], self.width)?;
        let (used, room) = (end.checked_sub(begin)?, top.checked_sub(begin)?);
        let aligned = begin.is_multiple_of(size as u64);
        if used > room || !(1..MAX_ROOM).contains(&room) || !aligned {
            return None;
        }
        if !self.pointee(begin)?.write() || !self.one_piece(begin, top - 1) {
            return None;
        }
        let block = self.block(begin);
        let (sure, why) = match block {
            // The block is the allocation: at least the room, and less than 32 bytes more.
            Some(block) if (room..room + 32).contains(&block) => {
                (95, format!("and the allocation there has {block} bytes"))
            }
            Some(block) if block >= room => (58, "in ascending order".to_owned()),
            // Three pointers into different allocations, which happen to ascend.
            Some(_) => return None,
            None => (55, "in ascending order, one piece of memory".to_owned()),
        };
        Some(Field {
            offset: offset as u64,
            len: len as u64,
            kind: Kind::StdVector,
            value: Value::Room { used, room },
            detail: format!("at {begin:#x}"),
            confidence: sure,
            evidence: format!("begin, end and end of capacity, {why}"),
        })
    }

    /// How many bytes the allocation at an address has, as glibc's malloc notes it in the word before;
    /// `None` when that is not its form.
    fn block(&self, at: u64) -> Option<u64> {
        let size = self.width.bytes() as u64;
        let noted = self.word(at.checked_sub(size)?)?;
        let total = noted & !7;
        // Bit 0 is nearly always set: the block before is in use.
        let plausible = noted & 1 == 1 && total.is_multiple_of(2 * size);
        (plausible && (4 * size..MAX_ROOM).contains(&total)).then(|| total - size)
    }
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
    let fine = text
        .chars()
        .all(|c| !c.is_control() || "\t\r\n".contains(c));
    fine.then(|| text.to_owned())
}
