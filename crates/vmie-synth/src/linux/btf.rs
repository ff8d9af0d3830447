//! Writes BTF type information.

/// Collects types; their numbers are handed out in the order of the calls, from 1 on.
#[derive(Clone, Debug)]
pub struct Btf {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Default for Btf {
    fn default() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
            count: 0,
        }
    }
}

impl Btf {
    /// Adds a string and answers its offset; the empty string is 0.
    pub fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let start = self.strings.len() as u32;
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        start
    }

    /// Adds any record: its name, kind, flag and number of parts, third word, and the words behind it.
    pub fn record(
        &mut self,
        name: &str,
        kind: u32,
        flag: bool,
        parts: u32,
        word: u32,
        tail: &[u32],
    ) -> u32 {
        let name = self.string(name);
        let info = u32::from(flag) << 31 | kind << 24 | parts;
        for word in [name, info, word].iter().chain(tail) {
            self.types.extend(word.to_le_bytes());
        }
        self.count += 1;
        self.count
    }

    /// An integer. `encoding`: 1 signed, 2 character, 4 truth value.
    pub fn int(&mut self, name: &str, size: u32, encoding: u32) -> u32 {
        self.record(name, 1, false, 0, size, &[(encoding << 24) | (size * 8)])
    }

    /// An integer of fewer bits than its bytes have, as old records describe bit-fields.
    pub fn int_bits(&mut self, name: &str, size: u32, offset: u32, bits: u32) -> u32 {
        self.record(name, 1, false, 0, size, &[offset << 16 | bits])
    }

    /// A pointer.
    pub fn pointer(&mut self, target: u32) -> u32 {
        self.record("", 2, false, 0, target, &[])
    }

    /// An array.
    pub fn array(&mut self, element: u32, index: u32, count: u32) -> u32 {
        self.record("", 3, false, 0, 0, &[element, index, count])
    }

    /// A structure: members are name, type and offset in bits.
    pub fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        self.members(4, name, size, false, members)
    }

    /// A union.
    pub fn union(&mut self, name: &str, size: u32, members: &[(&str, u32)]) -> u32 {
        let members: Vec<_> = members.iter().map(|&(name, ty)| (name, ty, 0)).collect();
        self.members(5, name, size, false, &members)
    }

    /// A structure with bit-fields: members are name, type, offset in bits, and width in bits, which is
    /// 0 for ordinary members.
    pub fn bit_fields(&mut self, name: &str, size: u32, members: &[(&str, u32, u32, u32)]) -> u32 {
        let members: Vec<_> = members
            .iter()
            .map(|&(name, ty, offset, width)| (name, ty, width << 24 | offset))
            .collect();
        self.members(4, name, size, true, &members)
    }

    fn members(
        &mut self,
        kind: u32,
        name: &str,
        size: u32,
        flag: bool,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let mut tail = Vec::new();
        for &(name, ty, offset) in members {
            tail.extend([self.string(name), ty, offset]);
        }
        self.record(name, kind, flag, members.len() as u32, size, &tail)
    }

    /// An enum of 32-bit values.
    pub fn enumeration(&mut self, name: &str, signed: bool, values: &[(&str, i32)]) -> u32 {
        let mut tail = Vec::new();
        for &(name, value) in values {
            tail.extend([self.string(name), value.cast_unsigned()]);
        }
        self.record(name, 6, signed, values.len() as u32, 4, &tail)
    }

    /// An enum of 64-bit values.
    pub fn enumeration64(&mut self, name: &str, signed: bool, values: &[(&str, u64)]) -> u32 {
        let mut tail = Vec::new();
        for &(name, value) in values {
            tail.extend([self.string(name), value as u32, (value >> 32) as u32]);
        }
        self.record(name, 19, signed, values.len() as u32, 8, &tail)
    }

    /// A record that is declared only.
    pub fn forward(&mut self, name: &str, union: bool) -> u32 {
        self.record(name, 7, union, 0, 0, &[])
    }

    /// Another name for a type.
    pub fn typedef(&mut self, name: &str, target: u32) -> u32 {
        self.record(name, 8, false, 0, target, &[])
    }

    /// A qualifier: 9 `volatile`, 10 `const`, 11 `restrict`, 18 an annotation.
    pub fn qualifier(&mut self, kind: u32, target: u32) -> u32 {
        self.record("", kind, false, 0, target, &[])
    }

    /// A function's type: parameters are name and type; name and type 0 at the end stand for `...`.
    pub fn prototype(&mut self, result: u32, params: &[(&str, u32)]) -> u32 {
        let mut tail = Vec::new();
        for &(name, ty) in params {
            tail.extend([self.string(name), ty]);
        }
        self.record("", 13, false, params.len() as u32, result, &tail)
    }

    /// A function.
    pub fn function(&mut self, name: &str, prototype: u32) -> u32 {
        self.record(name, 12, false, 1, prototype, &[])
    }

    /// A variable.
    pub fn variable(&mut self, name: &str, ty: u32) -> u32 {
        self.record(name, 14, false, 0, ty, &[1])
    }

    /// A floating-point number.
    pub fn float(&mut self, name: &str, size: u32) -> u32 {
        self.record(name, 16, false, 0, size, &[])
    }

    /// The whole blob.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = btf_header(self.types.len() as u32, self.strings.len() as u32);
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        bytes
    }
}

/// A header of 24 bytes for sections of these lengths, types first.
pub fn btf_header(types: u32, strings: u32) -> Vec<u8> {
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    for word in [24, 0, types, types, strings] {
        bytes.extend(u32::to_le_bytes(word));
    }
    bytes
}
