//! Addresses, lengths and ranges as they are typed.
//!
//! ```text
//! NUMBER  0x1f_ff00, 8192                      hexadecimal needs its 0x; `_` may separate digits
//! LEN     NUMBER, or a number of K, M, G, T    also KiB, KB and so on; all are binary
//! ADDR    NUMBER | NAME | NAME+LEN | NAME-LEN  NAME: a symbol, a module, module!symbol or a [region]
//! RANGE   ADDR..ADDR (the end is excluded) | ADDR..+LEN | ADDR.. | ..ADDR
//!         | NAME of what has an end | ADDR alone, as long as the verb says
//! ```
//!
//! A sign always moves an address. `NUMBER+NUMBER`, which once was a range here and is one elsewhere, is refused wherever
//! it stands, and so is a second sign behind a name: whoever typed it learns both spellings of what it may have meant.
//!
//! Typed text becomes an expression first and an address later, because names mean something only in a space, which is
//! chosen after the arguments are parsed. Names may look like anything (`8021q`, `libstdc++.so.6`, `ld-2`, `core::ptr..`),
//! so where a text may be a name, what it would be otherwise is an error only if there is no such name.

mod number;
mod range;

use std::fmt;
use std::str::FromStr;

use crate::exit::Failure;

use number::{TOP, parse_number};
pub(crate) use number::{parse_len, parse_u64};
pub(crate) use range::{Meant, RangeExpr};

/// What a name means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Named {
    /// Its address, from which offsets count.
    pub(crate) at: u64,
    /// The first and the last byte, where it has an end.
    pub(crate) extent: Option<(u64, u64)>,
    /// Whether it is something to look into (a region, a module) and not a place (a symbol).
    pub(crate) holds: bool,
}

/// Whoever knows what names mean.
pub(crate) trait Lookup {
    /// What a name means here.
    fn named(&self, name: &str) -> Result<Named, Failure>;

    /// Says that an address was typed in decimal, which few people mean.
    fn decimal(&self, text: &str, value: u64);
}

/// An address as typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AddrExpr {
    /// As it was typed.
    text: String,
    base: Base,
    offset: Offset,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Base {
    /// At most 2^64, which is a valid end of a range but not an address.
    Number { value: u128, decimal: bool },
    /// A name; what to say where it is none, if that is more than that there is no such name.
    Name(String, Option<Box<Failure>>),
}

/// What is added to a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Offset {
    None,
    Forward(u64),
    Back(u64),
}

impl AddrExpr {
    /// The address it means.
    pub(crate) fn resolve(&self, lookup: &dyn Lookup) -> Result<u64, Failure> {
        u64::try_from(self.resolve_end(lookup)?).map_err(|_| self.outside())
    }

    /// As the end of a range, which may be 2^64.
    fn resolve_end(&self, lookup: &dyn Lookup) -> Result<u128, Failure> {
        match &self.base {
            Base::Number { value, decimal } => {
                if let (true, Ok(value)) = (*decimal, u64::try_from(*value)) {
                    lookup.decimal(&self.text, value);
                }
                Ok(*value)
            }
            Base::Name(..) => {
                let (named, offset) = self.resolve_name(lookup)?;
                let at = u128::from(named.at);
                let moved = match offset {
                    Offset::None => Some(at),
                    Offset::Forward(by) => Some(at + u128::from(by)),
                    Offset::Back(by) => at.checked_sub(u128::from(by)),
                };
                moved
                    .filter(|&value| value <= TOP)
                    .ok_or_else(|| self.outside())
            }
        }
    }

    /// What the name alone means, and what is added to it; an error for a number.
    fn resolve_name(&self, lookup: &dyn Lookup) -> Result<(Named, Offset), Failure> {
        let Base::Name(name, reserve) = &self.base else {
            return Err(Failure::new(format!("`{self}` is not a name")));
        };
        let whole = || Some((lookup.named(&self.text).ok()?, Offset::None));
        let parts = || lookup.named(name).map(|named| (named, self.offset));
        match self.offset {
            Offset::None => {
                let found = parts();
                found.map_err(|failure| reserve.as_deref().cloned().unwrap_or(failure))
            }
            // The plus of `libstdc++.so.6` starts no offset, and few names have one before a number.
            Offset::Forward(_) => parts().or_else(|failure| whole().ok_or(failure)),
            // But `ld-2` is a name as good as any.
            Offset::Back(_) => whole().map_or_else(parts, Ok),
        }
    }

    fn outside(&self) -> Failure {
        Failure::new(format!("the address {self} lies outside the 64-bit space"))
    }
}

impl fmt::Display for AddrExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for AddrExpr {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let expr = parse_bound(text)?;
        if let Base::Number { value: TOP, .. } = expr.base {
            return Err(Failure::new(format!(
                "`{text}` is beyond the last address, 2^64-1"
            )));
        }
        if let Some((from, to)) = text.split_once("..")
            && is_number(from)
        {
            return Err(Failure::new(format!(
                "`{text}` is a range where one address is asked for"
            ))
            .hint(format!("{from}, where it begins"))
            .hint(format!("{}, its last byte", last_byte(to))));
        }
        Ok(expr)
    }
}

/// How the last byte before the end of a range is called.
fn last_byte(end: &str) -> String {
    match parse_number(end) {
        Ok(end) if end > 0 => format!("{:#x}", end - 1),
        _ => format!("{end}-1"),
    }
}

fn is_number(text: &str) -> bool {
    parse_number(text).is_ok()
}

