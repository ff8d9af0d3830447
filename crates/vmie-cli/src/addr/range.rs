//! Ranges of addresses as they are typed.

use std::fmt;
use std::str::FromStr;

use vmie::{AddrRange, Address};

use super::number::{TOP, parse_number};
use super::{AddrExpr, Base, Lookup, Named, Offset, is_number, parse_bound, parse_len};
use crate::exit::Failure;

/// A range as typed, or what stands where one may stand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RangeExpr {
    /// As it was typed.
    text: String,
    /// What it may be: names may contain dots. Never empty, and the first that can be is meant.
    forms: Vec<Form>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Form {
    /// `A..B`, either end may be left open.
    Between(Option<AddrExpr>, Option<AddrExpr>),
    /// `A..+LEN`.
    Length(Option<AddrExpr>, u64),
    /// `A`.
    Alone(AddrExpr),
}

/// What a range means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Meant<A: Address> {
    /// The addresses.
    pub(crate) range: AddrRange<A>,
    /// Whether the end was typed, or is that of what was named; else it is the verb's.
    pub(crate) has_end: bool,
}

impl RangeExpr {
    /// The addresses it means, where an address alone means nothing.
    pub(crate) fn resolve<A: Address>(&self, lookup: &dyn Lookup) -> Result<AddrRange<A>, Failure> {
        let meant = self.each(lookup, |alone| self.with_end(alone, lookup, None))?;
        Ok(meant.range)
    }

    /// The addresses it means, where an address alone is the first of `usual` bytes.
    pub(crate) fn resolve_usual<A: Address>(
        &self,
        lookup: &dyn Lookup,
        usual: u64,
    ) -> Result<Meant<A>, Failure> {
        self.each(lookup, |alone| self.with_end(alone, lookup, Some(usual)))
    }

    /// The addresses it means, where an address alone is one byte, and so is the name of a place: what refers to a
    /// function refers to where it begins. The names of a region and a module are all of it.
    pub(crate) fn resolve_target<A: Address>(
        &self,
        lookup: &dyn Lookup,
    ) -> Result<AddrRange<A>, Failure> {
        let meant = self.each(lookup, |alone| {
            let named = named(alone, lookup)?.filter(|named| named.holds);
            match named.and_then(|named| named.extent) {
                Some(extent) => Ok(within(extent)),
                None => self.first_of(alone, lookup, 1),
            }
        })?;
        Ok(meant.range)
    }

    /// Whether it was not typed where it ends: `A..`, or an address alone.
    pub(crate) fn is_open(&self) -> bool {
        matches!(
            &self.forms[0],
            Form::Between(Some(_), None) | Form::Alone(_)
        )
    }

    /// Whether an address alone was typed, with something added to a name.
    pub(crate) fn is_moved(&self) -> bool {
        matches!(&self.forms[0], Form::Alone(alone) if alone.offset != Offset::None)
    }

    /// The first form that can be.
    fn each<A: Address>(
        &self,
        lookup: &dyn Lookup,
        mut alone: impl FnMut(&AddrExpr) -> Result<Meant<A>, Failure>,
    ) -> Result<Meant<A>, Failure> {
        let mut first = None;
        for form in &self.forms {
            let meant = match form {
                Form::Alone(one) => alone(one),
                Form::Between(from, to) => self.between(from.as_ref(), to.as_ref(), lookup),
                Form::Length(from, len) => start(from.as_ref(), lookup)
                    .and_then(|start| self.ending(start, u128::from(start) + u128::from(*len))),
            };
            match meant {
                Ok(meant) => return Ok(meant),
                Err(failure) => first = first.or(Some(failure)),
            }
        }
        Err(first.unwrap_or_else(|| Failure::new(format!("`{self}` is not a range"))))
    }

    fn between<A: Address>(
        &self,
        from: Option<&AddrExpr>,
        to: Option<&AddrExpr>,
        lookup: &dyn Lookup,
    ) -> Result<Meant<A>, Failure> {
        let start = start(from, lookup)?;
        let end = to.map_or(Ok(TOP), |to| to.resolve_end(lookup))?;
        self.ending(start, end)
    }

    /// An address alone: all of what was named, else so many bytes.
    fn with_end<A: Address>(
        &self,
        alone: &AddrExpr,
        lookup: &dyn Lookup,
        usual: Option<u64>,
    ) -> Result<Meant<A>, Failure> {
        let named = named(alone, lookup)?;
        if let Some(extent) = named.and_then(|named| named.extent) {
            return Ok(within(extent));
        }
        if let Some(usual) = usual {
            return self.first_of(alone, lookup, usual);
        }
        let what = match named {
            Some(_) => format!("of `{self}` it is not known where it ends"),
            None => format!("`{self}` is an address where a range is asked for"),
        };
        Err(Failure::new(what)
            .hint(format!("{self}..END (END excluded)"))
            .hint(format!("{self}..+LEN, such as {self}..+4K")))
    }

