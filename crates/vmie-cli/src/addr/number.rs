//! Numbers and lengths as they are typed.

use crate::exit::Failure;

/// One past the highest address.
pub(super) const TOP: u128 = 1 << 64;

/// Units of lengths, all of them binary, the longer names first.
const UNITS: [(&str, u32); 14] = [
    ("kib", 10),
    ("mib", 20),
    ("gib", 30),
    ("tib", 40),
    ("kb", 10),
    ("mb", 20),
    ("gb", 30),
    ("tb", 40),
    ("k", 10),
    ("m", 20),
    ("g", 30),
    ("t", 40),
    ("bytes", 0),
    ("byte", 0),
];

/// A length: a number of bytes, or of K, M, G, T, in whichever spelling; all are binary.
pub(crate) fn parse_len(text: &str) -> Result<u64, Failure> {
    let lower = text.to_ascii_lowercase();
    let (number, shift) = UNITS
        .iter()
        .find_map(|&(unit, shift)| Some((lower.strip_suffix(unit)?.trim_end(), shift)))
        .unwrap_or((&lower, 0));
    let value = parse_number(number).map_err(|_| {
        Failure::new(format!("`{text}` is not a length"))
            .found("a length is a number of bytes, or of K, M, G or T (KiB, KB and the like; all binary)")
            .hint("4096, 0x1000, 4K or 2MiB")
    })?;
    u64::try_from(value << shift)
        .map_err(|_| Failure::new(format!("the length `{text}` does not fit in 64 bits")))
}

/// A number up to 2^64, which may end a range.
pub(super) fn parse_number(text: &str) -> Result<u128, Failure> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    let mut value: u128 = 0;
    let mut any = false;
    for c in digits.chars().filter(|&c| c != '_') {
        let Some(digit) = c.to_digit(radix) else {
            let is_hex = digits.chars().all(|c| c == '_' || c.is_ascii_hexdigit());
            return Err(if radix == 10 && is_hex {
                Failure::new(format!("`{text}` is not a decimal number"))
                    .found("hexadecimal needs its 0x")
                    .hint(format!("0x{text}"))
            } else {
                Failure::new(format!("`{text}` is not a number"))
                    .found(format!("unexpected `{}`", c.escape_debug()))
                    .hint("0x and hexadecimal digits, or a decimal number")
            });
        };
        value = value * u128::from(radix) + u128::from(digit);
        if value > TOP {
            return Err(Failure::new(format!("`{text}` does not fit in 64 bits")));
        }
        any = true;
    }
    if any {
        Ok(value)
    } else {
        Err(Failure::new(format!("`{text}` is not a number")).found("it has no digits"))
    }
}

/// A plain 64-bit number: what options such as `--cr3` take.
pub(crate) fn parse_u64(text: &str) -> Result<u64, Failure> {
    u64::try_from(parse_number(text)?)
        .map_err(|_| Failure::new(format!("`{text}` does not fit in 64 bits")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_units() {
        for (text, len) in [
            ("64", 64),
            ("0x40", 0x40),
            ("4K", 4096),
            ("4k", 4096),
            ("4KiB", 4096),
            ("4 KiB", 4096),
            ("4KB", 4096),
            ("0x10K", 0x4000),
            ("2M", 2 << 20),
            ("3gb", 3 << 30),
            ("1GiB", 1 << 30),
            ("1T", 1 << 40),
            ("64 bytes", 64),
            ("0x1b", 0x1b),
        ] {
            assert_eq!(parse_len(text), Ok(len), "{text}");
        }
        for text in [
            "",
            "K",
            "4X",
            "-1",
            "+1",
            "1.5M",
            "99999999999G",
            "0x",
            "4 4",
        ] {
            assert!(parse_len(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_decimal_or_have_their_0x() {
        assert_eq!(
            parse_u64("0xffff_8000_0000_0000"),
            Ok(0xffff_8000_0000_0000)
        );
        assert_eq!(parse_u64("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_number("0x10000000000000000"), Ok(TOP));
        for text in [
            "",
            "0x",
            "_",
            "0x_",
            "12ab",
            "0x12g",
            "-1",
            "0x10000000000000000",
        ] {
            assert!(parse_u64(text).is_err(), "{text}");
        }
        let failure = parse_u64("12ab").expect_err("not decimal");
        assert_eq!(failure.hints, ["0x12ab"]);
    }
}
