//! The fields of one instruction that stand for addresses.

use iced_x86::{Decoder, Instruction, Mnemonic, OpKind, Register};

use crate::arch::code::XrefKind;

/// A field of an instruction that stands for an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Field {
    /// Offset in the instruction, never zero.
    pub(super) at: usize,
    pub(super) target: u64,
    pub(super) kind: XrefKind,
}

/// Passes on the fields of the instruction that the decoder has just decoded.
pub(super) fn fields(decoder: &Decoder<'_>, instruction: &Instruction, mut on: impl FnMut(Field)) {
    if instruction.is_invalid() {
        return;
    }
    let constants = decoder.get_constant_offsets(instruction);
    let is_address = |size: usize| matches!(size, 4 | 8);
    let immediate = constants.immediate_offset();
    for kind in instruction.op_kinds() {
        match kind {
            OpKind::NearBranch32 | OpKind::NearBranch64 => {
                if matches!(constants.immediate_size(), 1 | 4) {
                    on(Field {
                        at: immediate,
                        target: instruction.near_branch_target(),
                        kind: branch(instruction),
                    });
                }
            }
            OpKind::FarBranch32 => on(Field {
                at: immediate,
                target: u64::from(instruction.far_branch32()),
                kind: branch(instruction),
            }),
            OpKind::Memory => {
                let is_relative = instruction.is_ip_rel_memory_operand();
                let is_local = matches!(instruction.segment_prefix(), Register::FS | Register::GS);
                if is_address(constants.displacement_size()) && !is_local {
                    let target = if is_relative {
                        instruction.ip_rel_memory_address()
                    } else {
                        instruction.memory_displacement64()
                    };
                    on(Field {
                        at: constants.displacement_offset(),
                        target,
                        kind: through(instruction),
                    });
                }
            }
            OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64
                if is_address(constants.immediate_size()) =>
            {
                on(Field {
                    at: immediate,
                    target: instruction.immediate(op_of(instruction, kind)),
                    kind: XrefKind::Immediate,
                });
            }
            _ => {}
        }
    }
}

/// The number of the operand of a kind that stands at most once.
fn op_of(instruction: &Instruction, kind: OpKind) -> u32 {
    let same = |&op: &u32| instruction.op_kind(op) == kind;
    (0..instruction.op_count()).find(same).unwrap_or(0)
}

fn branch(instruction: &Instruction) -> XrefKind {
    match instruction.mnemonic() {
        Mnemonic::Call => XrefKind::Call,
        Mnemonic::Jmp => XrefKind::Jump,
        _ => XrefKind::Branch,
    }
}

fn through(instruction: &Instruction) -> XrefKind {
    match instruction.mnemonic() {
        Mnemonic::Call => XrefKind::CallThrough,
        Mnemonic::Jmp => XrefKind::JumpThrough,
        Mnemonic::Lea => XrefKind::Address,
        _ => XrefKind::Memory,
    }
}
