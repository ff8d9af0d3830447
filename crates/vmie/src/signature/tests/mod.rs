//! One table of cases and one generator of signatures, run over every engine.

mod matching;
mod syntax;
mod zeros;

use proptest::prelude::*;

/// Text of signatures over few different byte values, so that they match often.
fn any_signature() -> impl Strategy<Value = String> {
    let byte = || {
        prop_oneof![
            6 => (0u8..4).prop_map(|b| format!("{b:02X}")),
            1 => (0u8..4).prop_map(|b| format!("?{b:X}")),
            1 => Just("0?".to_owned()),
            1 => (0u8..4).prop_map(|b| format!("~{b:02X}")),
            1 => (0u8..4).prop_map(|b| format!("~?{b:X}")),
            1 => Just("??".to_owned()),
        ]
    };
    let jump = || (0usize..5, 0usize..5).prop_map(|(min, more)| format!("[{min}-{}]", min + more));
    let ends = byte().boxed();
    let sequence = move |inner: BoxedStrategy<String>| {
        let middle = prop_oneof![4 => inner.clone(), 1 => jump()];
        (inner.clone(), prop::collection::vec(middle, 0..4), inner)
            .prop_map(|(first, middle, last)| format!("{first} {} {last}", middle.join(" ")))
    };
    let tokens = ends.clone().prop_recursive(2, 12, 3, move |inner| {
        let branch = prop_oneof![sequence(inner.clone().boxed()), inner];
        prop_oneof![
            1 => prop::collection::vec(branch, 1..4)
                .prop_map(|branches| format!("({})", branches.join(" | "))),
            2 => byte(),
        ]
    });
    // Long enough for every kind of anchor, of few values so that it occurs.
    let literal = prop::collection::vec(0u8..2, 4..11)
        .prop_map(|bytes| bytes.iter().map(|b| format!("{b:02X}")).collect::<String>());
    prop_oneof![
        2 => sequence(ends),
        2 => sequence(tokens.boxed()),
        1 => byte(),
        1 => literal.clone(),
        1 => (literal, byte()).prop_map(|(literal, byte)| format!("{byte} {literal} [0-3] 00")),
    ]
}
