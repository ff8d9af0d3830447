//! What the parser takes, what it refuses and how it says so.

use proptest::prelude::*;

use super::any_signature;
use crate::signature::*;

/// Text, and its canonical form.
const GOOD: &[(&str, &str)] = &[
    ("E8", "E8"),
    ("48 8b ?? ?? e8", "48 8B ?? ?? E8"),
    ("48 8B ? ? E8", "48 8B ?? ?? E8"),
    ("? E8", "?? E8"),
    ("E8 ?", "E8 ??"),
    ("488B????E8", "48 8B ?? ?? E8"),
    ("4? ?8 4?8B", "4? ?8 4? 8B"),
    ("  48\t8B\n05 ", "48 8B 05"),
    ("\\x48\\x8B\\x00", "48 8B 00"),
    ("\\x48\\x8B\\x00 xx?", "48 8B ??"),
    ("\\x48\\x8b\\x00\\x01  x??X", "48 ?? ?? 01"),
    ("\\x48\\x8B\\x00xx?", "48 8B ??"),
    ("{ 48 8B }", "48 8B"),
    ("{488B}", "48 8B"),
    ("{ 48 [4] 8B }", "48 ?? ?? ?? ?? 8B"),
    ("48 [2-4] E8", "{ 48 [2-4] E8 }"),
    ("48 [ 2 - 4 ] E8", "{ 48 [2-4] E8 }"),
    ("48 [0-4096] E8", "{ 48 [0-4096] E8 }"),
    ("48 [4096] E8", "{ 48 [4096] E8 }"),
    ("48 ?? [4096] ?? E8", "{ 48 [4096] ?? ?? E8 }"),
    ("48 [3-3] E8", "48 ?? ?? ?? E8"),
    ("48 [0] E8 [0-0] 8B", "48 E8 8B"),
    ("48 [1-2] [3-4] E8", "{ 48 [1-2] [3-4] E8 }"),
    ("48 [12] E8", "{ 48 [12] E8 }"),
    (
        "???????????????????? E8",
        "?? ?? ?? ?? ?? ?? ?? ?? ?? ?? E8",
    ),
    ("{ 48 (E8 | E9 90) ~00 }", "{ 48 (E8 | E9 90) ~00 }"),
    ("48(E8|E9)8B", "{ 48 (E8 | E9) 8B }"),
    ("(E8 | (48 | 49) 8B)", "{ (E8 | (48 | 49) 8B) }"),
    ("((48 8B)) ?? (?? 05)", "48 8B ?? ?? 05"),
    ("(?? | 48) E8", "{ (?? | 48) E8 }"),
    ("(48 [1-3] 8B | E8) 05", "{ (48 [1-3] 8B | E8) 05 }"),
    ("~E8", "{ ~E8 }"),
    ("~?8 ~4? ~ 00", "{ ~?8 ~4? ~00 }"),
    ("48 // load\n8B /* any */ 05", "48 8B 05"),
    ("{ /* { */ 48 } // done", "48"),
    ("\"Demo\"", "44 65 6D 6F"),
    ("u\"De\" 00 00", "44 00 65 00 00 00"),
    ("48 \"// \\\" \\\\\" ?", "48 2F 2F 20 22 20 5C ??"),
    ("(\"a\" | u\"\u{1f600}\")", "{ (61 | 3D D8 00 DE) }"),
];

#[test]
fn every_form_is_read_into_one() {
    for (text, canonical) in GOOD {
        let signature = Signature::parse("x", text)
            .unwrap_or_else(|error| panic!("{text}: {}", error.explain()));
        assert_eq!(signature.to_string(), *canonical, "{text}");
        assert_eq!(Signature::parse("x", canonical), Ok(signature), "{text}");
    }
}

