//! Where the bytes of a raw image lie in guest physical memory.
//!
//! A raw image is a machine's RAM back to back, without the hole below 4 GiB where a PC has its
//! devices. Machines of more than 2 to 3.5 GiB continue behind that hole, at 4 GiB, and by which rule
//! RAM is split is known to the hypervisor only, so the user has to say. [`Layout`] is what the user
//! says, [`Layout::resolve`] what it means for a file of a given size.

use std::fmt;
use std::str::FromStr;

use crate::addr::{AddrRange, Address, Gpa};
use crate::image::segments::GPA_LIMIT;

/// One piece of a raw image: `len` bytes at `offset` in the file are guest memory from `gpa` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LayoutPart {
    /// First guest physical address.
    pub gpa: Gpa,
    /// Length in bytes.
    pub len: u64,
    /// Offset in the file, in bytes.
    pub offset: u64,
}

/// How a raw image is laid out in guest physical memory.
///
/// Written `pc`, `q35`, `microvm` or as a list of `GPA+LEN@OFFSET` separated by commas, for example
/// `0+3GiB@0,0x100000000+1GiB@3GiB`. Numbers are decimal or `0x` hex and may end in `KiB`, `MiB`,
/// `GiB` or `TiB`.
///
/// The machine rules are those of QEMU 6.2 (`hw/i386/pc_piix.c`, `pc_q35.c`, `microvm.c`), compared
/// with what `info mtree` says in 7.2, with the RAM size taken to be the file's size and machine
/// option `max-ram-below-4g` not given:
///
/// | layout | all RAM from 0 when it is | otherwise below 4 GiB |
/// |---|---|---|
/// | `pc` | less than 3.5 GiB | 3 GiB |
/// | `q35` | less than 2.75 GiB | 2 GiB |
/// | `microvm` | at most 3 GiB | 3 GiB |
///
/// and the rest from 4 GiB on. Use an explicit list for the exceptions: machine types up to
/// `pc-i440fx-1.7` and `pc-q35-1.7` split at 3.5 and 2.75 GiB, `microvm` before QEMU 5.1 splits as `q35`
/// does, and guests of about 1 TiB and more with AMD processors may have their upper part moved to
/// 1 TiB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Layout {
    /// QEMU's `pc` machine (i440FX).
    Pc,
    /// QEMU's `q35` machine.
    Q35,
    /// QEMU's `microvm` machine, since QEMU 5.1.
    Microvm,
    /// Exactly these pieces, and nothing else of the file.
    Explicit(Vec<LayoutPart>),
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const FOUR_GIB: u64 = 4 * GIB;

impl Layout {
    /// The pieces of a raw image of `size` bytes.
    pub fn resolve(&self, size: u64) -> Vec<LayoutPart> {
        let below_4g = match self {
            Self::Pc if size < 3 * GIB + 512 * MIB => size,
            Self::Q35 if size < 2 * GIB + 768 * MIB => size,
            Self::Q35 => 2 * GIB,
            Self::Pc | Self::Microvm => size.min(3 * GIB),
            Self::Explicit(parts) => return parts.clone(),
        };
        [
            LayoutPart {
                gpa: Gpa(0),
                len: below_4g,
                offset: 0,
            },
            LayoutPart {
                gpa: Gpa(FOUR_GIB),
                len: size - below_4g,
                offset: below_4g,
            },
        ]
        .into_iter()
        .filter(|part| part.len != 0)
        .collect()
    }
}

impl fmt::Display for Layout {
    /// In the form that [`FromStr`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pc => f.write_str("pc"),
            Self::Q35 => f.write_str("q35"),
            Self::Microvm => f.write_str("microvm"),
            Self::Explicit(parts) => {
                for (i, part) in parts.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(
                        f,
                        "{comma}{:#x}+{:#x}@{:#x}",
                        part.gpa, part.len, part.offset
                    )?;
                }
                Ok(())
            }
        }
    }
}

