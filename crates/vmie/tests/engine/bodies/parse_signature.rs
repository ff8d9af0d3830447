//! What must hold for *any* text that somebody calls a signature.
//!
//! One body for the tests and for the fuzz target of the same name.

#![allow(unreachable_pub)] // shared by a test and a fuzz target, a library of neither

use vmie::signature::{MAX_LEN, Signature};

/// Reads `text`; checks the answer, or that the error can be shown.
///
/// # Panics
///
/// When the canonical form stands for something else, or an error points outside of the text.
pub fn parse_signature(text: &str) -> Option<Signature> {
    match Signature::parse("fuzz", text) {
        Ok(signature) => {
            let canonical = signature.to_string();
            let again = Signature::parse("fuzz", &canonical);
            assert_eq!(again.as_ref(), Ok(&signature), "{text:?} -> {canonical}");
            assert!(1 <= signature.min_len() && signature.min_len() <= signature.max_len());
            assert!(signature.max_len() <= MAX_LEN);
            for anchor in signature.anchors() {
                assert!(anchor.min_offset <= anchor.max_offset && !anchor.bytes.is_empty());
                assert!(anchor.max_offset + anchor.bytes.len() <= signature.max_len());
            }
            Some(signature)
        }
        Err(error) => {
            assert!(text.is_char_boundary(error.offset()));
            assert!(1 <= error.line() && 1 <= error.column());
            let lines: Vec<String> = error.explain().lines().map(str::to_owned).collect();
            assert_eq!(lines.len(), 3, "{text:?}: {lines:?}");
            assert!(lines.iter().all(|line| line.chars().count() < 400));
            assert!(!lines.concat().contains(char::is_control), "{lines:?}");
            None
        }
    }
}
