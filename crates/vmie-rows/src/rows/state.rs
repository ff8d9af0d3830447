//! Where a page of a process is that the CPU does not see.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::shape::{Type, joined};
use crate::value::{Show, Value};

/// Defines the states: each with its word in rows, and its meaning in the reference as its doc comment.
macro_rules! states {
    ($($(#[doc = $about:literal])+ $state:ident: $word:literal;)+) => {
        /// Where a page of a process is that the CPU does not see. In rows, a word.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum State {
            $($(#[doc = $about])+ $state,)+
        }

        impl State {
            /// All of them, in the order of the reference.
            pub const ALL: &'static [Self] = &[$(Self::$state),+];

            /// The word in rows: `hinted`.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$state => $word,)+
                }
            }

            /// What it means, in one line. Allocates.
            pub fn meaning(self) -> String {
                match self {
                    $(Self::$state => joined(&[$($about),+]),)+
                }
            }
        }
    };
}

states! {
    /// In memory, and the CPU made to fault on the next access.
    Hinted: "hinted";
    /// In memory, being moved.
    Moving: "moving";
    /// Swapped out.
    Swapped: "swapped";
    /// Of a mapped file, not read yet or dropped.
    InFile: "in file";
    /// Never touched.
    Untouched: "untouched";
    /// In memory, but not to be touched.
    Forbidden: "forbidden";
    /// Broken or marked.
    Special: "special";
    /// Nothing is arranged there.
    NoArea: "no area";
    /// The kernel's, behind page-table isolation.
    Hidden: "hidden";
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl Show for State {
    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.word())
    }
}

impl Value for State {
    const TYPE: Type = Type::Text;
}