/// Why a layout could not be understood, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct ParseLayoutError {
    /// Position of the offending character in the text, counted in characters from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl FromStr for Layout {
    type Err = ParseLayoutError;

    fn from_str(text: &str) -> Result<Self, ParseLayoutError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "pc" => return Ok(Self::Pc),
            "q35" => return Ok(Self::Q35),
            "microvm" => return Ok(Self::Microvm),
            _ => {}
        }
        // A word that does not start like a number is a machine name we do not know.
        if !text.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
            return Err(at(
                text,
                text,
                "expected `pc`, `q35`, `microvm` or a list like `0+3GiB@0,4GiB+1GiB@3GiB`",
            ));
        }
        let mut parts: Vec<LayoutPart> = Vec::new();
        for item in text.split(',') {
            let part = parse_part(text, item)?;
            let range = AddrRange::new(part.gpa, part.len);
            if let Some(other) = parts.iter().position(|p| {
                range
                    .zip(AddrRange::new(p.gpa, p.len))
                    .is_some_and(|(a, b)| a.intersect(b).is_some())
            }) {
                return Err(at(
                    text,
                    item.trim_start(),
                    format!("this part overlaps part {} in guest memory", other + 1),
                ));
            }
            parts.push(part);
        }
        Ok(Self::Explicit(parts))
    }
}

/// An error at the place in `text` where its part `rest` begins.
fn at(text: &str, rest: &str, message: impl Into<String>) -> ParseLayoutError {
    let byte = (rest.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    ParseLayoutError {
        column: text.get(..byte).map_or(0, |before| before.chars().count()) + 1,
        message: message.into(),
    }
}

fn parse_part(text: &str, item: &str) -> Result<LayoutPart, ParseLayoutError> {
    let (gpa, rest) = parse_number(text, item)?;
    let rest = expect(text, rest, '+', "GPA")?;
    let len_text = rest.trim_start();
    let (len, rest) = parse_number(text, rest)?;
    let rest = expect(text, rest, '@', "LEN")?;
    let (offset, rest) = parse_number(text, rest)?;
    if !rest.trim().is_empty() {
        return Err(at(
            text,
            rest.trim_start(),
            "expected `,` or the end after OFFSET",
        ));
    }
    if len == 0 {
        return Err(at(text, len_text, "the length is zero"));
    }
    if Gpa(gpa)
        .checked_add(len)
        .is_none_or(|end| end.0 > GPA_LIMIT)
    {
        return Err(at(
            text,
            item.trim_start(),
            "the part reaches beyond the 52 bits of a physical address",
        ));
    }
    if offset.checked_add(len).is_none() {
        return Err(at(text, item.trim_start(), "the file offset passes 2^64"));
    }
    Ok(LayoutPart {
        gpa: Gpa(gpa),
        len,
        offset,
    })
}

fn expect<'a>(
    text: &str,
    rest: &'a str,
    sign: char,
    after: &str,
) -> Result<&'a str, ParseLayoutError> {
    let rest = rest.trim_start();
    rest.strip_prefix(sign).ok_or_else(|| {
        at(
            text,
            rest,
            format!("expected `{sign}` after {after}: a part is GPA+LEN@OFFSET"),
        )
    })
}

