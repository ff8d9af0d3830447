//! Addresses, lengths and ranges as they are typed.
//!
//! ```text
//! NUMBER  0x1f_ff00, 8192                          hexadecimal needs its 0x; `_` may separate digits
//! LEN     NUMBER, or a number of KiB, MiB, GiB, TiB
//! ADDR    NUMBER | NAME | NAME+LEN                 NAME: a symbol, a module or module!symbol
//! RANGE   ADDR..ADDR (the end is excluded) | ADDR+LEN | ADDR.. | ..ADDR
//! ```
//!
//! Typed text becomes an expression first and an address later, because names mean something only
//! in a space, which is chosen after the arguments are parsed. A name without `!` never starts with a
//! digit, so a mistyped number is reported as one.
//!
//! `X+Y` alone is an address in the place of an ADDR and a range in the place of a RANGE; there the
//! *last* `+` starts the length, so that `libc.so.6+0x1000+64` is 64 bytes at an offset.

use std::fmt;
use std::str::FromStr;

use vmie::{AddrRange, Address};

use crate::exit::Failure;

/// One past the highest address.
const TOP: u128 = 1 << 64;

/// Looks up the address of a module or symbol name.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Result<u64, Failure>;

/// An address as typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AddrExpr {
    name: Option<String>,
    /// At most 2^64, which is a valid end of a range but not an address.
    offset: u128,
}

impl AddrExpr {
    /// The address it means.
    pub(crate) fn resolve(&self, lookup: Lookup<'_>) -> Result<u64, Failure> {
        let value = self.resolve_end(lookup)?;
        u64::try_from(value)
            .map_err(|_| Failure::new(format!("the address {self} lies outside the 64-bit space")))
    }

    /// As the end of a range, which may be 2^64.
    fn resolve_end(&self, lookup: Lookup<'_>) -> Result<u128, Failure> {
        let base = match &self.name {
            Some(name) => u128::from(lookup(name)?),
            None => 0,
        };
        Some(base + self.offset)
            .filter(|&value| value <= TOP)
            .ok_or_else(|| {
                Failure::new(format!("the address {self} lies outside the 64-bit space"))
            })
    }
}

impl fmt::Display for AddrExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) if self.offset == 0 => f.write_str(name),
            Some(name) => write!(f, "{name}+{:#x}", self.offset),
            None => write!(f, "{:#x}", self.offset),
        }
    }
}

impl FromStr for AddrExpr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expr = parse_bound(text)?;
        if expr.name.is_none() && expr.offset >= TOP {
            return Err(format!("`{text}` is beyond the last address, 2^64-1"));
        }
        Ok(expr)
    }
}

/// A range as typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RangeExpr {
    /// `A..B`, either end may be left open.
    Between(Option<AddrExpr>, Option<AddrExpr>),
    /// `A+LEN`.
    Length(AddrExpr, u64),
}

impl RangeExpr {
    /// The addresses it means.
    pub(crate) fn resolve<A: Address>(&self, lookup: Lookup<'_>) -> Result<AddrRange<A>, Failure> {
        let (start, end) = match self {
            Self::Between(from, to) => (
                from.as_ref().map_or(Ok(0), |from| from.resolve(lookup))?,
                to.as_ref().map_or(Ok(TOP), |to| to.resolve_end(lookup))?,
            ),
            Self::Length(from, len) => {
                let start = from.resolve(lookup)?;
                (start, u128::from(start) + u128::from(*len))
            }
        };
        if end <= u128::from(start) {
            return Err(Failure::new(format!("the range {self} is empty"))
                .found(format!("it starts at {start:#x} and ends before {end:#x}"))
                .hint("give A..B with A below B, or A+LEN with a LEN above 0"));
        }
        u64::try_from(end - 1)
            .ok()
            .and_then(|last| AddrRange::inclusive(A::new(start), A::new(last)))
            .ok_or_else(|| {
                Failure::new(format!("the range {self} passes the end of the space"))
                    .found(format!("it ends at {end:#x}, the space at {TOP:#x}"))
            })
    }
}

impl fmt::Display for RangeExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Between(from, to) => {
                if let Some(from) = from {
                    write!(f, "{from}")?;
                }
                f.write_str("..")?;
                if let Some(to) = to {
                    write!(f, "{to}")?;
                }
                Ok(())
            }
            Self::Length(from, len) => write!(f, "{from}+{len:#x}"),
        }
    }
}

