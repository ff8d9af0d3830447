//! `std::vector`, which is known by its shape: three words that ascend.
//!
//! ```text
//! libstdc++, libc++, Visual C++
//!   word  first element
//!   word  behind the last element
//!   word  behind the last one there is room for
//! ```
//!
//! Three pointers that happen to ascend look the same. Where malloc notes the size of an allocation (glibc
//! does), that decides. Elsewhere what is in the vector must speak for it: elements that are all pointers, or
//! a capacity that growing by doubling would have reached.

use super::look::{Bytes, Look, word};
use super::{Field, Kind, Value};
use crate::addr::Address;

/// The most bytes that a string or vector is believed to have.
pub(super) const MAX_ROOM: u64 = 1 << 32;

impl<A: Address> Look<'_, A> {
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
            None if self.holds_pointers(begin, used) => (
                80,
                "in ascending order, and all elements are pointers".to_owned(),
            ),
            // More than a mere pointer is believed: vectors grow by a half or by doubling.
            None if used > 0 && begin.is_multiple_of(16) && room <= 2 * used.max(32) => {
                let why = "in ascending order, one piece of memory, at most twice what is used";
                (67, why.to_owned())
            }
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

    /// Whether there are at least two words from `begin` on, all pointers, as far as a few of them tell.
    fn holds_pointers(&mut self, begin: u64, used: u64) -> bool {
        let size = self.width.bytes();
        let bytes = self.some::<128>(begin);
        let known = bytes.len().min(usize::try_from(used).unwrap_or(usize::MAX));
        let words = bytes[..known].chunks_exact(size);
        let all: Vec<u64> = words.filter_map(|bytes| word(bytes, self.width)).collect();
        used.is_multiple_of(size as u64)
            && all.len() >= 2
            && all.iter().all(|&value| self.pointee(value).is_some())
    }

    /// How many bytes the allocation at an address has, as glibc's malloc notes it in the word before;
    /// `None` when that is not its form.
    pub(super) fn block(&self, at: u64) -> Option<u64> {
        let size = self.width.bytes() as u64;
        let noted = self.word(at.checked_sub(size)?)?;
        let total = noted & !7;
        // Bit 0 is nearly always set: the block before is in use.
        let plausible = noted & 1 == 1 && total.is_multiple_of(2 * size);
        (plausible && (4 * size..MAX_ROOM).contains(&total)).then(|| total - size)
    }
}
