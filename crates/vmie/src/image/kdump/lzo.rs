//! LZO1X, decompression only.
//!
//! A stream is instructions, each of which copies earlier output (a match) and then up to three literal bytes, or
//! many literals. What an instruction below 16 means depends on how many literals came before it:
//!
//! ```text
//! 0000LLLL                after no literals: L + 3 literals, more bytes when L is 0
//! 0000DDSS H              after 1 to 3: 2 bytes from (H << 2) + D + 1 back
//! 0000DDSS H              after 4 or more: 3 bytes from (H << 2) + D + 2049 back
//! 0001HLLL DDDDDDSS D     L + 2 bytes (more when L is 0) from (H << 14) + D + 16384 back; D is 0: the end
//! 001LLLLL DDDDDDSS D     L + 2 bytes (more when L is 0) from D + 1 back
//! LLLDDDSS H              (L >= 2) L + 1 bytes from (H << 3) + D + 1 back
//! ```
//!
//! S literals follow. The first byte, above 17, stands for so many literals plus 17.
//!
//! Written from the description of the stream in the Linux kernel's documentation (`staging/lzo.rst`).

/// Decompresses into `out`. Answers the number of bytes; `None` for what is no whole stream, needs more
/// room, or reaches back before the beginning.
pub(super) fn decompress(packed: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut stream = Stream {
        packed,
        at: 0,
        out,
        done: 0,
    };
    // How many literals came before: 0 to 3, or 4 for more.
    let mut before = 0;
    if *packed.first()? > 17 {
        let count = usize::from(stream.byte()?) - 17;
        stream.literals(count)?;
        before = count.min(4);
    }
    loop {
        let code = usize::from(stream.byte()?);
        let (len, back, rest) = match code {
            0..16 if before == 0 => {
                let count = 3 + stream.count(code, 15)?;
                stream.literals(count)?;
                before = 4;
                continue;
            }
            0..16 => {
                let far = usize::from(stream.byte()?) << 2;
                let (len, least) = if before == 4 { (3, 2049) } else { (2, 1) };
                (len, far + (code >> 2) + least, code)
            }
            16..32 => {
                let len = 2 + stream.count(code & 7, 7)?;
                let low = stream.word()?;
                let back = ((code & 8) << 11) + (low >> 2);
                if back == 0 {
                    // The rest of the end mark is fixed, and nothing is behind it.
                    let whole = len == 3 && low & 3 == 0 && stream.at == packed.len();
                    return whole.then_some(stream.done);
                }
                (len, back + 16384, low)
            }
            32..64 => {
                let len = 2 + stream.count(code & 31, 31)?;
                let low = stream.word()?;
                (len, (low >> 2) + 1, low)
            }
            _ => {
                let far = usize::from(stream.byte()?) << 3;
                ((code >> 5) + 1, far + (code >> 2 & 7) + 1, code)
            }
        };
        stream.repeat(len, back)?;
        before = rest & 3;
        stream.literals(before)?;
    }
}

struct Stream<'a> {
    packed: &'a [u8],
    at: usize,
    out: &'a mut [u8],
    done: usize,
}

impl Stream<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.packed.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn word(&mut self) -> Option<usize> {
        Some(usize::from(u16::from_le_bytes([
            self.byte()?,
            self.byte()?,
        ])))
    }

    /// A count that stands in the instruction, or where that is 0, `base` and bytes up to the first that is
    /// not 0, which stand for 255 each.
    fn count(&mut self, given: usize, base: usize) -> Option<usize> {
        if given != 0 {
            return Some(given);
        }
        let mut count = base;
        loop {
            match self.byte()? {
                0 => count += 255,
                last => return Some(count + usize::from(last)),
            }
        }
    }

    fn literals(&mut self, count: usize) -> Option<()> {
        let from = self.packed.get(self.at..self.at.checked_add(count)?)?;
        self.out
            .get_mut(self.done..self.done.checked_add(count)?)?
            .copy_from_slice(from);
        self.at += count;
        self.done += count;
        Some(())
    }

    /// Byte by byte, for a match may overlap what it makes.
    fn repeat(&mut self, len: usize, back: usize) -> Option<()> {
        let from = self.done.checked_sub(back)?;
        let end = self
            .done
            .checked_add(len)
            .filter(|&end| end <= self.out.len())?;
        for at in 0..len {
            self.out[self.done + at] = self.out[from + at];
        }
        self.done = end;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; 64];
        let len = decompress(packed, &mut out)?;
        out.truncate(len);
        Some(out)
    }

    #[test]
    fn streams_by_hand() {
        const END: [u8; 3] = [0x11, 0, 0];
        let with_end = |head: &[u8]| [head, &END].concat();
        // Five literals and no more.
        let five = with_end(b"\x16hello");
        assert_eq!(unpack(&five).as_deref(), Some(&b"hello"[..]));
        // Four literals; a match of 3 from 4 back with one literal behind it.
        let near = with_end(b"\x15abcd\x4d\x00!");
        assert_eq!(unpack(&near).as_deref(), Some(&b"abcdabc!"[..]));
        // A match that overlaps itself: 33 + 2 bytes, one back.
        let run = with_end(b"\x12x\x20\x02\x00\x00");
        assert_eq!(unpack(&run).map(|out| out.len()), Some(1 + 35));
        // Two literals, then the short match that only comes behind literals.
        let short = with_end(b"\x13ab\x04\x00");
        assert_eq!(unpack(&short).as_deref(), Some(&b"abab"[..]));
        // A run of literals in the middle: a match without literals, then 3 + 1.
        let middle = with_end(b"\x15abcd\x4c\x00\x01wxyz");
        assert_eq!(unpack(&middle).as_deref(), Some(&b"abcdabcwxyz"[..]));
        // Long counts.
        let long = with_end(&[&[0, 2][..], &[7; 20]].concat());
        assert_eq!(unpack(&long), Some(vec![7; 20]));
        for cut in 0..near.len() {
            assert_eq!(unpack(&near[..cut]), None, "{cut}");
        }
        // Back before the beginning; more than there is room for; bytes behind the end.
        assert_eq!(unpack(&with_end(b"\x15abcd\x5c\x00")), None);
        assert_eq!(unpack(&with_end(b"\x12x\x20\xff\x00\x00")), None);
        assert_eq!(unpack(&with_end(&five)), None);
    }
}