impl FromStr for RangeExpr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bound = |side: &str| match side {
            "" => Ok(None),
            side => parse_bound(side).map(Some),
        };
        if let Some((from, to)) = text.split_once("..") {
            return Ok(Self::Between(bound(from)?, bound(to)?));
        }
        if let Some((from, len)) = text.rsplit_once('+') {
            let len = parse_len(len)?;
            if len == 0 {
                return Err(format!("`{text}` is empty: its length is 0"));
            }
            return Ok(Self::Length(from.parse()?, len));
        }
        Err(format!(
            "`{text}` is not a range: give {text}..END (END excluded) or {text}+LEN, such as {text}+4KiB"
        ))
    }
}

/// An address or a range as typed, where either is taken.
///
/// `NUMBER+LEN` is a range, since there is no such address; `NAME+LEN` is an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TargetExpr {
    /// One address.
    Addr(AddrExpr),
    /// All of a range.
    Range(RangeExpr),
}

impl TargetExpr {
    /// The addresses it means.
    pub(crate) fn resolve<A: Address>(&self, lookup: Lookup<'_>) -> Result<AddrRange<A>, Failure> {
        match self {
            Self::Addr(addr) => {
                let at = A::new(addr.resolve(lookup)?);
                Ok(AddrRange::inclusive(at, at).expect("one address is a range"))
            }
            Self::Range(range) => range.resolve(lookup),
        }
    }
}

impl fmt::Display for TargetExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Range(range) => range.fmt(f),
        }
    }
}

impl FromStr for TargetExpr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_number = text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains('!');
        if text.contains("..") || (is_number && text.contains('+')) {
            text.parse().map(Self::Range)
        } else {
            text.parse().map(Self::Addr)
        }
    }
}

/// An address or the end of a range.
fn parse_bound(text: &str) -> Result<AddrExpr, String> {
    // Modules may be called `8021q`; a number has no exclamation mark.
    if text.starts_with(|c: char| c.is_ascii_digit()) && !text.contains('!') {
        return Ok(AddrExpr {
            name: None,
            offset: parse_number(text)?,
        });
    }
    let (name, offset) = match text.rsplit_once('+') {
        // The plus of `libstdc++.so.6` starts no offset.
        Some((name, offset))
            if offset.is_empty() || offset.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            (name, u128::from(parse_len(offset)?))
        }
        _ => (text, 0),
    };
    if name.is_empty() || name.starts_with(['+', '-']) {
        return Err(format!(
            "`{text}` is not an address: give 0x and hexadecimal digits, or a decimal number"
        ));
    }
    Ok(AddrExpr {
        name: Some(name.to_owned()),
        offset,
    })
}

/// A length: a number of bytes, or of KiB, MiB, GiB, TiB.
pub(crate) fn parse_len(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 4] = [("kib", 10), ("mib", 20), ("gib", 30), ("tib", 40)];
    let lower = text.to_ascii_lowercase();
    let (number, shift) = UNITS
        .iter()
        .find_map(|&(unit, shift)| Some((lower.strip_suffix(unit)?.trim_end(), shift)))
        .unwrap_or((&lower, 0));
    let value = parse_number(number).map_err(|_| {
        format!("`{text}` is not a length: give a number of bytes, KiB, MiB or GiB")
    })?;
    u64::try_from(value << shift)
        .map_err(|_| format!("the length `{text}` does not fit in 64 bits"))
}

/// A number up to 2^64, which may end a range.
fn parse_number(text: &str) -> Result<u128, String> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    let mut value: u128 = 0;
    let mut any = false;
    for c in digits.chars().filter(|&c| c != '_') {
        let Some(digit) = c.to_digit(radix) else {
            return Err(if radix == 10 && c.is_ascii_hexdigit() {
                format!("`{text}` is not a decimal number: hexadecimal needs its 0x, 0x{text}")
            } else {
                format!(
                    "`{text}` is not a number: unexpected `{}`",
                    c.escape_debug()
                )
            });
        };
        value = value * u128::from(radix) + u128::from(digit);
        if value > TOP {
            return Err(format!("`{text}` does not fit in 64 bits"));
        }
        any = true;
    }
    if any {
        Ok(value)
    } else {
        Err(format!("`{text}` is not a number: it has no digits"))
    }
}

