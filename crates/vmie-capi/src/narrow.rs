//! narrow.h: numbers that were found, looked at again.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};
use std::ops::ControlFlow::Continue;

use vmie::candidates::{
    Again, CandidatesError, CandidatesErrorKind, Header, Likeness, Saved, Scope, Sought, Writer,
};
use vmie::search::{Relation, ValueType};
use vmie::{Gva, Memory};

use crate::coverage::{self, searched};
use crate::error::{Code, Error};
use crate::guard::{guard, status};
use crate::handle::Mem;
use crate::list::List;
use crate::memmodel::handle;
use crate::scan::{CValue, Values, Wanted, find, member, selection};
use crate::text::{give, path, shared};

/// `narrow_hit`. Of the values the bits, as the member that goes with the type has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct CNarrowed {
    va: u64,
    value: u64,
    old: u64,
}

const _: () = assert!(size_of::<CNarrowed>() == 24);

impl From<CandidatesError> for Error {
    fn from(error: CandidatesError) -> Self {
        let code = match error.kind {
            CandidatesErrorKind::Write(_) => Code::Io,
            _ => Code::Open,
        };
        Self::new(code, error.to_string())
    }
}

/// See narrow.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `low`, `high` and `count` are NULL or valid; `file` is NULL or ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gva_value_save(
    m: *mut Mem,
    cr3: usize,
    lo: u64,
    hi: u64,
    prot_all: u32,
    ty: c_int,
    low: *const CValue,
    high: *const CValue,
    align: u32,
    file: *const c_char,
    count: *mut u64,
) -> c_int {
    status(|| {
        coverage::clear();
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        // SAFETY: the caller's contract.
        let file = unsafe { path(file, "path") }?;
        // SAFETY: the caller's contract.
        let values = unsafe { Values::new(ty, low, high, align) }?;
        let selection = selection(lo, hi, prot_all)?;
        let space = m.space(cr3)?;
        let len = values.ty.size();
        let header = Header {
            source: m.session.path().display().to_string(),
            scope: Scope::One,
            spaces: vec![m.id(&space)],
            queries: vec![Sought {
                kind: values.ty.name().to_owned(),
                typed: values.wanted.text.clone(),
                len: len as u16,
            }],
            value_len: len as u16,
        };
        let mut writer = Writer::begin(&file, &header)?;
        let mut failed = None;
        find(&space, &values.finder, &selection, m.run(), |at, sought| {
            if failed.is_none() {
                let bytes = sought.bits.to_le_bytes();
                failed = writer.push(at.0, 0, 0, &bytes[..len]).err();
            }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let found = writer.count();
        writer.finish()?;
        // SAFETY: the caller's contract.
        unsafe { give(count, found) };
        Ok(())
    })
}

/// The type of the numbers in a file.
fn of_one_type(saved: &Saved) -> Result<ValueType, Error> {
    let unsupported = |what: &str| Error::new(Code::Unsupported, what);
    if saved.header.scope != Scope::One || saved.header.spaces.len() != 1 {
        return Err(unsupported("the candidates are in several spaces"));
    }
    let [sought] = &saved.header.queries[..] else {
        return Err(unsupported("the candidates are of several searches"));
    };
    let ty = ValueType::ALL.iter().find(|ty| ty.name() == sought.kind);
    let ty = ty.filter(|ty| ty.size() == usize::from(sought.len));
    ty.copied().ok_or_else(|| {
        unsupported(&format!(
            "the candidates are of type {}, {} bytes; only numbers are looked at again from C",
            sought.kind, sought.len
        ))
    })
}

/// The relation of a number.
fn relation_of(relation: c_int, ty: ValueType, wanted: Option<&Wanted>) -> Result<Relation, Error> {
    let has = (5..=8).contains(&relation);
    let wanted = match (wanted, has) {
        (Some(_), false) if (1..=4).contains(&relation) => {
            return Err(Error::argument(
                "low and high are for relations with a number",
            ));
        }
        (None, true) => return Err(Error::argument("low is NULL")),
        (wanted, _) => wanted,
    };
    Ok(match (relation, wanted) {
        (1, _) => Relation::Changed,
        (2, _) => Relation::Unchanged,
        (3, _) => Relation::Increased(ty),
        (4, _) => Relation::Decreased(ty),
        (5, Some(wanted)) => Relation::Equal(wanted.query(ty)?),
        (6, Some(wanted)) => Relation::NotEqual(wanted.query(ty)?),
        (7, Some(wanted)) => Relation::IncreasedBy(wanted.amount(ty)?),
        (8, Some(wanted)) => Relation::DecreasedBy(wanted.amount(ty)?),
        _ => {
            return Err(Error::argument(format!(
                "{relation} is no NARROW_ relation"
            )));
        }
    })
}

/// See narrow.h.
///
/// # Safety
///
/// `m` is NULL or an open handle; `low` and `high` are NULL or valid; `from` and `to` are NULL or end with a NUL; `out` is
/// NULL or has room for `max` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gva_value_narrow(
    m: *mut Mem,
    cr3: usize,
    from: *const c_char,
    relation: c_int,
    low: *const CValue,
    high: *const CValue,
    to: *const c_char,
    out: *mut CNarrowed,
    max: c_int,
) -> c_int {
    guard(-1, || {
        coverage::clear();
        // SAFETY: the caller's contract.
        let m = unsafe { handle(m) }?;
        // SAFETY: the caller's contract.
        let mut list = unsafe { List::new(out, max) }?;
        // SAFETY: the caller's contract.
        let from = unsafe { path(from, "from") }?;
        let to = match to.is_null() {
            true => None,
            // SAFETY: the caller's contract.
            false => Some(unsafe { path(to, "to") }?),
        };
        let mut saved = Saved::open(&from)?;
        let ty = of_one_type(&saved)?;
        let wanted = match low.is_null() {
            true => None,
            false => {
                // SAFETY: the caller's contract.
                let low = *unsafe { shared(low, "low") }?;
                // SAFETY: the caller's contract.
                let high = unsafe { high.as_ref() }.copied();
                // SAFETY: the caller's contract.
                Some(unsafe { Wanted::new(ty, low, high) })
            }
        };
        let relation = relation_of(relation, ty, wanted.as_ref())?;
        let space = m.space(cr3)?;
        let now = m.id(&space);
        let was = &saved.header.spaces[0];
        if was.likeness(&now) != Likeness::Same {
            return Err(Error::new(
                Code::NotFound,
                format!("{}: candidates in {was}, and this is {now}", from.display()),
            ));
        }
        let header = Header {
            source: m.session.path().display().to_string(),
            spaces: vec![now],
            ..saved.header.clone()
        };
        let mut writer = to.map(|to| Writer::begin(&to, &header)).transpose()?;
        let number = |bytes: &[u8]| {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            member(ty, u64::from_le_bytes(eight))
        };
        let memory: &dyn Memory<Addr = Gva> = &*space.memory;
        let narrowed = saved.narrow(
            &[Some(memory)],
            &[vec![relation]],
            writer.as_mut(),
            m.run(),
            |again: Again<'_, Gva>| {
                if let Some(new) = again.new {
                    list.push(CNarrowed {
                        va: again.addr.0,
                        value: number(new),
                        old: number(again.old),
                    });
                }
                Continue(())
            },
        )?;
        // No candidate is an answer; candidates of which none could be read are not.
        match saved.count {
            0 => coverage::set(&narrowed.coverage[0], narrowed.stopped),
            _ => searched(&narrowed.coverage[0], narrowed.stopped)?,
        }
        // The file may be the one that is replaced.
        drop(saved);
        if let Some(writer) = writer {
            writer.finish()?;
        }
        Ok(list.total())
    })
}
