//! Numbers that are two: told by how several instances differ.
//!
//! One instance cannot tell `{u16, u8}` from a number of four bytes. Several can, by what numbers do: their
//! low bytes vary at least as much as their high ones. So a number of four bytes (or of eight whose upper
//! half is zero everywhere) is taken for two where
//!
//! - its second byte is zero in all instances and what is above it is not, or
//! - its lower half takes fewer values than its upper half, which takes at least three;
//!
//! and two bytes for two numbers by the latter. Numbers that are multiples of a power of two (sizes,
//! addresses) have low bytes that say nothing, and are left alone. Where a small field ends and padding
//! begins cannot be seen: parts go from one border of alignment to the next.

use std::collections::BTreeSet;

use super::look::Bytes;

/// The fewest instances that tell.
const FEWEST: usize = 3;

/// A part of what was taken for one number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Part {
    /// Bytes from the start of the instance.
    pub(super) offset: usize,
    pub(super) len: usize,
    pub(super) evidence: String,
}

/// The parts of a number at an offset; `None` when nothing speaks against its being one.
pub(super) fn parts(all: &[&Bytes], offset: usize, len: usize) -> Option<Vec<Part>> {
    let read = |one: &&&Bytes| one.is_read(offset, offset + len);
    let seen: Vec<u64> = all
        .iter()
        .filter(read)
        .filter_map(|one| {
            let mut word = [0; 8];
            word.get_mut(..len)?
                .copy_from_slice(one.bytes.get(offset..offset + len)?);
            Some(u64::from_le_bytes(word))
        })
        // Zeros vote for nothing here either.
        .filter(|&value| value != 0)
        .collect();
    if seen.len() < FEWEST || !matches!(len, 2 | 4 | 8) || seen.iter().any(|&one| one >> 32 != 0) {
        return None;
    }
    let part = |at: usize, len: usize, evidence: &str| Part {
        offset: offset + at,
        len,
        evidence: evidence.to_owned(),
    };
    let mut out = Vec::new();
    let halves = if len > 2 { split(&seen, 16) } else { None };
    match &halves {
        Some(why) => {
            for at in [0, 2] {
                let half: Vec<u64> = seen.iter().map(|one| one >> (8 * at) & 0xffff).collect();
                match split(&half, 8) {
                    Some(more) => {
                        out.push(part(at, 1, &more));
                        out.push(part(at + 1, 1, &more));
                    }
                    None => out.push(part(at, 2, why)),
                }
            }
        }
        None if seen.iter().all(|&one| one >> 16 == 0) => {
            let why = split(&seen, 8)?;
            out.push(part(0, 1, &why));
            out.push(part(1, 1, &why));
            if len > 2 {
                out.push(part(2, 2, "zero in all instances"));
            }
        }
        None => return None,
    }
    if len == 8 {
        out.push(part(4, 4, "zero in all instances"));
    }
    Some(out)
}

/// Why the lowest `bits` of these numbers are a number of their own.
fn split(seen: &[u64], bits: u32) -> Option<String> {
    let low = |one: &u64| one & ((1 << bits) - 1);
    let lows: BTreeSet<u64> = seen.iter().map(low).collect();
    let highs: BTreeSet<u64> = seen.iter().map(|one| one >> bits).collect();
    let count = seen.len();
    let gap = bits == 16
        && lows.iter().all(|low| low >> 8 == 0)
        && highs.iter().filter(|&&high| high != 0).count() >= 2;
    let any = lows.iter().fold(0, |any, low| any | low);
    // A number whose low bits never vary because they are always zero.
    if any.trailing_zeros() >= 4 {
        return None;
    }
    if gap {
        return Some(format!(
            "the byte between is zero in all {count} instances: two numbers"
        ));
    }
    (highs.len() >= 3 && lows.len() < highs.len()).then(|| {
        format!(
            "of {count} instances the lower part has {} values, the upper {}: two numbers",
            lows.len(),
            highs.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(values: &[u32]) -> Option<Vec<usize>> {
        let all: Vec<Bytes> = values
            .iter()
            .map(|value| Bytes {
                at: 0,
                bytes: value.to_le_bytes().to_vec(),
                holes: Vec::new(),
            })
            .collect();
        let all: Vec<&Bytes> = all.iter().collect();
        parts(&all, 0, 4).map(|parts| parts.iter().map(|part| part.len).collect())
    }

    #[test]
    fn what_varies_where() {
        let cases: &[(&[u32], Option<&[usize]>)] = &[
            // {u16 count, u8 grade}: both vary, and the byte between does not.
            (&[0x41_0001, 0x42_0002, 0x43_0003], Some(&[2, 2])),
            // {u16 always 0x101, u16}, {u8 kind, u8 level, u16}.
            (&[0x1_0101, 0x2_0101, 0x3_0101], Some(&[2, 2])),
            (
                &[0x901_0107, 0x902_0207, 0x903_0307, 0x904_0307],
                Some(&[1, 1, 2]),
            ),
            // {u8 kind, u8 level}.
            (&[0x107, 0x207, 0x307], Some(&[1, 1, 2])),
            // Numbers: counting, large, in steps, few.
            (&[1, 2, 3, 4], None),
            (&[0x1_2345, 0x2_1111, 0x3_9876], None),
            (&[0x1_0000, 0x2_0000, 0x3_0000], None),
            (&[0x1_8000, 0x2_0000, 0x3_8000, 0x4_0000], None),
            (&[0x1_0001, 0x1_0002, 0x1_0003], None),
            (&[0x41_0001, 0x42_0002], None),
            (&[0, 0, 0], None),
        ];
        for (values, expected) in cases {
            assert_eq!(lens(values).as_deref(), *expected, "{values:x?}");
        }
    }
}
