//! Numbers of bytes, for people.

/// Units from the largest down.
const UNITS: [(&str, u32); 6] = [
    ("EiB", 60),
    ("PiB", 50),
    ("TiB", 40),
    ("GiB", 30),
    ("MiB", 20),
    ("KiB", 10),
];

/// The exact length in the largest unit that divides it: `2 MiB`, `2052 KiB`, `100 B`.
pub(crate) fn exact(bytes: u64) -> String {
    for (unit, shift) in UNITS {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

/// The length with at most one decimal place: `2 MiB`, `2.3 MiB`.
pub(crate) fn approx(bytes: u64) -> String {
    for (unit, shift) in UNITS {
        let whole = bytes >> shift;
        if whole != 0 {
            let tenths = ((u128::from(bytes) * 10) >> shift) % 10;
            return if tenths == 0 {
                format!("{whole} {unit}")
            } else {
                format!("{whole}.{tenths} {unit}")
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, exactly, about) in [
            (0, "0 B", "0 B"),
            (1, "1 B", "1 B"),
            (1023, "1023 B", "1023 B"),
            (0x1000, "4 KiB", "4 KiB"),
            (0x20_1000, "2052 KiB", "2 MiB"),
            (0x28_0000, "2560 KiB", "2.5 MiB"),
            (1 << 30, "1 GiB", "1 GiB"),
            (u64::MAX, "18446744073709551615 B", "15.9 EiB"),
        ] {
            assert_eq!(exact(bytes), exactly);
            assert_eq!(approx(bytes), about);
        }
    }
}