    /// So many bytes from an address, as far as there are any.
    fn first_of<A: Address>(
        &self,
        alone: &AddrExpr,
        lookup: &dyn Lookup,
        len: u64,
    ) -> Result<Meant<A>, Failure> {
        let start = alone.resolve(lookup)?;
        let end = (u128::from(start) + u128::from(len)).min(TOP);
        let meant = self.ending(start, end)?;
        Ok(Meant {
            has_end: false,
            ..meant
        })
    }

    fn ending<A: Address>(&self, start: u64, end: u128) -> Result<Meant<A>, Failure> {
        if end <= u128::from(start) {
            return Err(Failure::new(format!("the range {self} is empty"))
                .found(format!("it starts at {start:#x} and ends before {end:#x}"))
                .hint("A..B with A below B, or A..+LEN with a LEN above 0"));
        }
        match u64::try_from(end - 1) {
            Ok(last) => Ok(within((start, last))),
            Err(_) => Err(
                Failure::new(format!("the range {self} passes the end of the space"))
                    .found(format!("it ends at {end:#x}, the space at {TOP:#x}")),
            ),
        }
    }
}

/// Where a range begins whose first address may be left open.
fn start(from: Option<&AddrExpr>, lookup: &dyn Lookup) -> Result<u64, Failure> {
    from.map_or(Ok(0), |from| from.resolve(lookup))
}

/// What a name alone means; `None` where more than a name was typed.
fn named(alone: &AddrExpr, lookup: &dyn Lookup) -> Result<Option<Named>, Failure> {
    match alone.base {
        Base::Number { .. } => Ok(None),
        Base::Name(..) => {
            let (named, offset) = alone.resolve_name(lookup)?;
            Ok((offset == Offset::None).then_some(named))
        }
    }
}

fn within<A: Address>((first, last): (u64, u64)) -> Meant<A> {
    let range = AddrRange::inclusive(A::new(first), A::new(last.max(first)));
    Meant {
        range: range.expect("the last address is not below the first"),
        has_end: true,
    }
}

impl fmt::Display for RangeExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for RangeExpr {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let mut forms = Vec::new();
        let mut mistake = None;
        for (at, _) in text.match_indices("..") {
            match split(text, at) {
                Ok(form) => forms.push(form),
                Err(failure) => mistake = mistake.or(Some(failure)),
            }
            if text[..at].is_empty() || is_number(&text[..at]) {
                // No name begins so.
                break;
            }
        }
        // Symbols may have dots in them.
        let plain = text.starts_with(|c: char| c == '.' || c.is_ascii_digit());
        if forms.is_empty() && mistake.is_none() || !plain && text.contains("..") {
            match parse_bound(text) {
                Ok(alone) if not_the_top(&alone) => forms.push(Form::Alone(alone)),
                Ok(_) => {}
                Err(failure) => mistake = mistake.or(Some(failure)),
            }
        }
        if forms.is_empty() {
            return Err(mistake.unwrap_or_else(|| {
                Failure::new(format!("`{text}` is beyond the last address, 2^64-1"))
            }));
        }
        Ok(Self {
            text: text.to_owned(),
            forms,
        })
    }
}

fn not_the_top(alone: &AddrExpr) -> bool {
    !matches!(alone.base, Base::Number { value: TOP, .. })
}

/// The range around the dots at `at`.
fn split(text: &str, at: usize) -> Result<Form, Failure> {
    let (from, to) = (&text[..at], &text[at + 2..]);
    let bound = |side: &str| match side {
        "" => Ok(None),
        side => parse_bound(side).map(Some),
    };
    let from = bound(from)?;
    if let Some(len) = to.strip_prefix('+') {
        return match parse_len(len)? {
            0 => Err(Failure::new(format!("`{text}` is empty: its length is 0"))),
            len => Ok(Form::Length(from, len)),
        };
    }
    if let Some(last) = to.strip_prefix('=') {
        let end = match parse_number(last) {
            Ok(last) => format!("{:#x}", last + 1),
            Err(_) => format!("{last}+1"),
        };
        return Err(Failure::new(format!("`{text}` is not a range"))
            .found("`..=`, and the end of a range is excluded here")
            .hint(format!("{}..{end}", &text[..at])));
    }
    Ok(Form::Between(from, bound(to)?))
}