/// An address or the end of a range.
fn parse_bound(text: &str) -> Result<AddrExpr, Failure> {
    let expr = |base, offset| AddrExpr {
        text: text.to_owned(),
        base,
        offset,
    };
    if text.trim().is_empty() {
        return Err(
            Failure::new("an address is asked for and nothing was typed")
                .hint("0x and hexadecimal digits, or a decimal number"),
        );
    }
    // Modules may be called `8021q`; a number has no exclamation mark.
    if text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains('!') {
        if let Some((first, sign, second)) = split_sign(text)
            && is_number(first)
        {
            return Err(two_numbers(text, first, sign, second));
        }
        return Ok(match parse_number(text) {
            Ok(value) => {
                let decimal = !text.starts_with("0x") && !text.starts_with("0X");
                expr(Base::Number { value, decimal }, Offset::None)
            }
            Err(failure) => {
                let failure = hex_range(text).unwrap_or(failure);
                expr(
                    Base::Name(text.to_owned(), Some(Box::new(failure))),
                    Offset::None,
                )
            }
        });
    }
    if text.starts_with(['+', '-']) {
        return Err(Failure::new(format!("`{text}` is not an address"))
            .found("a sign, and nothing before it that it could move")
            .hint("0x and hexadecimal digits, or a decimal number")
            .hint(format!("NAME{text}, with a symbol, a module or a region")));
    }
    let Some((name, sign, by)) = split_sign(text) else {
        return Ok(expr(Base::Name(text.to_owned(), None), Offset::None));
    };
    let Ok(by) = parse_len(by) else {
        // `libfoo+1abc` may be a name; if it is not, its offset is wrong.
        let starts = by.starts_with(|c: char| c.is_ascii_digit());
        let reserve = parse_len(by).err().filter(|_| starts && sign == '+');
        let base = Base::Name(text.to_owned(), reserve.map(Box::new));
        return Ok(expr(base, Offset::None));
    };
    if let Some((before, '+', offset)) = split_sign(name)
        && let Ok(offset) = parse_len(offset)
    {
        return Err(two_offsets(text, before, offset, sign, by));
    }
    let offset = match sign {
        '+' => Offset::Forward(by),
        _ => Offset::Back(by),
    };
    Ok(expr(Base::Name(name.to_owned(), None), offset))
}

/// What stands before the last sign, the sign, and what stands behind it.
fn split_sign(text: &str) -> Option<(&str, char, &str)> {
    let at = text.rfind(['+', '-'])?;
    let sign = if text[at..].starts_with('+') {
        '+'
    } else {
        '-'
    };
    Some((&text[..at], sign, &text[at + 1..]))
}

/// Two numbers with a sign between them.
fn two_numbers(text: &str, first: &str, sign: char, second: &str) -> Failure {
    let base = parse_number(first).unwrap_or(0);
    let failure = Failure::new(match sign {
        '+' => format!("`{text}` may be an address or a range"),
        _ => format!("`{text}` may be an address or the ends of a range"),
    });
    let failure = match as_hex(first) {
        Some(_) if base >= 0x1000 => failure.found(taken_as_decimal(first, base)),
        _ => failure,
    };
    let by = parse_len(second).ok().map(u128::from);
    if sign == '+' {
        let failure = failure.hint(format!("{first}..+{second}, for the {second} bytes there"));
        return match by.map(|by| base + by) {
            Some(sum) => failure.hint(format!("{sum:#x}, for the address that is the sum")),
            None => failure,
        };
    }
    let end = parse_number(second).ok().filter(|&end| end > base);
    let failure = match end {
        Some(_) => failure.hint(format!("{first}..{second}, for what lies between")),
        None => failure,
    };
    match by.and_then(|by| base.checked_sub(by)) {
        Some(difference) => failure.hint(format!(
            "{difference:#x}, for the address that is the difference"
        )),
        None => failure,
    }
}

/// A name with two offsets: the second one was a length once.
fn two_offsets(text: &str, name: &str, offset: u64, sign: char, by: u64) -> Failure {
    let failure = Failure::new(format!("`{text}` has two offsets"));
    let sum = match sign {
        '+' => u128::from(offset) + u128::from(by),
        _ => u128::from(offset.saturating_sub(by)),
    };
    let failure = failure.hint(format!("{name}+{sum:#x}, for one address"));
    match sign {
        '+' => failure.hint(format!("{name}+{offset:#x}..+{by:#x}, for a range")),
        _ => failure,
    }
}

/// A text such as `7f3000-7f4000`, as `/proc/PID/maps` shows ranges.
fn hex_range(text: &str) -> Option<Failure> {
    let (from, to) = text.split_once('-')?;
    let is_hex = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit());
    (is_hex(from) && is_hex(to)).then(|| {
        Failure::new(format!("`{text}` is neither an address nor a range"))
            .found("two numbers without 0x and a dash between them")
            .hint(format!(
                "0x{from}..0x{to}, for what lies between (0x{to} excluded)"
            ))
    })
}

/// Decimal digits as hexadecimal ones.
fn as_hex(text: &str) -> Option<String> {
    let digits = text.chars().all(|c| c.is_ascii_digit());
    digits.then(|| format!("0x{text}"))
}

/// What to say of an address in decimal.
pub(crate) fn taken_as_decimal(text: &str, value: u128) -> String {
    format!("{text} was taken as decimal, {value:#x}; hexadecimal needs its 0x: 0x{text}")
}

#[cfg(test)]
mod tests;
