//! Typed values, text and strings in memory.
//!
//! Both searches are [`Scanner`](crate::Scanner)s: [`Finder`] looks for values and texts that somebody
//! names, [`Strings`] for whatever reads as text. [`scan`](crate::scan) sends them over one memory
//! or many spaces. What was found can be looked at again at a later
//! moment by a [`Narrowing`], which keeps what has changed as its [`Relation`]s say.

mod case;
mod finder;
mod lanes;
mod narrow;
mod number;
mod real;
mod relation;
mod strings;
mod text;
mod value;

pub use case::fold_case;
pub use finder::{Finder, Query, Sought};
pub use narrow::{Candidate, Narrowing, Verdict};
pub use number::ValueType;
pub use real::Inexact;
pub use relation::{Amount, Relation};
pub use strings::{Encoding, Encodings, MIN_CHARS, Strings, Text, continue_text};
pub use text::{TextError, TextForms, TextQuery};
pub use value::{ValueError, ValueQuery};
