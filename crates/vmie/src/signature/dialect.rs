//! What other tools print as signatures: masks behind bytes, and what is refused by name.
//!
//! Makers of signatures agree on little. What can only mean one thing is read; what means something else elsewhere
//! than here is refused with what to write instead, for a signature that is read wrongly finds nothing, or the
//! wrong thing, and nobody is told.
//!
//! ```text
//! mask      = [ "," ] xs | ":" { two digits } | "0b" { "0" | "1" }
//! xs        = { "x" | "?" }, in quotes or not
//! ```
//!
//! A mask belongs to bytes without wildcards and has as many elements. In `xs`, `x` is a byte that counts; behind `:`
//! stands a byte of mask for each byte, of which the bits that are set count; of the bits behind `0b`, which
//! IDA's SigMaker prints behind bytes with `0x`, the *last* is the first byte's.

use super::parse::{Parser, Result, digit, literal, push};
use super::{ByteTest, Node};

/// Bytes that stand for wildcards in strings of makers that write no mask.
const WILD: [u8; 2] = [b'*', b'?'];

/// So many zeros in a row are more often a displacement that was blanked out.
const BLANK: usize = 4;

impl Parser<'_> {
    /// Reads what may stand behind the bytes of a signature: a mask, or nothing.
    pub(super) fn masked(&mut self, nodes: Vec<Node>) -> Result<Vec<Node>> {
        self.space()?;
        let at = self.at;
        match self.peek() {
            Some('x' | 'X') => {
                let bytes = self.plain_bytes(&nodes, at)?;
                let length = self.run(|c| matches!(c, 'x' | 'X' | '?')).len();
                let mask = &self.text[at..at + length];
                // Without a `?`, it says nothing as a mask, and is any byte in some tools.
                if !mask.contains('?') && length <= 2 {
                    return self.error(
                        at,
                        "`xx` is any byte elsewhere: that is `??` here; a mask has a `?` somewhere",
                    );
                }
                self.letters(&bytes)
            }
            Some(':') => {
                let bytes = self.plain_bytes(&nodes, at)?;
                self.bit_masks(&bytes)
            }
            Some('0') if self.is_binary() => {
                let bytes = self.plain_bytes(&nodes, at)?;
                self.binary(&bytes)
            }
            _ => Ok(nodes),
        }
    }

    /// The bytes that a mask belongs to.
    fn plain_bytes(&self, nodes: &[Node], mask: usize) -> Result<Vec<u8>> {
        let byte = |node: &Node| match node {
            Node::Byte(test) => test.literal(),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = nodes.iter().map(byte).collect();
        bytes.map_or_else(
            || {
                self.error(
                    mask,
                    "a mask belongs to bytes alone, without wildcards before it",
                )
            },
            Ok,
        )
    }

    /// Reads a mask of `x` and `?`.
    pub(super) fn letters(&mut self, bytes: &[u8]) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        let mut masked = 0;
        while let Some(c @ ('x' | 'X' | '?')) = self.peek() {
            let Some(&value) = bytes.get(masked) else {
                return self.too_long(bytes.len());
            };
            push(
                &mut nodes,
                if c == '?' {
                    Node::Skip { min: 1, max: 1 }
                } else {
                    literal(value)
                },
            );
            masked += 1;
            self.bump();
        }
        self.whole(masked, bytes.len())?;
        Ok(nodes)
    }

    /// Reads `: ff f0 00`.
    fn bit_masks(&mut self, bytes: &[u8]) -> Result<Vec<Node>> {
        let at = self.at;
        if !self.text[..at].ends_with(char::is_whitespace) {
            return self.error(
                at,
                "bytes have spaces between them, and ` : ` before a mask for each of them",
            );
        }
        self.bump();
        let mut nodes = Vec::new();
        let mut masked = 0;
        loop {
            self.space()?;
            let Some(high) = self.peek().filter(char::is_ascii_hexdigit) else {
                break;
            };
            let start = self.at;
            self.bump();
            let Some(low) = self.peek().filter(char::is_ascii_hexdigit) else {
                return self.error(start, "half a byte of mask: expected two digits");
            };
            self.bump();
            let Some(&value) = bytes.get(masked) else {
                self.at = start;
                return self.too_long(bytes.len());
            };
            push(&mut nodes, under_mask(value, digit(high) << 4 | digit(low)));
            masked += 1;
        }
        self.whole(masked, bytes.len())?;
        Ok(nodes)
    }

    /// Whether `0b` and binary digits are here, up to the end of the signature: behind bytes with `0x`, or as many
    /// as there are bytes.
    pub(super) fn is_binary(&self) -> bool {
        let digits = self.text[self.at..].strip_prefix("0b");
        let digits =
            digits.map(|rest| rest.trim_end_matches(|c: char| c.is_whitespace() || c == '}'));
        digits.is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0' | b'1'))
        })
    }

    /// Reads `0b100001`.
    fn binary(&mut self, bytes: &[u8]) -> Result<Vec<Node>> {
        self.at += 2;
        let start = self.at;
        let bits = self.run(|c| matches!(c, '0' | '1')).as_bytes().to_vec();
        let mut nodes = Vec::new();
        if bits.len() > bytes.len() {
            return self.too_long(bytes.len());
        }
        self.at = start + bits.len();
        self.whole(bits.len(), bytes.len())?;
        for (bit, &value) in bits.iter().rev().zip(bytes) {
            push(
                &mut nodes,
                if *bit == b'1' {
                    literal(value)
                } else {
                    Node::Skip { min: 1, max: 1 }
                },
            );
        }
        Ok(nodes)
    }

    fn too_long<T>(&self, bytes: usize) -> Result<T> {
        self.error(
            self.at,
            format!("the mask is longer than the {bytes} bytes before it"),
        )
    }

    fn whole(&self, masked: usize, bytes: usize) -> Result<()> {
        if masked < bytes {
            return self.error(
                self.at,
                format!("the mask ends after {masked} of {bytes} bytes"),
            );
        }
        Ok(())
    }

    /// What is here up to another character.
    fn run(&self, belongs: impl Fn(char) -> bool) -> &str {
        let rest = &self.text[self.at..];
        &rest[..rest.find(|c| !belongs(c)).unwrap_or(rest.len())]
    }

    /// Whether eight characters of `0`, `1` and `.` are here, as Ghidra writes the bits of one byte.
    pub(super) fn is_bit_pattern(&self) -> bool {
        let word = self.run(|c| c.is_ascii_hexdigit() || matches!(c, '.' | '?' | '*'));
        word.len() == 8
            && word.bytes().all(|b| matches!(b, b'0' | b'1' | b'.'))
            && word.contains('.')
            && word.contains(['0', '1'])
    }

    /// What is here that belongs to another tool's signatures, and what it is called here.
    pub(super) fn foreign(&self) -> Option<&'static str> {
        let rest = &self.text[self.at..];
        let before = self.text[..self.at].chars().next_back();
        Some(match rest.chars().next()? {
            '!' => "any byte but this is written `~E8`",
            '{' => "a jump is written `[4]` or `[2-6]`",
            'h' | 'H' if before.is_some_and(|c| c.is_ascii_hexdigit()) => {
                "bytes are hexadecimal as they are: `48`, without `h`"
            }
            '\\' => "bytes with `\\x` stand alone, with no others but a mask behind them",
            '-' => "any byte is written `??`",
            '|' if self.text[..self.at].trim().is_empty() => {
                "bytes stand without bars around them, or are alternatives: `(E8 | E9)`"
            }
            '&' | '/' | '=' => "a mask of bits stands behind ` : `, as in `48 8B : FF F0`",
            'L' if rest[1..].starts_with('"') => "wide text is written `u\"text\"`",
            'x' | 'X' => "any byte is written `??`, and a mask stands behind all bytes",
            '.' | '+' | '^' | '$' => {
                "regular expressions are not read: any byte is `??`, a jump `[2-6]`"
            }
            _ => return None,
        })
    }

    /// Remarks on bytes that were given as they are, without a mask.
    pub(super) fn without_mask(&mut self, bytes: &[u8]) {
        let text = bytes
            .iter()
            .all(|byte| byte.is_ascii_graphic() || *byte == b' ');
        let wild = |byte: &u8| WILD.contains(byte);
        let in_a_row = bytes.windows(2).any(|pair| pair.iter().all(wild));
        let first = bytes.iter().copied().find(|byte| wild(byte));
        if let Some(byte) = first.filter(|_| !text || in_a_row) {
            self.notes.push(format!(
                "{byte:#04X} is looked for as it is; if it stands for any byte (`{}`), write `??` or a mask behind \
                 the bytes",
                char::from(byte)
            ));
        }
        let zeros = bytes.split(|byte| *byte != 0).map(<[u8]>::len).max();
        let edge = bytes.first() == Some(&0) || bytes.last() == Some(&0);
        if zeros.is_some_and(|zeros| zeros >= BLANK) && !edge {
            self.notes.push(format!(
                "{BLANK} zeros in a row are looked for as they are; if they stand for any bytes, write `??` or a \
                 mask behind the bytes"
            ));
        }
    }
}

/// The condition that a byte has these bits where the mask has them.
fn under_mask(value: u8, mask: u8) -> Node {
    match mask {
        0 => Node::Skip { min: 1, max: 1 },
        0xff | 0xf0 | 0x0f => Node::Byte(ByteTest {
            value: value & mask,
            mask,
            negated: false,
        }),
        // Other bits than those of a half byte are all the bytes that have them.
        _ => {
            let bytes = (0..=u8::MAX).filter(|byte| byte & mask == value & mask);
            Node::Alt(bytes.map(|byte| vec![literal(byte)]).collect())
        }
    }
}