/// Reads a number with an optional unit from the start of `rest`; answers it and what follows.
fn parse_number<'a>(text: &str, rest: &'a str) -> Result<(u64, &'a str), ParseLayoutError> {
    let start = rest.trim_start();
    let (digits, radix) = match start.strip_prefix("0x").or(start.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (start, 10),
    };
    let len = digits
        .find(|c: char| !c.is_digit(radix) && c != '_')
        .unwrap_or(digits.len());
    let (number, after) = digits.split_at(len);
    let clean: String = number.chars().filter(|&c| c != '_').collect();
    if clean.is_empty() {
        return Err(at(text, start, "expected a number, decimal or 0x hex"));
    }
    let too_large = || at(text, start, "the number does not fit 64 bits");
    let value = u64::from_str_radix(&clean, radix).map_err(|_| too_large())?;
    let word = after
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(after.len());
    let (unit, after_unit) = after.split_at(word);
    let scale = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => MIB,
        "GiB" => GIB,
        "TiB" => 1 << 40,
        _ => {
            return Err(at(
                text,
                after,
                format!("`{unit}` is no unit: use KiB, MiB, GiB or TiB"),
            ));
        }
    };
    let value = value.checked_mul(scale).ok_or_else(too_large)?;
    Ok((value, after_unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(gpa, len, offset)`, in MiB.
    type Parts = &'static [(u64, u64, u64)];

    #[test]
    fn machines_split_ram_as_qemu_does() {
        // RAM size in MiB, then what QEMU 7.2's `info mtree` shows for pc, q35 and microvm.
        let table: &[(u64, Parts, Parts, Parts)] = &[
            (512, &[(0, 512, 0)], &[(0, 512, 0)], &[(0, 512, 0)]),
            (2048, &[(0, 2048, 0)], &[(0, 2048, 0)], &[(0, 2048, 0)]),
            (2815, &[(0, 2815, 0)], &[(0, 2815, 0)], &[(0, 2815, 0)]),
            (
                2816,
                &[(0, 2816, 0)],
                &[(0, 2048, 0), (4096, 768, 2048)],
                &[(0, 2816, 0)],
            ),
            (
                3072,
                &[(0, 3072, 0)],
                &[(0, 2048, 0), (4096, 1024, 2048)],
                &[(0, 3072, 0)],
            ),
            (
                3073,
                &[(0, 3073, 0)],
                &[(0, 2048, 0), (4096, 1025, 2048)],
                &[(0, 3072, 0), (4096, 1, 3072)],
            ),
            (
                3583,
                &[(0, 3583, 0)],
                &[(0, 2048, 0), (4096, 1535, 2048)],
                &[(0, 3072, 0), (4096, 511, 3072)],
            ),
            (
                3584,
                &[(0, 3072, 0), (4096, 512, 3072)],
                &[(0, 2048, 0), (4096, 1536, 2048)],
                &[(0, 3072, 0), (4096, 512, 3072)],
            ),
            (
                8192,
                &[(0, 3072, 0), (4096, 5120, 3072)],
                &[(0, 2048, 0), (4096, 6144, 2048)],
                &[(0, 3072, 0), (4096, 5120, 3072)],
            ),
        ];
        for &(size, pc, q35, microvm) in table {
            for (layout, want) in [
                (Layout::Pc, pc),
                (Layout::Q35, q35),
                (Layout::Microvm, microvm),
            ] {
                let got: Vec<_> = layout
                    .resolve(size * MIB)
                    .iter()
                    .map(|p| (p.gpa.0 / MIB, p.len / MIB, p.offset / MIB))
                    .collect();
                assert_eq!(got, want, "{layout} with {size} MiB");
            }
        }
    }

    #[test]
    fn explicit_layouts_parse_and_print() {
        let layout: Layout = " 0 + 3GiB @ 0 , 0x1_0000_0000+1048576KiB@3GiB"
            .parse()
            .expect("valid");
        assert_eq!(
            layout,
            Layout::Explicit(vec![
                LayoutPart {
                    gpa: Gpa(0),
                    len: 3 * GIB,
                    offset: 0
                },
                LayoutPart {
                    gpa: Gpa(FOUR_GIB),
                    len: GIB,
                    offset: 3 * GIB
                },
            ])
        );
        for text in [layout.to_string().as_str(), "pc", "q35", "microvm"] {
            let parsed: Layout = text.parse().expect("valid");
            assert_eq!(parsed.to_string(), text);
        }
        assert_eq!("Q35".parse(), Ok(Layout::Q35));
    }

    #[test]
    fn errors_point_at_the_column() {
        for (text, column, part) in [
            ("", 1, "expected `pc`"),
            ("pcx", 1, "expected `pc`"),
            ("0", 2, "expected `+`"),
            ("0+", 3, "expected a number"),
            ("0+4KiB", 7, "expected `@`"),
            ("0+4KiB@", 8, "expected a number"),
            ("0+4KiB@0 x", 10, "expected `,`"),
            ("0+4KiB@0;", 9, "expected `,`"),
            ("0+0@0", 3, "zero"),
            ("0+4kB@0", 4, "`kB` is no unit"),
            ("0+4KiB@0,", 10, "expected a number"),
            ("0+4KiB@0,0x800+1@0", 10, "overlaps part 1"),
            ("0+0x10000000000000000@0", 3, "64 bits"),
            ("0+99999999999TiB@0", 3, "64 bits"),
            ("0xfffffffffffff000+8KiB@0", 1, "52 bits"),
            ("0+8KiB@0xfffffffffffff000", 1, "passes 2^64"),
            ("0x+1@0", 1, "expected a number"),
        ] {
            let error = text.parse::<Layout>().expect_err(text);
            assert_eq!(error.column, column, "{text}: {error}");
            assert!(error.message.contains(part), "{text}: {error}");
        }
    }
}
