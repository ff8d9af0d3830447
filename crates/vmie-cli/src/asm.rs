//! x86 machine code as text, in Intel syntax with `0x` hexadecimal.

use iced_x86::{
    Decoder, DecoderOptions, Formatter as _, Instruction, IntelFormatter, OpKind, Register,
};

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

    /// The address that the instruction decoded last refers to: where it jumps or calls, or what it
    /// reads or writes relative to itself or at a fixed place.
    pub(crate) fn target(&self) -> Option<u64> {
        let instruction = &self.instruction;
        if instruction.is_invalid() {
            return None;
        }
        instruction.op_kinds().find_map(|kind| match kind {
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                Some(instruction.near_branch_target())
            }
            OpKind::Memory if instruction.is_ip_rel_memory_operand() => {
                Some(instruction.ip_rel_memory_address())
            }
            OpKind::Memory
                if instruction.memory_base() == Register::None
                    && instruction.memory_index() == Register::None
                    && instruction.segment_prefix() == Register::None =>
            {
                Some(instruction.memory_displacement64())
            }
            _ => None,
        })
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
    #[test]
    fn targets() {
        let target = |bytes: &[u8]| {
            let mut disassembler = Disassembler::new(Bits::B64);
            disassembler.decode(0x1000, bytes);
            disassembler.target()
        };
        // mov rax, [rip+0x10]; call; jne; mov eax, [0x1234]; jmp [rip+0]
        assert_eq!(target(&[0x48, 0x8b, 0x05, 0x10, 0, 0, 0]), Some(0x1017));
        assert_eq!(target(&[0xe8, 0xfb, 0xff, 0xff, 0xff]), Some(0x1000));
        assert_eq!(target(&[0x75, 0x10]), Some(0x1012));
        assert_eq!(target(&[0x8b, 0x04, 0x25, 0x34, 0x12, 0, 0]), Some(0x1234));
        assert_eq!(target(&[0xff, 0x25, 0, 0, 0, 0]), Some(0x1006));
        // mov rax, gs:[0x28]; mov rax, [rbx+8]; ret; nothing
        let thread_local = [0x65, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0];
        assert_eq!(target(&thread_local), None);
        assert_eq!(target(&[0x48, 0x8b, 0x43, 0x08]), None);
        assert_eq!(target(&[0xc3]), None);
        assert_eq!(target(&[0x06]), None);
    }
}
