//! A very small x86-64 assembler that remembers what its code refers to.
//!
//! Only what the synthetic programs need. Encodings are from the Intel manual, volume 2. The list of
//! references is the point: it is the truth that searches for code references are tested against.

/// How an instruction refers to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum RefKind {
    /// Direct call.
    Call,
    /// Direct jump, without condition.
    Jump,
    /// Conditional jump.
    Branch,
    /// Reads memory there.
    Read,
    /// Writes memory there.
    Write,
    /// Reads memory there and writes it back.
    Update,
    /// Takes the address, as `lea` does.
    Address,
    /// Calls through a pointer that lies there.
    CallThrough,
    /// Holds the address as a 64-bit immediate operand.
    Immediate,
}

/// An instruction that refers to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct CodeRef {
    /// Address of the instruction.
    pub va: u64,
    /// Bytes of the instruction.
    pub len: u8,
    /// How.
    pub kind: RefKind,
    /// The address referred to.
    pub target: u64,
}

/// Code under construction at a fixed address.
#[derive(Clone, Debug)]
pub struct Assembler {
    base: u64,
    code: Vec<u8>,
    refs: Vec<CodeRef>,
}

impl Assembler {
    /// Code that will stand at `base`.
    pub fn new(base: u64) -> Self {
        Self {
            base,
            code: Vec::new(),
            refs: Vec::new(),
        }
    }

    /// The address of the next instruction.
    pub fn here(&self) -> u64 {
        self.base + self.code.len() as u64
    }

