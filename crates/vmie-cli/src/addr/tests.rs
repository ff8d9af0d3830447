use std::cell::RefCell;

use vmie::{AddrRange, Gva};

use super::*;

/// Names of a space, and what was said about decimal numbers.
#[derive(Default)]
struct Names {
    said: RefCell<Vec<String>>,
}

impl Lookup for Names {
    fn named(&self, name: &str) -> Result<Named, Failure> {
        let place = |at| Named {
            at,
            extent: None,
            holds: false,
        };
        let sized = |at, len| Named {
            extent: Some((at, at + len - 1)),
            ..place(at)
        };
        let holds = |at, first, last| Named {
            at,
            extent: Some((first, last)),
            holds: true,
        };
        Ok(match name {
            "libc.so.6" => holds(0x7f00_0000_0000, 0x7f00_0000_0000, 0x7f00_001f_ffff),
            "libstdc++.so.6" => holds(0x7e00_0000_0000, 0x7e00_0000_0000, 0x7e00_0000_0fff),
            "8021q!vlan_init" => place(0xffff_0000),
            "8021q" => holds(0xfffe_8000, 0xfffe_0000, 0xfffe_ffff),
            "ld-2" => place(0x2000),
            "ld" => place(0x1000),
            "sym" => place(0x5000),
            "malloc" => sized(0x7000, 0x40),
            "core::ptr..drop" => place(0x6000),
            "[heap]" => holds(0x9000, 0x9000, 0x9fff),
            _ => return Err(Failure::new(format!("unknown {name}"))),
        })
    }

    fn decimal(&self, text: &str, value: u64) {
        self.said
            .borrow_mut()
            .push(taken_as_decimal(text, u128::from(value)));
    }
}

fn addr(text: &str) -> Result<u64, Failure> {
    text.parse::<AddrExpr>()?.resolve(&Names::default())
}

fn ends(range: AddrRange<Gva>) -> (u64, u64) {
    (range.start().0, range.last().0)
}

fn range(text: &str) -> Result<(u64, u64), Failure> {
    text.parse::<RangeExpr>()?
        .resolve(&Names::default())
        .map(ends)
}

fn target(text: &str) -> Result<(u64, u64), Failure> {
    text.parse::<RangeExpr>()?
        .resolve_target(&Names::default())
        .map(ends)
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
        ("libc.so.6-0x10", 0x7eff_ffff_fff0),
        ("libc.so.6+4KiB", 0x7f00_0000_1000),
        ("libc.so.6+4K", 0x7f00_0000_1000),
        ("libstdc++.so.6", 0x7e00_0000_0000),
        ("libstdc++.so.6+0x10", 0x7e00_0000_0010),
        ("8021q!vlan_init+8", 0xffff_0008),
        ("8021q", 0xfffe_8000),
        ("[heap]+16", 0x9010),
        ("ld-2", 0x2000),
        ("ld-3", 0xffd),
        ("ld-2+2", 0x2002),
        ("core::ptr..drop", 0x6000),
    ] {
        assert_eq!(addr(text), Ok(value), "{text}");
    }
    for text in [
        "",
        " ",
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
        "ld-0x10000",
        "0x1000..0x2000",
    ] {
        assert!(addr(text).is_err(), "{text}");
    }
}

#[test]
fn ranges() {
    for (text, first, last) in [
        ("0x1000..0x2000", 0x1000, 0x1fff),
        ("0x1000..+0x1000", 0x1000, 0x1fff),
        ("0x1000..+1", 0x1000, 0x1000),
        ("4096..+4KiB", 0x1000, 0x1fff),
        ("0..+2M", 0, 0x1f_ffff),
        ("..+4K", 0, 0xfff),
        ("0..+1gib", 0, 0x3fff_ffff),
        (
            "0xffffffffffff0000..0x10000000000000000",
            0xffff_ffff_ffff_0000,
            u64::MAX,
        ),
        ("0xfffffffffffff000..+4KiB", 0xffff_ffff_ffff_f000, u64::MAX),
        ("0x1000..", 0x1000, u64::MAX),
        ("..0x1000", 0, 0xfff),
        ("..", 0, u64::MAX),
        (
            "libc.so.6+0x10..libc.so.6+0x20",
            0x7f00_0000_0010,
            0x7f00_0000_001f,
        ),
        ("sym-8..sym+8", 0x4ff8, 0x5007),
        ("libstdc++.so.6..+64", 0x7e00_0000_0000, 0x7e00_0000_003f),
        ("libc.so.6+0x1000..+64", 0x7f00_0000_1000, 0x7f00_0000_103f),
        ("libc.so.6", 0x7f00_0000_0000, 0x7f00_001f_ffff),
        ("8021q", 0xfffe_0000, 0xfffe_ffff),
        ("[heap]", 0x9000, 0x9fff),
        ("malloc", 0x7000, 0x703f),
        ("core::ptr..drop..+16", 0x6000, 0x600f),
    ] {
        assert_eq!(range(text), Ok((first, last)), "{text}");
    }
    for text in [
        "0x1000",
        "sym",
        "libc.so.6+0x10",
        "2..1",
        "1..1",
        "1..+0",
        "1..=2",
        "0xffffffffffffffff..+2",
        "1..+1PiB",
        "0..0x10000000000000001",
        "0..+99999999999GiB",
        "0x10000000000000000",
        "core::ptr..drop",
        "a..b",
    ] {
        assert!(range(text).is_err(), "{text}");
    }
    let alone = range("0x1000").expect_err("no range");
    assert!(alone.hints.iter().any(|hint| hint.contains("0x1000..+4K")));
}

