//! Columns of integers as bitcode packs them.
//!
//! bitcode writes a structure field by field: all values of the first field in the whole tree, then all of
//! the second. A column does not say how many values it has; the reader knows from the columns before it.
//! How it is packed is a byte in front, from which the reader must not deviate:
//!
//! * 64-bit integers: 0, 2, 4, 6 for 8, 4, 2, 1 bytes each; one less when the least value was subtracted
//!   from all of them and stands in front, in 8 bytes. Those of 1 byte are packed once more, as bytes;
//! * bytes, when there are more than two: 0 as they are; 2, 4, 6, 8, 10 for less than 16, 6, 4, 3, 2
//!   different ones, of which 2, 3, 4, 5, 8 make a byte, the first one as its lowest digit; one less
//!   when the least value was subtracted and stands in front, in 1 byte;
//! * lengths: bytes, with 255 for those that follow as 64-bit integers;
//! * truth values: 8 in a byte, without a byte in front; text: its length and its bytes, as they are.
//!
//! Source: bitcode 0.6.9, `pack.rs`, `pack_ints.rs`, `length.rs`, `str.rs`, `serde/ser.rs`.

/// Reads column after column. Every count is checked against what is left before anything is allocated.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Columns<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where the next column begins.
    pub(super) fn at(self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// A column of one integer.
    pub(super) fn int(&mut self) -> Option<u64> {
        self.ints(1)?.first().copied()
    }

    /// A column of so many integers.
    pub(super) fn ints(&mut self, count: usize) -> Option<Vec<u64>> {
        if count == 0 {
            return Some(Vec::new());
        }
        let packing = self.byte()?;
        let least = match packing & 1 {
            0 => 0,
            _ => u64::from_le_bytes(*self.take(8)?.first_chunk()?),
        };
        let width = match packing.div_ceil(2) {
            0 => 8,
            1 => 4,
            2 => 2,
            3 => 1,
            _ => return None,
        };
        let values: Vec<u64> = if width == 1 {
            self.bytes(count)?.into_iter().map(u64::from).collect()
        } else {
            let word = |part: &[u8]| {
                let mut word = [0; 8];
                word[..width].copy_from_slice(part);
                u64::from_le_bytes(word)
            };
            let packed = self.take(count.checked_mul(width)?)?;
            packed.chunks_exact(width).map(word).collect()
        };
        let add = |value: u64| value.wrapping_add(least);
        Some(values.into_iter().map(add).collect())
    }

    /// A column of so many bytes, which may stand for variants of an enumeration, too.
    pub(super) fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        if count <= 2 {
            return self.take(count).map(<[u8]>::to_vec);
        }
        let packing = self.byte()?;
        let least = match packing & 1 {
            0 => 0,
            _ => self.byte()?,
        };
        let (states, each) = match packing.div_ceil(2) {
            0 => return self.take(count).map(<[u8]>::to_vec),
            1 => (16, 2),
            2 => (6, 3),
            3 => (4, 4),
            4 => (3, 5),
            5 => (2, 8),
            _ => return None,
        };
        let values = self.digits(count, states, each)?;
        let add = |value: u8| value.wrapping_add(least);
        Some(values.into_iter().map(add).collect())
    }

    /// A column of so many truth values.
    pub(super) fn bools(&mut self, count: usize) -> Option<Vec<bool>> {
        let values = self.digits(count, 2, 8)?;
        Some(values.into_iter().map(|value| value != 0).collect())
    }

    fn digits(&mut self, count: usize, states: u8, each: usize) -> Option<Vec<u8>> {
        let packed = self.take(count.div_ceil(each))?;
        let mut values: Vec<u8> = packed
            .iter()
            .flat_map(|&byte| {
                let mut rest = byte;
                (0..each).map(move |_| {
                    let digit = rest % states;
                    rest /= states;
                    digit
                })
            })
            .collect();
        values.truncate(count);
        Some(values)
    }

    /// A column of so many lengths.
    pub(super) fn lengths(&mut self, count: usize) -> Option<Vec<u64>> {
        let short = self.bytes(count)?;
        let long = short.iter().filter(|&&len| len == 255).count();
        let mut long = self.ints(long)?.into_iter();
        short
            .into_iter()
            .map(|len| match len {
                255 => long.next(),
                len => Some(u64::from(len)),
            })
            .collect()
    }

    /// A version: text, or its three numbers.
    pub(super) fn version(&mut self) -> Option<String> {
        let mut text = *self;
        if let Some(&[len]) = text.lengths(1).as_deref()
            && len < 32
            && let Some(version) = text.take(len as usize).and_then(super::version_text)
        {
            *self = text;
            return Some(version);
        }
        let [major, minor, patch] = [self.int()?, self.int()?, self.int()?];
        // As a proof that these are the numbers of a version.
        let valid = major < 1 << 16 && minor < 1 << 16 && patch < 1 << 16;
        valid.then(|| format!("{major}.{minor}.{patch}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists of integers that the bitcode crate has written: the length, and a column.
    #[test]
    fn columns_of_the_original() {
        const TIB: u64 = 1 << 40;
        const OFFSET: u64 = 1 << 33;
        type Case = (&'static [u64], &'static [u8]);
        let cases: [Case; 15] = [
            (&[0, 1 << 32], b"\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0"),
            (
                &[0, 1 << 32, 1 << 38],
                b"\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0@\0\0\0",
            ),
            (&[7], b"\x01\x06\x07"),
            (&[300, 2], b"\x02\x04,\x01\x02\0"),
            (&[70000, 1], b"\x02\x02p\x11\x01\0\x01\0\0\0"),
            (&[TIB; 7], b"\x07\x05\0\0\0\0\0\x01\0\0\x0a\0"),
            (
                &[1000, 1001, 1002, 1003, 1004, 1255],
                b"\x06\x05\xe8\x03\0\0\0\0\0\0\0\0\x01\x02\x03\x04\xff",
            ),
            (
                &[OFFSET, OFFSET + 70_000, OFFSET + 1, OFFSET, OFFSET, OFFSET],
                b"\x06\x01\0\0\0\0\x02\0\0\0\0\0\0\0p\x11\x01\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ),
            (&[3; 9], b"\x09\x06\x09\x03\0\0"),
            (&[1, 2, 0, 1, 2, 0, 2], b"\x07\x06\x08\xc4\x06"),
            (&[15, 0, 7, 8, 9], b"\x05\x06\x02\x0f\x87\x09"),
            (&[5, 4, 3, 2, 1], b"\x05\x06\x04\x89\x08"),
            (&[3, 0, 1, 2, 3], b"\x05\x06\x06\x93\x03"),
            (&[1, 0, 1, 1, 0, 0, 0, 0, 1], b"\x09\x06\x0a\x0d\x01"),
            (
                &[100, 101, 102, 103, 104, 105, 106],
                b"\x07\x06\x01d\x102T\x06",
            ),
        ];
        for (values, packed) in cases {
            let mut columns = Columns::new(packed, 0);
            assert_eq!(columns.lengths(1), Some(vec![values.len() as u64]));
            assert_eq!(columns.ints(values.len()).as_deref(), Some(values));
            assert_eq!(columns.at(), packed.len());
            for cut in 1..packed.len() {
                assert_eq!(Columns::new(&packed[..cut], 1).ints(values.len()), None);
            }
        }
        let mut columns = Columns::new(b"\x06\0\x03\xff\0\xff\x90\x90\x04\xff\08\x01", 0);
        assert_eq!(columns.lengths(1), Some(vec![6]));
        assert_eq!(columns.lengths(6), Some(vec![3, 255, 0, 312, 144, 144]));
        let mut columns = Columns::new(b"\x0a\x19\x03", 1);
        let bits = [1, 0, 0, 1, 1, 0, 0, 0, 1, 1].map(|bit| bit == 1);
        assert_eq!(columns.bools(10), Some(bits.to_vec()));
        // Counts from hostile files.
        assert_eq!(columns.ints(usize::MAX), None);
        assert_eq!(columns.bytes(usize::MAX), None);
        assert_eq!(columns.bools(usize::MAX), None);
    }
}
