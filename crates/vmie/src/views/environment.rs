//! What processes were given at their start: variables of the environment, as their own memory has them now.

use crate::addr::{Address, Gva, PAGE_SIZE};
use crate::memory::{Fault, read_around_holes};
use crate::os::{Finding, FindingKind, Guest, Listing, OsError, Process};

/// How much of an environment is read: what the kernel lets a program have, three quarters of 8 MiB.
const MAX_BYTES: u64 = 6 << 20;

/// One string of an environment. All text is the process's own, which may have overwritten it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Variable {
    /// Where it stands.
    pub va: Gva,
    /// What stands before the first `=`, never empty; `None` where there is none: then [`Variable::value`] is all of it.
    pub name: Option<Vec<u8>>,
    /// The rest, which may be empty.
    pub value: Vec<u8>,
}

impl Variable {
    fn new(va: Gva, text: &[u8]) -> Self {
        match text.iter().position(|&byte| byte == b'=') {
            Some(equals) if equals > 0 => Self {
                va,
                name: Some(text[..equals].to_vec()),
                value: text[equals + 1..].to_vec(),
            },
            _ => Self {
                va,
                name: None,
                value: text.to_vec(),
            },
        }
    }
}

/// The environment of a process, in order. Empty strings are left out, as they are what an overwritten environment is
/// padded with. What stands on pages that are not in memory is a finding, and a string that such a page cuts is no row.
///
/// Cost: one read of up to 6 MiB, usually some KiB.
///
/// # Errors
///
/// [`OsError::NoMemory`]; [`OsError::Object`] when it is not known where the environment is.
pub fn environment(guest: &dyn Guest, process: &Process) -> Result<Listing<Variable>, OsError> {
    let space = guest.space_of(process)?;
    let objects = guest.objects()?;
    // Its first thread may have exited, and given the memory back, while others go on.
    let Some(mm) = process.linux().and_then(|linux| linux.mm) else {
        return Err(OsError::no_memory(process));
    };
    let mm = objects.object_at(mm, "mm_struct")?.load();
    let (start, end) = (mm.pointer("env_start")?, mm.pointer("env_end")?);
    let mut listing = Listing::default();
    let Some(len) = end.offset_from(start) else {
        listing.findings.push(Finding {
            kind: FindingKind::Damaged,
            at: Some(mm.address()),
            text: format!(
                "the environment of process {} ends at {end}, before it starts at {start}",
                process.pid
            ),
        });
        return Ok(listing);
    };
    if len > MAX_BYTES {
        listing.findings.push(Finding {
            kind: FindingKind::Limit,
            at: Some(mm.address()),
            text: format!(
                "the environment of process {} has {len} bytes, of which the first {MAX_BYTES} are read",
                process.pid
            ),
        });
    }
    let mut bytes = vec![0; len.min(MAX_BYTES) as usize];
    let most = bytes.len();
    let mut holes: Vec<(usize, usize, Fault<Gva>)> = Vec::new();
    read_around_holes(
        &space,
        start,
        &mut bytes,
        PAGE_SIZE,
        |at, hole, fault| match holes.last_mut() {
            Some(last) if last.1 == at => last.1 = at + hole,
            _ => holes.push((at, at + hole, fault)),
        },
    );
    // What a hole cuts is not known: strings begin behind it.
    let mut readable = vec![(0, most)];
    for &(from, to, fault) in &holes {
        if let Some(last) = readable.last_mut() {
            last.1 = from;
        }
        readable.push((to, most));
        listing.findings.push(Finding {
            kind: FindingKind::Unreadable,
            at: start.checked_add(from as u64),
            text: format!(
                "{} bytes of the environment of process {} cannot be read: {fault}",
                to - from,
                process.pid
            ),
        });
    }
    for (from, to) in readable {
        strings(&bytes, from, to, len > MAX_BYTES, |at, text| {
            if let Some(va) = start.checked_add(at as u64) {
                listing.items.push(Variable::new(va, text));
            }
        });
    }
    Ok(listing)
}

/// The strings that are whole within `from..to`: between NULs, or the ends of what was read where nothing is missing there.
fn strings(bytes: &[u8], from: usize, to: usize, cut: bool, mut on: impl FnMut(usize, &[u8])) {
    let Some(part) = bytes.get(from..to) else {
        return;
    };
    let mut at = from;
    for (index, text) in part.split(|&byte| byte == 0).enumerate() {
        let end = at + text.len();
        let begins = index > 0 || from == 0;
        let ends = end < to || (to == bytes.len() && !cut);
        if begins && ends && !text.is_empty() {
            on(at, text);
        }
        at = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8], from: usize, to: usize, cut: bool) -> Vec<(usize, Vec<u8>)> {
        let mut all = Vec::new();
        strings(bytes, from, to, cut, |at, text| {
            all.push((at, text.to_vec()));
        });
        all
    }

    #[test]
    fn only_whole_strings_are_told() {
        let bytes = b"A=1\0B=2\0\0C=3\0";
        let all = [
            (0, b"A=1".to_vec()),
            (4, b"B=2".to_vec()),
            (9, b"C=3".to_vec()),
        ];
        assert_eq!(told(bytes, 0, bytes.len(), false), all);
        // A hole before `=2`, one behind `C`.
        assert_eq!(told(bytes, 5, bytes.len(), false), all[2..]);
        assert_eq!(told(bytes, 0, 10, false), all[..2]);
        // The last one need not end with a NUL, unless more of it was left out.
        assert_eq!(told(b"A=1\0B", 0, 5, false).len(), 2);
        assert_eq!(told(b"A=1\0B", 0, 5, true).len(), 1);
        assert_eq!(told(b"", 0, 0, false), []);
    }

    #[test]
    fn what_is_no_assignment_has_no_name() {
        let of = |text: &[u8]| Variable::new(Gva(0), text);
        assert_eq!(of(b"A=").name.as_deref(), Some(&b"A"[..]));
        assert_eq!(
            (of(b"A=").value, of(b"A=b=c").value),
            (vec![], b"b=c".to_vec())
        );
        assert_eq!((of(b"=x").name, of(b"=x").value), (None, b"=x".to_vec()));
        assert_eq!(
            (of(b"title").name, of(b"title").value),
            (None, b"title".to_vec())
        );
    }
}