/// What tools print, by tool, and its canonical form.
const DIALECTS: &[(&str, &str, &str)] = &[
    ("IDA", "E8 ? ? ? ? 45 33 F6", "E8 ?? ?? ?? ?? 45 33 F6"),
    ("IDA", "E8 ?? ?? ?? ?? 45", "E8 ?? ?? ?? ?? 45"),
    ("x64dbg", "E8????????4533F6", "E8 ?? ?? ?? ?? 45 33 F6"),
    ("x64dbg", "E8 ?? 4? ?5", "E8 ?? 4? ?5"),
    (
        "SigMaker, C string",
        "\\xE8\\x00\\x00\\x00\\x00\\x45 x????x",
        "E8 ?? ?? ?? ?? 45",
    ),
    (
        "SigMaker, C string",
        "\\xE8\\x00\\x00\\x00\\x00\\x45, x????x",
        "E8 ?? ?? ?? ?? 45",
    ),
    ("C source", "\"\\xE8\\x00\\x45\", \"x?x\"", "E8 ?? 45"),
    ("C source", "\"\\xE8\\x00\\x45\"", "E8 00 45"),
    ("Python", "b'\\xE8\\x00\\x45', 'x?x'", "E8 ?? 45"),
    (
        "SigMaker, bit mask",
        "0xE8, 0x00, 0x00, 0x00, 0x00, 0x45 0b100001",
        "E8 ?? ?? ?? ?? 45",
    ),
    (
        "SigMaker, bit mask",
        "0xE8, 0x00, 0x00, 0x00, 0x00, 0x45, 0x33, 0xF6, 0x66, 0x44, 0x89, 0x34, 0x33  0b1111111100001",
        "E8 ?? ?? ?? ?? 45 33 F6 66 44 89 34 33",
    ),
    ("C array", "{ 0x48, 0x8B, 0x5, }", "48 8B 05"),
    ("C array", "0x48,0x8B,0x05", "48 8B 05"),
    (
        "C array with a mask",
        "{ 0x48, 0x8B, 0x05 }, xx?",
        "48 8B ??",
    ),
    ("spaces and 0x", "0x48 0x8b 0x??", "48 8B ??"),
    ("commas", "48, 8B, ??", "48 8B ??"),
    (".NET", "48-8B-05-??", "48 8B 05 ??"),
    (
        "Cheat Engine",
        "48 8B 05 * * * * 48",
        "48 8B 05 ?? ?? ?? ?? 48",
    ),
    ("Cheat Engine", "48 8B ** 48", "48 8B ?? 48"),
    (
        "radare2",
        "48 8B 05 .. .. .. .. 48",
        "48 8B 05 ?? ?? ?? ?? 48",
    ),
    ("radare2", "488b05........48", "48 8B 05 ?? ?? ?? ?? 48"),
    ("radare2", "48 8B 4. .5 . 48", "48 8B 4? ?5 ?? 48"),
    ("bytes and a mask", "48 8B 05 00 xxx?", "48 8B 05 ??"),
    ("bytes and a mask", "488B0500, xxx?", "48 8B 05 ??"),
    ("bytes and bits", "48 8B 05 : ff f0 00", "48 8? ??"),
    ("bytes and bits", "48 8B 05 : FFFF0F", "48 8B ?5"),
    (
        "bytes and bits",
        "13 37 : 1f f1",
        "{ (13 | 33 | 53 | 73 | 93 | B3 | D3 | F3) (31 | 33 | 35 | 37 | 39 | 3B | 3D | 3F) }",
    ),
    (
        "YARA",
        "{ 48 8B [4] ( E8 | E9 ) ~00 4? }",
        "{ 48 8B ?? ?? ?? ?? (E8 | E9) ~00 4? }",
    ),
];

#[test]
fn what_other_tools_print_is_read() {
    for (tool, text, canonical) in DIALECTS {
        let signature = Signature::parse("x", text)
            .unwrap_or_else(|error| panic!("{tool}: {text}: {}", error.explain()));
        assert_eq!(signature.to_string(), *canonical, "{tool}: {text}");
    }
}

