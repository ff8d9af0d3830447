//! x86 machine code as text, in Intel syntax with `0x` hexadecimal.

use iced_x86::{Decoder, DecoderOptions, Formatter as _, Instruction, IntelFormatter};

/// No x86 instruction is longer.
pub(crate) const MAX_LEN: usize = 15;

/// How wide code is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bits {
    B16,
    B32,
    B64,
}

impl Bits {
    fn number(self) -> u32 {
        match self {
            Self::B16 => 16,
            Self::B32 => 32,
            Self::B64 => 64,
        }
    }
}

/// Decodes and formats one instruction after the other.
pub(crate) struct Disassembler {
    bits: Bits,
    formatter: IntelFormatter,
    instruction: Instruction,
}

impl Disassembler {
    pub(crate) fn new(bits: Bits) -> Self {
        let mut formatter = IntelFormatter::new();
        let options = formatter.options_mut();
        options.set_hex_prefix("0x");
        options.set_hex_suffix("");
        options.set_uppercase_hex(false);
        options.set_small_hex_numbers_in_decimal(false);
        options.set_branch_leading_zeros(false);
        options.set_space_after_operand_separator(true);
        Self {
            bits,
            formatter,
            instruction: Instruction::default(),
        }
    }

    /// The instruction at the start of `bytes`, which is not empty: its length and its text.
    ///
    /// What is no instruction is one byte long and reads `(bad)`; one that is cut off by the end of
    /// `bytes` takes the rest and reads `(cut off)`.
    pub(crate) fn decode(&mut self, at: u64, bytes: &[u8]) -> (usize, String) {
        if !self.decode_into(at, bytes) {
            // With too few bytes the decoder cannot tell the two apart: does going on help?
            let mut longer = [0; 2 * MAX_LEN];
            let start = bytes.len().min(MAX_LEN);
            longer[..start].copy_from_slice(&bytes[..start]);
            return if start < MAX_LEN && self.decode_into(at, &longer) {
                (start, "(cut off)".to_owned())
            } else {
                (1, "(bad)".to_owned())
            };
        }
        let mut text = String::new();
        self.formatter.format(&self.instruction, &mut text);
        (self.instruction.len(), text)
    }

    /// Whether there is an instruction.
    fn decode_into(&mut self, at: u64, bytes: &[u8]) -> bool {
        Decoder::with_ip(self.bits.number(), bytes, at, DecoderOptions::NONE)
            .decode_out(&mut self.instruction);
        !self.instruction.is_invalid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bits: Bits, at: u64, bytes: &[u8]) -> (usize, String) {
        Disassembler::new(bits).decode(at, bytes)
    }

    #[test]
    fn instructions() {
        assert_eq!(
            one(Bits::B64, 0x1000, &[0x48, 0x8b, 0x05, 0x10, 0, 0, 0, 0xc3]),
            (7, "mov rax, [rip+0x17]".replace("rip+0x17", "0x1017"))
        );
        assert_eq!(
            one(Bits::B64, 0x1000, &[0xe8, 0xfb, 0xff, 0xff, 0xff]),
            (5, "call 0x1000".into())
        );
        assert_eq!(
            one(Bits::B64, 0, &[0x48, 0x83, 0xc4, 0x08]),
            (4, "add rsp, 0x8".into())
        );
        assert_eq!(one(Bits::B32, 0, &[0x40]), (1, "inc eax".into()));
        assert_eq!(one(Bits::B64, 0, &[0x06]), (1, "(bad)".into()));
        assert_eq!(one(Bits::B64, 0, &[0x48, 0x8b]), (2, "(cut off)".into()));
    }
}