/// A plain 64-bit number: what options such as `--cr3` take.
pub(crate) fn parse_u64(text: &str) -> Result<u64, String> {
    u64::try_from(parse_number(text)?).map_err(|_| format!("`{text}` does not fit in 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_addresses_or_ranges() {
        let lookup = |name: &str| match name {
            "sym" => Ok(0x5000),
            _ => Err(Failure::new("unknown")),
        };
        let resolve = |text: &str| {
            let range: AddrRange<vmie::Gva> = text
                .parse::<TargetExpr>()?
                .resolve(&lookup)
                .map_err(|_| "unknown")?;
            Ok((range.start().0, range.len()))
        };
        assert_eq!(resolve("0x1000"), Ok((0x1000, 1)));
        assert_eq!(resolve("0x1000+0x20"), Ok((0x1000, 0x20)));
        assert_eq!(resolve("0x1000..0x1008"), Ok((0x1000, 8)));
        assert_eq!(resolve("sym"), Ok((0x5000, 1)));
        assert_eq!(resolve("sym+0x10"), Ok((0x5010, 1)));
        assert_eq!(resolve("sym..sym+0x10"), Ok((0x5000, 0x10)));
        assert!(resolve("+").is_err() && resolve("12ab").is_err() && resolve("1+0").is_err());
        let unknown: Result<(u64, u64), String> = resolve("other");
        assert_eq!(unknown, Err("unknown".into()));
    }
    use vmie::Gva;

    fn lookup(name: &str) -> Result<u64, Failure> {
        match name {
            "libc.so.6" => Ok(0x7f00_0000_0000),
            "libstdc++.so.6" => Ok(0x7e00_0000_0000),
            "8021q!vlan_init" => Ok(0xffff_0000),
            _ => Err(Failure::new("unknown")),
        }
    }

    fn addr(text: &str) -> Result<u64, String> {
        let expr: AddrExpr = text.parse()?;
        expr.resolve(&lookup).map_err(|failure| failure.what)
    }

    fn range(text: &str) -> Result<(u64, u64), String> {
        let expr: RangeExpr = text.parse()?;
        let range = expr
            .resolve::<Gva>(&lookup)
            .map_err(|failure| failure.what)?;
        Ok((range.start().0, range.last().0))
    }

    #[test]
    fn addresses() {
        for (text, value) in [
            ("0", 0),
            ("4096", 4096),
            ("0x1000", 0x1000),
            ("0XfF", 0xff),
            ("0xffff_8000_0000_0000", 0xffff_8000_0000_0000),
            ("1_000", 1000),
            ("0xffffffffffffffff", u64::MAX),
            ("18446744073709551615", u64::MAX),
            ("libc.so.6", 0x7f00_0000_0000),
            ("libc.so.6+0x10", 0x7f00_0000_0010),
            ("libc.so.6+4KiB", 0x7f00_0000_1000),
            ("libstdc++.so.6", 0x7e00_0000_0000),
            ("libstdc++.so.6+0x10", 0x7e00_0000_0010),
            ("8021q!vlan_init+8", 0xffff_0008),
        ] {
            assert_eq!(addr(text), Ok(value), "{text}");
        }
        for text in [
            "",
            "0x",
            "_",
            "0x_",
            "12ab",
            "0x12g",
            "-1",
            "+1",
            "0x10000000000000000",
            "18446744073709551616",
            "99999999999999999999999999999999999999999999999999999",
            "nosuch",
            "libc.so.6+",
            "libc.so.6+0xffffffffffffffff",
        ] {
            assert!(addr(text).is_err(), "{text}");
        }
        assert!(addr("12ab").is_err_and(|e| e.contains("0x12ab")));
    }

    #[test]
    fn ranges() {
        for (text, first, last) in [
            ("0x1000..0x2000", 0x1000, 0x1fff),
            ("0x1000+0x1000", 0x1000, 0x1fff),
            ("0x1000+1", 0x1000, 0x1000),
            ("4096+4KiB", 0x1000, 0x1fff),
            ("0+2MiB", 0, 0x1f_ffff),
            ("0+1gib", 0, 0x3fff_ffff),
            (
                "0xffffffffffff0000..0x10000000000000000",
                0xffff_ffff_ffff_0000,
                u64::MAX,
            ),
            ("0xfffffffffffff000+4KiB", 0xffff_ffff_ffff_f000, u64::MAX),
            ("0x1000..", 0x1000, u64::MAX),
            ("..0x1000", 0, 0xfff),
            ("..", 0, u64::MAX),
            (
                "libc.so.6+0x10..libc.so.6+0x20",
                0x7f00_0000_0010,
                0x7f00_0000_001f,
            ),
            ("libc.so.6+0x10", 0x7f00_0000_0000, 0x7f00_0000_000f),
            ("libstdc++.so.6+64", 0x7e00_0000_0000, 0x7e00_0000_003f),
            ("libc.so.6+0x1000+64", 0x7f00_0000_1000, 0x7f00_0000_103f),
        ] {
            assert_eq!(range(text), Ok((first, last)), "{text}");
        }
        for text in [
            "0x1000",
            "libc.so.6",
            "2..1",
            "1..1",
            "1+0",
            "0xffffffffffffffff+2",
            "1+1PiB",
            "0..0x10000000000000001",
            "0+99999999999GiB",
        ] {
            assert!(range(text).is_err(), "{text}");
        }
        assert!(range("0x1000").is_err_and(|e| e.contains("0x1000+4KiB")));
    }
}