/// What other tools print and is no signature here: column, and what to write instead.
const FOREIGN: &[(&str, usize, &str)] = &[
    ("48 8B xx xx", 7, "that is `??` here"),
    ("48 xx 8B", 4, "that is `??` here"),
    ("48 8B 05 xx", 10, "that is `??` here"),
    ("48 8B 05 xx?x", 13, "longer than the 3 bytes"),
    ("48 8B 05 xx???", 13, "longer than the 3 bytes"),
    ("48 8B 05 00 xx?", 16, "ends after 3 of 4 bytes"),
    ("48 ?? 05 xx?", 10, "without wildcards"),
    (
        "48 8B, \"x?\"",
        8,
        "a mask behind bytes such as these has no quotes",
    ),
    ("48 8B : FF", 11, "ends after 1 of 2 bytes"),
    ("48 : FF FF", 9, "longer than the 1 bytes"),
    ("48 8B : FF F", 12, "half a byte of mask"),
    ("48:8B:05", 3, "spaces between them"),
    ("0x48, 0x8B 0b1", 15, "ends after 1 of 2 bytes"),
    ("0x48, 0x8B 0b111", 14, "longer than the 2 bytes"),
    ("E8 00 00 00 00 45 0b100001", 19, "this could be a mask"),
    ("0x488B05", 1, "one byte for each `0x`"),
    ("0x48, 0x", 9, "two hexadecimal digits after `0x`"),
    ("48,, 8B", 4, "found `,`"),
    (", 48", 1, "found `,`"),
    ("48 -1 8B", 4, "any byte is written `??`"),
    ("48 4* 8B", 4, "half a byte"),
    ("488B*05", 5, "`*` is any byte where it stands alone"),
    ("48 8B *05", 7, "`*` is any byte where it stands alone"),
    ("48 8B{4}05", 6, "a jump is written `[4]`"),
    ("48 !8B", 4, "written `~E8`"),
    ("48h 8Bh", 3, "without `h`"),
    ("|48 8B|", 1, "without bars"),
    ("01.....0", 1, "this could be the bits of one byte"),
    ("48 \\x8B", 4, "stand alone"),
    ("\\x48\\x8B.{4}\\x05", 9, "regular expressions are not read"),
    ("48 8B & FF FF", 7, "stands behind ` : `"),
    ("48 L\"text\"", 4, "wide text is written `u"),
];

#[test]
fn what_other_tools_print_is_refused_with_what_to_write_instead() {
    for (text, column, message) in FOREIGN {
        let error = Signature::parse("x", text).expect_err(text);
        assert!(error.message().contains(message), "{text}: {error}");
        assert_eq!(error.column(), *column, "{text}: {error}");
    }
}

#[test]
fn bytes_that_may_stand_for_any_are_remarked_on() {
    for (text, remarks) in [
        ("\\x48\\x8B\\x05\\x2A\\x2A\\x2A\\x2A\\x48", 1),
        ("\\x48\\x8B\\x3F", 1),
        ("\\x48\\x2A\\x2A\\x48", 1),
        ("\\x48\\x8B\\x05\\x00\\x00\\x00\\x00\\x48", 1),
        ("0x48, 0x8B, 0x05, 0x2A, 0x48", 1),
        // Text; and with a mask all is said.
        ("\\x57\\x68\\x6f\\x3f", 0),
        ("\\x48\\x8B\\x2A xx?", 0),
        ("\\x48\\x8B\\x2A xxx", 0),
        ("0x48, 0x2A 0b11", 0),
        ("48 2A 2A 8B", 0),
        ("\\x48\\x8B\\x00\\x48", 0),
    ] {
        let (_, notes) = Signature::parse_noting("x", text).expect(text);
        assert_eq!(notes.len(), remarks, "{text}: {notes:?}");
    }
    let (_, notes) = Signature::parse_noting("x", "\\x48\\x8B\\x2A").expect("parses");
    assert!(
        notes[0].starts_with("0x2A is looked for as it is"),
        "{notes:?}"
    );
}

