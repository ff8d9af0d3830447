//! How wide the program of a process is, put together from signs that do not depend on each other.
//!
//! An operating system collects what each place says ([`WidthSign`]), the strongest first; here it is decided
//! what follows. The first sign that says anything about the pointers decides about them, and the same for
//! the code; every later one that says something else is a [`Finding`], for somebody has changed one of
//! the two, or the process runs code of another width than its program's.

use crate::addr::Gva;
use crate::os::{Finding, FindingKind, Process};
use crate::width::{CodeBits, ProgramWidth, Width};

/// What one place says about the width of a process's program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WidthSign {
    /// The place, in words for a sentence: `the header of its program`.
    pub name: &'static str,
    /// What it says; it may tell nothing of the one or the other.
    pub says: ProgramWidth,
}

/// How wide the program of a process is, and by what that is known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProcessWidth {
    /// What was decided; unknown where no sign tells.
    pub width: ProgramWidth,
    /// All signs that told something, the strongest first.
    pub signs: Vec<WidthSign>,
    /// Signs that contradict each other.
    pub findings: Vec<Finding>,
}

impl ProcessWidth {
    /// Decides by the signs, of which the strongest comes first.
    pub fn of(process: &Process, signs: impl IntoIterator<Item = WidthSign>) -> Self {
        let told = |sign: &WidthSign| sign.says != ProgramWidth::UNKNOWN;
        let signs: Vec<WidthSign> = signs.into_iter().filter(told).collect();
        let width = decide(&signs);
        Self {
            findings: contradictions(process, width, &signs),
            width,
            signs,
        }
    }

    /// The names of the signs that agree with what was decided.
    pub fn grounds(&self) -> impl Iterator<Item = &'static str> {
        let agrees = |sign: &&WidthSign| !contradicts(sign.says, self.width);
        self.signs.iter().filter(agrees).map(|sign| sign.name)
    }
}

/// What the first sign of each says, and what follows from it: 32-bit code has no other pointers, and 64-bit
/// pointers are of no other code.
fn decide(signs: &[WidthSign]) -> ProgramWidth {
    let pointers = signs.iter().find_map(|sign| sign.says.pointers);
    let code = signs.iter().find_map(|sign| sign.says.code);
    ProgramWidth {
        pointers: pointers.or(match code {
            Some(CodeBits::B32) => Some(Width::Four),
            _ => None,
        }),
        code: code.or(match pointers {
            Some(Width::Eight) => Some(CodeBits::B64),
            _ => None,
        }),
    }
}

/// Whether two statements cannot both be true.
fn contradicts(one: ProgramWidth, other: ProgramWidth) -> bool {
    let pointers = one.pointers.zip(other.pointers);
    let code = one.code.zip(other.code);
    pointers.is_some_and(|(one, other)| one != other)
        || code.is_some_and(|(one, other)| one != other)
}

fn contradictions(process: &Process, width: ProgramWidth, signs: &[WidthSign]) -> Vec<Finding> {
    let decided = |told: fn(&WidthSign) -> bool| signs.iter().find(|sign| told(sign));
    let deciders = [
        decided(|sign| sign.says.pointers.is_some()),
        decided(|sign| sign.says.code.is_some()),
    ];
    let mut by: Vec<&str> = deciders
        .into_iter()
        .flatten()
        .map(|sign| sign.name)
        .collect();
    by.dedup();
    let by = by.join(" and ");
    let finding = |sign: &WidthSign| Finding {
        kind: FindingKind::Inconsistent,
        at: Some::<Gva>(process.object),
        text: format!(
            "process {} ({}) has {width} by {by}, but {} by {}",
            process.pid, process.name, sign.says, sign.name
        ),
    };
    let other = signs.iter().filter(|sign| contradicts(sign.says, width));
    other.map(finding).collect()
}
