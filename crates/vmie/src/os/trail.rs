//! Where an operating system was found, in a form that can be kept.

use std::fmt;
use std::str::FromStr;

use crate::addr::{Gpa, Gva};
use crate::paging::Mode;

/// How many marks a trail has at most.
const MAX_MARKS: usize = 16;

/// Where an operating system was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trail {
    /// Root of the kernel's address space.
    pub root: Gpa,
    /// Its mode.
    pub mode: Mode,
    /// Bits to clear in page-table entries.
    pub ignore: u64,
    /// Addresses whose meaning the search knows that left them.
    pub marks: Vec<Gva>,
}

impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            root,
            mode,
            ignore,
            marks,
        } = self;
        write!(f, "{mode} root={root} ignore={ignore:#x}")?;
        marks.iter().try_for_each(|mark| write!(f, " {mark}"))
    }
}

/// A text that is no [`Trail`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not the trail of a search for an operating system")]
pub struct UnknownTrail;

impl FromStr for Trail {
    type Err = UnknownTrail;

    fn from_str(text: &str) -> Result<Self, UnknownTrail> {
        let hex = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
        let parse = || {
            let mut words = text.split(' ');
            let mode = words.next()?.parse().ok()?;
            let root = Gpa(hex(words.next()?.strip_prefix("root=")?)?);
            let ignore = hex(words.next()?.strip_prefix("ignore=")?)?;
            let marks: Option<Vec<Gva>> = words.map(|word| hex(word).map(Gva)).collect();
            let marks = marks.filter(|marks| marks.len() <= MAX_MARKS)?;
            Some(Self {
                root,
                mode,
                ignore,
                marks,
            })
        };
        parse().ok_or(UnknownTrail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trails_are_written_and_read() {
        let trail = Trail {
            root: Gpa(0x661_0000),
            mode: Mode::FiveLevel,
            ignore: 1 << 47,
            marks: vec![Gva(0xffff_ffff_97e1_0000), Gva(0)],
        };
        let text = "5level root=0x6610000 ignore=0x800000000000 0xffffffff97e10000 0x0";
        assert_eq!(trail.to_string(), text);
        assert_eq!(text.parse(), Ok(trail));
        let many = format!("4level root=0x0 ignore=0x0{}", " 0x1".repeat(17));
        for wrong in [
            "",
            "4level",
            "6level root=0x0 ignore=0x0",
            "4level root=0 ignore=0x0",
            "4level root=0x0 ignore=0x0 x",
            "4level  root=0x0 ignore=0x0",
            &many,
        ] {
            assert_eq!(wrong.parse::<Trail>(), Err(UnknownTrail), "{wrong}");
        }
    }
}
