//! Arrays of words: tables of pointers, heads of hash tables.

use super::findings::{Budget, Findings};
use super::pointer::{BadLink, link};
use crate::addr::{Address, Gva, PAGE_SIZE};
use crate::memory::{Memory, read_around_holes};
use crate::os::FindingKind;

/// Elements of an array, each of which has one word that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Words {
    /// How many elements there are.
    pub count: u64,
    /// Bytes from one to the next.
    pub stride: u64,
    /// Where in an element the word is.
    pub offset: u64,
}

impl Words {
    /// The words that are not null, of the array at `at`, with their numbers, ascending. What cannot be read is a
    /// finding; behind what is not mapped the array does not go on.
    ///
    /// Cost: one read a page. Each page and each word that is not null is a step of the budget.
    pub fn read(
        self,
        memory: &dyn Memory<Addr = Gva>,
        at: Gva,
        what: &str,
        budget: &mut Budget,
        findings: &mut Findings,
    ) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        let stride = self.stride.max(8);
        let each = (PAGE_SIZE / stride).max(1);
        // Of an element only its word is read when elements are large.
        let mut buffer = vec![0; PAGE_SIZE.min(stride.saturating_mul(each)) as usize];
        let mut index = 0;
        while index < self.count {
            if !budget.take() {
                let text = format!("the {what} are more than memory has room for");
                findings.add(FindingKind::Limit, Some(at), text);
                break;
            }
            let some = each.min(self.count - index);
            let distance = index.wrapping_mul(stride).wrapping_add(self.offset);
            let here = Gva(at.raw().wrapping_add(distance));
            // Up to the last word, and no further: what is behind the array need not be mapped.
            let len = ((some - 1) * stride + 8) as usize;
            let bytes = &mut buffer[..len];
            bytes.fill(0);
            let mut fault = None;
            let mut holes = Vec::new();
            read_around_holes(memory, here, bytes, PAGE_SIZE, |offset, len, hole| {
                fault.get_or_insert(hole);
                holes.push(offset..offset + len);
            });
            for hole in holes {
                bytes[hole].fill(0);
            }
            for slot in 0..some {
                let word = &bytes[(slot * stride) as usize..][..8];
                let value = u64::from_le_bytes(word.try_into().unwrap_or_default());
                if value == 0 {
                    continue;
                }
                if !budget.take() {
                    let text = format!("the {what} are more than memory has room for");
                    findings.add(FindingKind::Limit, Some(at), text);
                    return found;
                }
                found.push((index + slot, value));
            }
            if let Some(fault) = fault {
                let pointer = here.raw();
                let bad = BadLink::Fault { pointer, fault };
                findings.bad_link(bad, at, format!("the array of {what}"));
                if fault.cause.is_unmapped() {
                    break;
                }
            }
            index += some;
        }
        found
    }

    /// The same for words that are pointers. Those that do not lead to an object are findings.
    pub fn pointers(
        self,
        memory: &dyn Memory<Addr = Gva>,
        at: Gva,
        what: &str,
        budget: &mut Budget,
        findings: &mut Findings,
    ) -> Vec<(u64, Gva)> {
        let words = self.read(memory, at, what, budget, findings);
        let pointer = |(index, value)| match link(value) {
            Ok(pointer) => Some((index, pointer)),
            Err(bad) => {
                findings.bad_link(bad, at, format!("number {index} of the {what}"));
                None
            }
        };
        words.into_iter().filter_map(pointer).collect()
    }
}
