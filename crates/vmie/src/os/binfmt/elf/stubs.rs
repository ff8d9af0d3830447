//! Stubs of imported functions (the procedure linkage table), found by their code.
//!
//! Sections are not loaded, and a stripped file need not have any. But stubs are of few shapes, which
//! linkers write byte by byte and not compilers. All do nothing but jump through a slot:
//!
//! ```text
//! ff 25 slot  68 number  e9 first-stub            .plt of GNU ld, gold and lld; i386: ff a3 slot-GOT, too
//! ff 25 slot  66 90                               .plt.got
//! f2 ff 25 slot  90                               with bnd, of the time of MPX
//! f3 0f 1e fa [f2] ff 25 slot  nop                .plt.sec, and .plt.got beside it; i386: fb
//! f3 0f 1e fa 41 bb number  ff 25 slot            mold
//! 4c 8b 1d slot  e8 e9 68 e9 | e9 int3            lld's retpolines; i386: 50 8b 83, 50 a1
//! ```
//!
//! A function that ends with a jump through a slot (compiled without stubs) has the same instruction in
//! it, so it is the surroundings that tell: where a stub begins is aligned, what follows the jump is
//! what the linker puts there, and the shortest shape must follow other stubs or the end of code.

use memchr::memmem;

/// More bytes than any stub takes, and than are looked at before one.
pub(super) const AROUND: usize = 64;

/// Code and what its addresses mean.
pub(super) struct Code<'c> {
    pub(super) bytes: &'c [u8],
    /// The address of the first byte.
    pub(super) at: u64,
    /// Whether it is 64-bit code.
    pub(super) wide: bool,
    /// What `ebx` holds in 32-bit code that does not know where it is.
    pub(super) got: Option<u64>,
}

/// A stub: where it is, how long, and the slot that it jumps through.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Found {
    pub(super) va: u64,
    pub(super) len: u64,
    pub(super) slot: u64,
}

/// What may stand before the jump, but for numbers.
const BEFORE_64: &[&[Option<u8>]] = &[
    &[],
    &[Some(0xf2)],
    &[Some(0xf3), Some(0x0f), Some(0x1e), Some(0xfa)],
    &[Some(0xf3), Some(0x0f), Some(0x1e), Some(0xfa), Some(0xf2)],
    &[
        Some(0xf3),
        Some(0x0f),
        Some(0x1e),
        Some(0xfa),
        Some(0x41),
        Some(0xbb),
        None,
        None,
        None,
        None,
    ],
];
const BEFORE_32: &[&[Option<u8>]] = &[&[], &[Some(0xf3), Some(0x0f), Some(0x1e), Some(0xfb)]];

/// What fills the rest of a stub up.
const FILLS: &[&[u8]] = &[
    &[],
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0xcc; 6],
];

