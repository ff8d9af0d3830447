//! The canonical form of a signature.
//!
//! Bytes in upper case with spaces between them; braces only where there are jumps of variable
//! length, alternatives or negated bytes, that is, where IDA's form ends and YARA's begins. Many
//! bytes of any value are a jump, except at the ends of a sequence, where YARA takes no jumps.

use std::fmt;

use crate::signature::{ByteTest, MAX_JUMP, Node, Signature};

/// So many bytes of any value in a row become a jump.
const LONG_SKIP: usize = 9;

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = self.nodes.iter().enumerate().all(|(i, node)| match node {
            Node::Byte(test) => !test.negated,
            Node::Skip { min, max } => {
                min == max && (*max < LONG_SKIP || i == 0 || i + 1 == self.nodes.len())
            }
            Node::Alt(_) => false,
        });
        if plain {
            return sequence(f, &self.nodes);
        }
        f.write_str("{ ")?;
        sequence(f, &self.nodes)?;
        f.write_str(" }")
    }
}

fn sequence(f: &mut fmt::Formatter<'_>, nodes: &[Node]) -> fmt::Result {
    for (i, node) in nodes.iter().enumerate() {
        if i > 0 {
            f.write_str(" ")?;
        }
        match node {
            Node::Byte(test) => fmt::Display::fmt(test, f)?,
            Node::Skip { min, max } if min == max => {
                skip(f, *max, i == 0 || i + 1 == nodes.len())?;
            }
            Node::Skip { min, max } => write!(f, "[{min}-{max}]")?,
            Node::Alt(branches) => {
                for (j, branch) in branches.iter().enumerate() {
                    f.write_str(if j == 0 { "(" } else { " | " })?;
                    sequence(f, branch)?;
                }
                f.write_str(")")?;
            }
        }
    }
    Ok(())
}

fn skip(f: &mut fmt::Formatter<'_>, len: usize, at_end: bool) -> fmt::Result {
    let mut rest = len;
    let mut space = "";
    while rest > 0 {
        f.write_str(space)?;
        space = " ";
        if at_end || rest < LONG_SKIP {
            f.write_str("??")?;
            rest -= 1;
        } else {
            let jump = rest.min(MAX_JUMP);
            write!(f, "[{jump}]")?;
            rest -= jump;
        }
    }
    Ok(())
}

impl fmt::Display for ByteTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tilde = if self.negated { "~" } else { "" };
        match self.mask {
            0xf0 => write!(f, "{tilde}{:X}?", self.value >> 4),
            0x0f => write!(f, "{tilde}?{:X}", self.value),
            _ => write!(f, "{tilde}{:02X}", self.value),
        }
    }
}