/// Text, column, and a part of the message.
const BAD: &[(&str, usize, &str)] = &[
    (
        "",
        1,
        "expected a byte such as `48`, `4?` or `??`, found the end",
    ),
    ("   ", 4, "found the end"),
    ("{ }", 3, "found `}`"),
    (
        "48 8G",
        4,
        "half a byte: expected two digits, such as `08` or `8?`",
    ),
    ("48 GG", 4, "found `G`"),
    ("4", 1, "half a byte"),
    ("48 8", 4, "half a byte"),
    ("488B0", 5, "half a byte"),
    ("48? 8B", 3, "half a byte: expected `??`"),
    ("48 ??? 8B", 6, "half a byte: expected `??`"),
    ("é", 1, "found `é`"),
    ("48 é", 4, "found `é`"),
    ("48 \u{1b}[31m", 4, "found the character U+001B"),
    ("??", 1, "matches everywhere"),
    ("?? [4] ??", 1, "matches everywhere"),
    ("  (?? | 48)", 3, "matches everywhere"),
    ("\\x48\\x8B ??", 1, "matches everywhere"),
    ("48 [4-] E8", 4, "without an upper bound"),
    ("48 [-] E8", 4, "without an upper bound"),
    ("48 [-4] E8", 4, "expected `[0-4]`"),
    ("48 [] E8", 5, "length of the jump"),
    ("48 [2-x] E8", 7, "expected a number, found `x`"),
    (
        "48 [2",
        6,
        "expected `]` after the length of the jump, found the end",
    ),
    ("48 [2-4", 8, "expected `]` after"),
    ("48 [4-2] E8", 4, "expected `[2-4]`"),
    ("48 [4097] E8", 4, "at most 4096"),
    ("48 [0-99999999999999999999999999] E8", 4, "at most 4096"),
    ("[2] 48", 1, "cannot begin with a jump"),
    ("{ 48 [2] }", 6, "cannot end with a jump"),
    ("48 ([2] E8 | E9)", 5, "cannot begin with a jump"),
    ("48 (E8 [0] | E9)", 8, "cannot end with a jump"),
    ("48 () E8", 5, "empty"),
    ("48 (E8 | ) E8", 10, "empty"),
    ("48 ( | E8) E8", 6, "empty"),
    ("48 (E8 | E9", 4, "never closed"),
    (
        "48 (E8 } E9)",
        8,
        "expected a byte, a jump, `|` or `)`, found `}`",
    ),
    ("48 E8) E9", 6, "no `(` before it"),
    ("48 | 8B", 4, "parentheses"),
    ("{ 48 8B", 1, "never closed"),
    ("48 8B }", 7, "no `{` before it"),
    ("{ 48 } 8B", 8, "nothing after `}`"),
    ("~?? 48", 2, "never matches"),
    ("~ 48 ~", 7, "found the end"),
    ("~~48", 2, "expected a byte"),
    ("48 /* no end", 4, "expected `*/`"),
    ("\\48", 2, "expected `x` after `\\`"),
    ("\\x4", 4, "two hexadecimal digits"),
    ("\\x48 y", 6, "a mask of `x`"),
    ("\\x48\\x8B x", 11, "ends after 1 of 2 bytes"),
    ("\\x48 xx", 7, "longer than the 1 bytes"),
    ("\\x48 x y", 8, "expected `x` or `?`"),
    ("48 \"ab", 4, "no end"),
    ("48 \"\"", 4, "empty"),
    ("u48", 2, "expected `\"` after `u`, found `4`"),
    ("\"a\\n\"", 3, "other characters stand for themselves"),
];