impl Code<'_> {
    /// Pushes the stubs that jump through what `is_slot` says may be one, ascending.
    pub(super) fn stubs(&self, is_slot: &dyn Fn(u64) -> bool, found: &mut Vec<Found>) {
        let first = found.len();
        let opcodes: &[&[u8]] = match self.wide {
            true => &[&[0xff, 0x25], &[0x4c, 0x8b, 0x1d]],
            false => &[
                &[0xff, 0x25],
                &[0xff, 0xa3],
                &[0x50, 0x8b, 0x83],
                &[0x50, 0xa1],
            ],
        };
        // Of the shortest shape, which must stand among others.
        let mut short = Vec::new();
        for opcode in opcodes {
            for at in memmem::find_iter(self.bytes, opcode) {
                let jumps = opcode[0] == 0xff;
                let Some(slot) = self.slot(at, opcode).filter(|&slot| is_slot(slot)) else {
                    continue;
                };
                let place = match jumps {
                    true => self.jump(at),
                    false => self.retpoline(at, opcode.len() + 4).map(|len| (at, len)),
                };
                let Some((start, len)) = place else { continue };
                let stub = Found {
                    va: self.at.wrapping_add(start as u64),
                    len: len as u64,
                    slot,
                };
                match jumps && start == at && len == 8 {
                    true => short.push(stub),
                    false => found.push(stub),
                }
            }
        }
        short.sort_unstable();
        for stub in short {
            let follows = found[first..]
                .iter()
                .any(|other| other.va.wrapping_add(other.len) == stub.va);
            if follows || self.is_end_before((stub.va - self.at) as usize) {
                found.push(stub);
            }
        }
        found[first..].sort_unstable();
    }

    /// The slot of a jump or load at an offset.
    fn slot(&self, at: usize, opcode: &[u8]) -> Option<u64> {
        let from = at + opcode.len();
        let field = self.bytes.get(from..from + 4)?.first_chunk::<4>()?;
        let number = i32::from_le_bytes(*field);
        if self.wide {
            let next = self.at.wrapping_add(from as u64 + 4);
            return Some(next.wrapping_add_signed(number.into()));
        }
        match opcode {
            [0xff, 0x25] | [0x50, 0xa1] => Some(u64::from(number.cast_unsigned())),
            _ => {
                let va = self.got?.wrapping_add_signed(number.into());
                Some(va & u64::from(u32::MAX))
            }
        }
    }

    /// Where a stub with a jump at `at` begins and how long it is.
    fn jump(&self, at: usize) -> Option<(usize, usize)> {
        let befores = if self.wide { BEFORE_64 } else { BEFORE_32 };
        befores.iter().find_map(|before| {
            let start = at.checked_sub(before.len())?;
            let mut there = before.iter().zip(&self.bytes[start..at]);
            there
                .all(|(is, byte)| is.is_none_or(|is| is == *byte))
                .then_some(())?;
            let behind = at + 6;
            let tail = self.bytes.get(behind..behind + 10);
            if let Some([0x68, _, _, _, _, 0xe9, ..]) = tail
                && before.is_empty()
                && self.is_aligned(start, 16)
            {
                // The first call goes on here, to the stub that binds the function.
                return Some((start, 16));
            }
            let used = behind - start;
            let len = if used <= 8 { 8 } else { 16 };
            let fill = self.bytes.get(behind..start + len)?;
            (self.is_aligned(start, len) && FILLS.contains(&fill)).then_some((start, len))
        })
    }

    /// How long a stub is that begins with a load at `at` and ends with a jump that no processor
    /// guesses.
    fn retpoline(&self, at: usize, load: usize) -> Option<usize> {
        let rest = self.bytes.get(at + load..)?;
        if !self.is_aligned(at, 16) {
            return None;
        }
        match *rest {
            [0xe9, _, _, _, _, 0xcc, ..] => Some(16),
            [
                0xe8,
                _,
                _,
                _,
                _,
                0xe9,
                _,
                _,
                _,
                _,
                0x68,
                _,
                _,
                _,
                _,
                0xe9,
                ..,
            ] => Some(32),
            _ => None,
        }
    }

    fn is_aligned(&self, offset: usize, to: usize) -> bool {
        self.at
            .wrapping_add(offset as u64)
            .is_multiple_of(to as u64)
    }

    /// Whether code ends before an offset: with the jump of another stub, or with a return and zeros.
    fn is_end_before(&self, offset: usize) -> bool {
        let before = &self.bytes[offset.saturating_sub(AROUND / 2)..offset];
        let binds = |tail: &[u8]| tail[0] == 0x68 && tail[5] == 0xe9;
        if before.last_chunk::<10>().is_some_and(|tail| binds(tail)) {
            return true;
        }
        match before.iter().rposition(|&byte| byte != 0) {
            Some(last) => matches!(before[last], 0xc3 | 0xcc),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0x1000;
    const SLOTS: [u64; 2] = [0x4000, 0x4008];

    fn look(wide: bool, got: Option<u64>, bytes: &[u8]) -> Vec<(u64, u64, u64)> {
        let code = Code {
            bytes,
            at: AT,
            wide,
            got,
        };
        let mut found = Vec::new();
        code.stubs(&|slot| SLOTS.contains(&slot), &mut found);
        found
            .iter()
            .map(|stub| (stub.va, stub.len, stub.slot))
            .collect()
    }

    /// Bytes as objdump prints them.
    fn hex(text: &str) -> Vec<u8> {
        let digits = text.split_whitespace();
        digits
            .map(|byte| u8::from_str_radix(byte, 16).expect("two digits"))
            .collect()
    }

    /// What GNU ld 2.40 and gold made of a call to two functions; `objdump -d` names them.
    #[test]
    fn stubs_that_bind_at_the_first_call() {
        let ld = hex("ff 35 ea 2f 00 00 ff 25 ec 2f 00 00 0f 1f 40 00 \
             ff 25 ea 2f 00 00 68 00 00 00 00 e9 e0 ff ff ff \
             ff 25 e2 2f 00 00 68 01 00 00 00 e9 d0 ff ff ff \
             48 83 ec 08 e8 e7 ff ff ff 83 c0 01 48 83 c4 08 c3");
        let both = [(0x1010, 16, 0x4000), (0x1020, 16, 0x4008)];
        assert_eq!(look(true, None, &ld), both);
        // The same, bound when the program starts: only the slots are elsewhere.
        assert_eq!(look(true, Some(0x3fe8), &ld), both);
    }

    #[test]
    fn stubs_with_landing_pads() {
        let ld = hex("ff 35 ea 2f 00 00 ff 25 ec 2f 00 00 0f 1f 40 00 \
             f3 0f 1e fa 68 00 00 00 00 e9 e2 ff ff ff 66 90 \
             f3 0f 1e fa 68 01 00 00 00 e9 d2 ff ff ff 66 90 \
             f3 0f 1e fa ff 25 c6 2f 00 00 66 0f 1f 44 00 00 \
             f3 0f 1e fa ff 25 be 2f 00 00 66 0f 1f 44 00 00 \
             f3 0f 1e fa 48 83 ec 08");
        assert_eq!(
            look(true, None, &ld),
            [(0x1030, 16, 0x4000), (0x1040, 16, 0x4008)]
        );
        // With bnd, and mold's.
        let other = hex("f3 0f 1e fa f2 ff 25 f5 2f 00 00 0f 1f 44 00 00 \
             f3 0f 1e fa 41 bb 01 00 00 00 ff 25 e8 2f 00 00 \
             f2 ff 25 d9 2f 00 00 90");
        assert_eq!(
            look(true, None, &other),
            [
                (0x1000, 16, 0x4000),
                (0x1010, 16, 0x4008),
                (0x1020, 8, 0x4000)
            ]
        );
    }

    #[test]
    fn short_stubs_stand_among_others_or_behind_the_end_of_code() {
        let behind_stubs = hex("ff 25 fa 2f 00 00 68 00 00 00 00 e9 e0 ff ff ff \
             ff 25 f2 2f 00 00 66 90 ff 25 e2 2f 00 00 66 90");
        assert_eq!(
            look(true, None, &behind_stubs),
            [
                (0x1000, 16, 0x4000),
                (0x1010, 8, 0x4008),
                (0x1018, 8, 0x4000)
            ]
        );
        let behind_init = hex("48 83 c4 08 c3 00 00 00 00 00 00 00 00 00 00 00 \
             ff 25 ea 2f 00 00 66 90");
        assert_eq!(look(true, None, &behind_init), [(0x1010, 8, 0x4000)]);
    }

    #[test]
    fn functions_that_end_with_a_jump_through_a_slot_are_none() {
        // mov eax, 0; jmp *slot, in the middle of a line, and at its half with the fill behind it.
        for text in [
            "b8 00 00 00 00 ff 25 f5 2f 00 00 c3 c3 c3 c3 c3",
            "53 5b 53 b8 00 00 00 00 ff 25 f2 2f 00 00 66 90",
            "53 5b 53 5b 48 83 c4 08 ff 25 f2 2f 00 00 66 90",
        ] {
            assert_eq!(look(true, None, &hex(text)), [], "{text}");
        }
        // Through something that is no slot.
        let elsewhere = hex("ff 25 00 00 00 00 68 00 00 00 00 e9 e0 ff ff ff");
        assert_eq!(look(true, None, &elsewhere), []);
    }

    #[test]
    fn retpolines_of_lld() {
        let lazy = hex(
            "4c 8b 1d f9 2f 00 00 e8 14 00 00 00 e9 01 00 00 00 68 00 00 00 00 e9 df ff ff ff cc cc cc cc cc \
             4c 8b 1d e1 2f 00 00 e9 d4 ff ff ff cc cc cc cc \
             4c 8b 1d c9 2f 00 00 e9 d4 ff ff ff cc cc cc cc",
        );
        assert_eq!(
            look(true, None, &lazy),
            [
                (0x1000, 32, 0x4000),
                (0x1020, 16, 0x4008),
                (0x1030, 16, 0x4000)
            ]
        );
    }

    #[test]
    fn stubs_of_32_bit_code() {
        // Slots by way of ebx, of code that does not know where it is.
        let relative = hex("ff b3 04 00 00 00 ff a3 08 00 00 00 00 00 00 00 \
             ff a3 0c 00 00 00 68 00 00 00 00 e9 e0 ff ff ff \
             ff a3 14 00 00 00 68 08 00 00 00 e9 d0 ff ff ff");
        let both = [(0x1010, 16, 0x4000), (0x1020, 16, 0x4008)];
        assert_eq!(look(false, Some(0x3ff4), &relative), both);
        assert_eq!(look(false, None, &relative), []);
        let pads = hex("f3 0f 1e fb ff a3 0c 00 00 00 66 0f 1f 44 00 00 \
             f3 0f 1e fb ff 25 08 40 00 00 66 0f 1f 44 00 00");
        let pair = [(0x1000, 16, 0x4000), (0x1010, 16, 0x4008)];
        assert_eq!(look(false, Some(0x3ff4), &pads), pair);
        let absolute = hex("ff 25 00 40 00 00 68 00 00 00 00 e9 e0 ff ff ff \
             ff 25 08 40 00 00 66 90");
        assert_eq!(
            look(false, None, &absolute),
            [(0x1000, 16, 0x4000), (0x1010, 8, 0x4008)]
        );
    }
}