#[test]
fn an_address_alone_is_as_long_as_the_verb_says() {
    let usual = |text: &str| {
        let meant = text
            .parse::<RangeExpr>()?
            .resolve_usual(&Names::default(), 256)?;
        Ok::<_, Failure>((ends(meant.range), meant.has_end))
    };
    assert_eq!(usual("0x1000"), Ok(((0x1000, 0x10ff), false)));
    assert_eq!(usual("sym"), Ok(((0x5000, 0x50ff), false)));
    assert_eq!(usual("malloc"), Ok(((0x7000, 0x703f), true)));
    assert_eq!(usual("malloc+1"), Ok(((0x7001, 0x7100), false)));
    assert_eq!(usual("[heap]"), Ok(((0x9000, 0x9fff), true)));
    assert_eq!(usual("core::ptr..drop"), Ok(((0x6000, 0x60ff), false)));
    // As far as there is any space.
    assert_eq!(
        usual("0xffffffffffffffff"),
        Ok(((u64::MAX, u64::MAX), false))
    );
}

#[test]
fn targets_are_addresses_or_ranges() {
    assert_eq!(target("0x1000"), Ok((0x1000, 0x1000)));
    assert_eq!(target("0x1000..+0x20"), Ok((0x1000, 0x101f)));
    assert_eq!(target("0x1000..0x1008"), Ok((0x1000, 0x1007)));
    assert_eq!(target("sym+0x10"), Ok((0x5010, 0x5010)));
    assert_eq!(target("sym..sym+0x10"), Ok((0x5000, 0x500f)));
    // A function is where it begins; a module is all of it.
    assert_eq!(target("malloc"), Ok((0x7000, 0x7000)));
    assert_eq!(
        target("libc.so.6"),
        Ok((0x7f00_0000_0000, 0x7f00_001f_ffff))
    );
    assert_eq!(
        target("libc.so.6+0"),
        Ok((0x7f00_0000_0000, 0x7f00_0000_0000))
    );
    for text in ["+", "12ab", "1+0", "other"] {
        assert!(target(text).is_err(), "{text}");
    }
}

#[test]
fn two_numbers_with_a_sign_are_refused_wherever_they_stand() {
    for (text, hints) in [
        ("0x1000+64", ["0x1000..+64", "0x1040"]),
        ("0x1000+4KiB", ["0x1000..+4KiB", "0x2000"]),
        ("401000+64", ["401000..+64", "0x61ea8"]),
        ("0x1000-0x2000", ["0x1000..0x2000", ""]),
        ("0x2000-0x1000", ["0x1000", ""]),
        ("sym+0x10+64", ["sym+0x50", "sym+0x10..+0x40"]),
        ("7f3000-7f4000", ["0x7f3000..0x7f4000", ""]),
        ("12ab", ["0x12ab", ""]),
    ] {
        for failure in [
            addr(text).expect_err(text),
            range(text).expect_err(text),
            target(text).expect_err(text),
        ] {
            for hint in hints {
                let has = failure.hints.iter().any(|one| one.starts_with(hint));
                assert!(has, "{text}: {hint} in {failure:?}");
            }
        }
    }
    for text in ["0x10..0x20+8", "1+1..9", "0x1+2..+4"] {
        assert!(range(text).is_err(), "{text}");
    }
    let decimal = range("401000+64").expect_err("refused");
    assert!(decimal.found[0].contains("0x401000"), "{decimal:?}");
}

#[test]
fn decimal_addresses_are_told() {
    let names = Names::default();
    let parsed: RangeExpr = "401000..+64".parse().expect("a range");
    let range: AddrRange<Gva> = parsed.resolve(&names).expect("a range");
    assert_eq!(range.start(), Gva(401_000));
    assert_eq!(
        names.said.take(),
        ["401000 was taken as decimal, 0x61e68; hexadecimal needs its 0x: 0x401000"]
    );
}