    /// Instructions that refer to nothing, as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.code.extend_from_slice(bytes);
        self
    }

    /// `int3` up to `va`, which is where the next instruction goes.
    ///
    /// # Panics
    /// When the code has passed it already.
    pub fn pad_to(&mut self, va: u64) -> &mut Self {
        let len = va
            .checked_sub(self.here())
            .unwrap_or_else(|| panic!("code has passed {va:#x}"));
        self.code.extend(std::iter::repeat_n(0xcc, len as usize));
        self
    }

    /// `opcode`, a 32-bit displacement to `target`, `tail` (an immediate operand).
    ///
    /// The displacement counts from the end of the instruction, behind the tail.
    fn relative(&mut self, kind: RefKind, opcode: &[u8], target: u64, tail: &[u8]) -> &mut Self {
        let va = self.here();
        let len = opcode.len() + 4 + tail.len();
        let end = va + len as u64;
        let disp = i32::try_from(target.wrapping_sub(end) as i64)
            .unwrap_or_else(|_| panic!("{target:#x} is out of reach from {va:#x}"));
        self.code.extend_from_slice(opcode);
        self.code.extend_from_slice(&disp.to_le_bytes());
        self.code.extend_from_slice(tail);
        self.refs.push(CodeRef {
            va,
            len: len as u8,
            kind,
            target,
        });
        self
    }

    /// `call target`
    pub fn call(&mut self, target: u64) -> &mut Self {
        self.relative(RefKind::Call, &[0xe8], target, &[])
    }

    /// `jmp target`
    pub fn jmp(&mut self, target: u64) -> &mut Self {
        self.relative(RefKind::Jump, &[0xe9], target, &[])
    }

    /// `je target`, with an 8-bit displacement.
    ///
    /// # Panics
    /// When the target is out of its reach.
    pub fn je_short(&mut self, target: u64) -> &mut Self {
        let va = self.here();
        let disp = i8::try_from(target.wrapping_sub(va + 2) as i64)
            .unwrap_or_else(|_| panic!("{target:#x} is out of reach from {va:#x}"));
        self.code.extend_from_slice(&[0x74, disp as u8]);
        self.refs.push(CodeRef {
            va,
            len: 2,
            kind: RefKind::Branch,
            target,
        });
        self
    }

    /// `jne target`, with a 32-bit displacement.
    pub fn jne(&mut self, target: u64) -> &mut Self {
        self.relative(RefKind::Branch, &[0x0f, 0x85], target, &[])
    }

    /// `lea rdi, [rip + target]`
    pub fn lea_rdi(&mut self, target: u64) -> &mut Self {
        self.relative(RefKind::Address, &[0x48, 0x8d, 0x3d], target, &[])
    }

    /// `lea rax, [rip + target]`
    pub fn lea_rax(&mut self, target: u64) -> &mut Self {
        self.relative(RefKind::Address, &[0x48, 0x8d, 0x05], target, &[])
    }

    /// `mov rax, [rip + target]`
    pub fn load_rax(&mut self, target: u64) -> &mut Self {
        self.relative(RefKind::Read, &[0x48, 0x8b, 0x05], target, &[])
    }

    /// `mov [rip + target], rax`
    pub fn store_rax(&mut self, target: u64) -> &mut Self {
        self.relative(RefKind::Write, &[0x48, 0x89, 0x05], target, &[])
    }

    /// `mov dword [rip + target], value`
    pub fn store_imm(&mut self, target: u64, value: u32) -> &mut Self {
        self.relative(RefKind::Write, &[0xc7, 0x05], target, &value.to_le_bytes())
    }

    /// `cmp byte [rip + target], value`
    pub fn compare_byte(&mut self, target: u64, value: u8) -> &mut Self {
        self.relative(RefKind::Read, &[0x80, 0x3d], target, &[value])
    }

    /// `inc dword [rip + target]`
    pub fn increment(&mut self, target: u64) -> &mut Self {
        self.relative(RefKind::Update, &[0xff, 0x05], target, &[])
    }

    /// `movss xmm1, [rip + target]`
    pub fn load_xmm1(&mut self, target: u64) -> &mut Self {
        self.relative(RefKind::Read, &[0xf3, 0x0f, 0x10, 0x0d], target, &[])
    }

    /// `call [rip + target]`
    pub fn call_through(&mut self, target: u64) -> &mut Self {
        self.relative(RefKind::CallThrough, &[0xff, 0x15], target, &[])
    }

    /// `mov rax, target` with all 64 bits in the instruction.
    pub fn load_address(&mut self, target: u64) -> &mut Self {
        let va = self.here();
        self.code.extend_from_slice(&[0x48, 0xb8]);
        self.code.extend_from_slice(&target.to_le_bytes());
        self.refs.push(CodeRef {
            va,
            len: 10,
            kind: RefKind::Immediate,
            target,
        });
        self
    }

    /// `push rbp; mov rbp, rsp; sub rsp, 0x20`
    pub fn prologue(&mut self) -> &mut Self {
        self.raw(&[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x20])
    }

    /// `leave; ret`
    pub fn epilogue(&mut self) -> &mut Self {
        self.raw(&[0xc9, 0xc3])
    }

    /// The code and its references, in order of address.
    pub fn finish(self) -> (Vec<u8>, Vec<CodeRef>) {
        (self.code, self.refs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Instructions assembled by hand from volume 2 of the manual.
    #[test]
    fn encodings_by_hand() {
        let base = 0x40_1000;
        type Emit = fn(&mut Assembler) -> &mut Assembler;
        let cases: &[(Emit, &[u8])] = &[
            (|a| a.call(0x40_1000), &[0xe8, 0xfb, 0xff, 0xff, 0xff]),
            (|a| a.jmp(0x40_1105), &[0xe9, 0x00, 0x01, 0, 0]),
            (|a| a.je_short(0x40_1012), &[0x74, 0x10]),
            (|a| a.jne(0x40_1006), &[0x0f, 0x85, 0, 0, 0, 0]),
            (
                |a| a.lea_rdi(0x40_2000),
                &[0x48, 0x8d, 0x3d, 0xf9, 0x0f, 0, 0],
            ),
            (
                |a| a.load_rax(0x40_2000),
                &[0x48, 0x8b, 0x05, 0xf9, 0x0f, 0, 0],
            ),
            // The displacement counts from behind the immediate: 0x40100a and 0x401007.
            (
                |a| a.store_imm(0x40_2000, 7),
                &[0xc7, 0x05, 0xf6, 0x0f, 0, 0, 7, 0, 0, 0],
            ),
            (
                |a| a.compare_byte(0x40_2000, 1),
                &[0x80, 0x3d, 0xf9, 0x0f, 0, 0, 1],
            ),
            (
                |a| a.load_address(0x1122_3344_5566_7788),
                &[0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11],
            ),
        ];
        for (emit, expected) in cases {
            let mut assembler = Assembler::new(base);
            emit(&mut assembler);
            let (code, refs) = assembler.finish();
            assert_eq!(code, *expected);
            assert_eq!(refs.len(), 1);
            assert_eq!(
                (refs[0].va, usize::from(refs[0].len)),
                (base, expected.len())
            );
        }
    }

    #[test]
    fn padding_keeps_addresses() {
        let mut assembler = Assembler::new(0x1000);
        assembler.prologue().epilogue().pad_to(0x1010);
        assert_eq!(assembler.here(), 0x1010);
        assembler.call(0x1000);
        let (code, refs) = assembler.finish();
        assert_eq!(code[10..16], [0xcc; 6]);
        assert_eq!((refs[0].va, refs[0].target), (0x1010, 0x1000));
    }
}
