//! What makes a signature a bad one, although it can be read.

use std::fmt;

use super::{Node, Signature};

/// So many matches by chance in a GiB, and a match tells little about the place where it is.
const MANY: f64 = 1000.0;

/// A reason why a signature may be of little use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Warning {
    /// All that it knows are zeros, of which memory is full.
    OnlyZeros,
    /// It has no literal bytes to look for, so every position has to be tested.
    NoAnchor,
    /// It is expected to match by chance a thousand times in a GiB, or more.
    Frequent,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OnlyZeros => "all that it knows are zeros, and memory is full of those",
            Self::NoAnchor => "it has no literal bytes to look for, so every position is tested",
            Self::Frequent => "chance alone makes it match often; more bytes would help",
        })
    }
}

impl Signature {
    /// What makes it a bad one; nothing for most. (One that knows nothing is refused when it is read.)
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if !knows_more_than_zeros(&self.nodes) {
            warnings.push(Warning::OnlyZeros);
        }
        if self.anchors().is_empty() {
            warnings.push(Warning::NoAnchor);
        }
        if self.expected_per_gib() >= MANY {
            warnings.push(Warning::Frequent);
        }
        warnings
    }

    /// For each byte of a match the bits that are known; `None` where matches are not all of one form:
    /// behind a jump of several lengths or alternatives, or with a negated byte.
    pub fn mask(&self) -> Option<Vec<u8>> {
        let mut mask = Vec::with_capacity(self.max_len);
        for node in &self.nodes {
            match node {
                Node::Byte(test) if !test.negated => mask.push(test.mask),
                Node::Skip { min, max } if min == max => mask.resize(mask.len() + max, 0),
                _ => return None,
            }
        }
        Some(mask)
    }
}

/// Whether some byte has a condition other than to be zero.
fn knows_more_than_zeros(nodes: &[Node]) -> bool {
    nodes.iter().any(|node| match node {
        Node::Byte(test) => test.negated || test.value != 0,
        Node::Skip { .. } => false,
        Node::Alt(branches) => branches.iter().any(|branch| knows_more_than_zeros(branch)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_signatures_are_told_from_good_ones() {
        for (text, doubts) in [
            ("48 8B 05 ?? ?? ?? ?? 48 85 C0 74 ?? 48 8B 40 10", &[][..]),
            ("00 00 ?? 00", &[Warning::OnlyZeros, Warning::Frequent]),
            ("4? ?8", &[Warning::NoAnchor, Warning::Frequent]),
            ("~00 ~00", &[Warning::NoAnchor, Warning::Frequent]),
            ("48 89", &[Warning::Frequent]),
        ] {
            let signature = Signature::parse("", text).unwrap();
            assert_eq!(signature.warnings(), doubts, "{text}");
        }
        assert!(Signature::parse("", "?? [3-9] ??").is_err());
    }

    #[test]
    fn a_mask_says_which_bits_are_known() {
        let mask = |text| Signature::parse("", text).unwrap().mask();
        assert_eq!(mask("48 ?? 4? ?8"), Some(vec![0xff, 0, 0xf0, 0x0f]));
        assert_eq!(mask("48 [3] 48"), Some(vec![0xff, 0, 0, 0, 0xff]));
        for form in ["48 [1-2] 48", "(48 | 49)", "~48"] {
            assert_eq!(mask(form), None, "{form}");
        }
    }
}