#[test]
fn errors_name_the_place_and_what_was_expected() {
    for (text, column, message) in BAD {
        let error = Signature::parse("x", text).expect_err(text);
        assert!(error.message().contains(message), "{text}: {error}");
        assert_eq!(
            (error.line(), error.column()),
            (1, *column),
            "{text}: {error}"
        );
        assert_eq!(
            error.to_string(),
            format!("column {column}: {}", error.message())
        );
    }
}

#[test]
fn an_error_shows_the_text_with_a_caret() {
    let error = Signature::parse("x", "48 8B é GG 05").expect_err("bad");
    assert_eq!(
        error.explain(),
        "column 7: expected a byte such as `48`, `4?`, `??`, a jump `[2-4]` or `(`, found `é`\n  \
         48 8B é GG 05\n        ^"
    );
    let error = Signature::parse("x", "{ 48\n\t\u{1b} }").expect_err("bad");
    assert_eq!((error.line(), error.column()), (2, 2));
    assert_eq!(
        error.explain(),
        "line 2, column 2: expected a byte, a jump, `(` or `}`, found the character U+001B\n   \
         \u{fffd} }\n   ^"
    );
    let long = format!("{}GG {}", "48 ".repeat(1000), "8B ".repeat(1000));
    let shown = Signature::parse("x", &long).expect_err("bad").explain();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line.len() < 120));
    assert_eq!(lines[1].find("GG"), lines[2].find('^'));
}

#[test]
fn size_and_depth_are_bounded() {
    let nested = |depth: usize| format!("{}48{}", "(".repeat(depth), "|49)".repeat(depth));
    assert!(Signature::parse("x", &nested(MAX_DEPTH)).is_ok());
    let error = Signature::parse("x", &nested(MAX_DEPTH + 1)).expect_err("too deep");
    assert_eq!(
        (error.column(), error.message().contains("16 deep")),
        (17, true)
    );
    assert!(Signature::parse("x", &"(".repeat(1 << 20)).is_err());

    assert!(Signature::parse("x", &"48".repeat(MAX_LEN)).is_ok());
    let error = Signature::parse("x", &"48".repeat(MAX_LEN + 1)).expect_err("too long");
    assert!(error.message().contains("16385 bytes"), "{error}");
    assert!(Signature::parse("x", &format!("48 {} 48", "[0-4096]".repeat(4))).is_err());

    assert_eq!(
        Set::compile(Vec::new()).expect_err("empty"),
        CompileError::Empty
    );
}

proptest! {
    #[test]
    fn the_canonical_form_parses_back(text in any_signature()) {
        match Signature::parse("name", &text) {
            Ok(signature) => {
                let canonical = signature.to_string();
                let again = Signature::parse("name", &canonical);
                prop_assert_eq!(again.as_ref(), Ok(&signature), "{}", canonical);
                prop_assert!(1 <= signature.min_len());
                prop_assert!(signature.min_len() <= signature.max_len());
            }
            Err(error) => prop_assert!(error.message().contains("everywhere"), "{}: {}", text, error),
        }
    }
}

#[test]
fn expected_matches_tell_good_signatures_from_bad_ones() {
    let expected = |text: &str| {
        let signature: Signature = text.parse().expect("parses");
        signature.expected_per_gib()
    };
    let gib = f64::from(1 << 30);
    // Weights are whole eighths of a bit, and there are 9 of them at the most here.
    let near = |a: f64, b: f64| (0.9..1.1).contains(&(a / b));
    assert!(expected("00 00 00 00") > 1e6);
    assert!(expected("41 5C 41 5D") > 1e3);
    assert!(expected("9D A7 5E B9 13 C4 D5 E6") < 1e-3);
    assert!(near(expected("90 ?? 90"), expected("90 [1] 90")));
    assert!(near(expected("90 [1-4] 91"), 4.0 * expected("90 ?? 91")));
    assert!(near(expected("90") + expected("91"), expected("(90 | 91)")));
    assert!(near(expected("90") + expected("~90"), gib));
    assert!(expected("4?") > expected("48"));
}
