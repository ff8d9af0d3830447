//! Why something of an object could not be had: which object, which member, and what is wrong.

use std::fmt;

use super::pointer::BadLink;
use crate::addr::Gva;
use crate::memory::Fault;
use crate::os::FindingKind;
use crate::os::types::TypeError;

/// Why something of an object could not be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectError(Box<Parts>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Parts {
    object: String,
    at: Option<Gva>,
    member: String,
    why: Why,
}

/// What is wrong with a member, or with the way to it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Why {
    /// The system's types do not have it. See [`Known::unless_missing`].
    Missing(TypeError),
    /// The system has no symbol of this name, or several.
    NoSymbol,
    /// The pointer does not lead to an object: it is null ([`Known::unless_null`]), of user memory, or not aligned.
    Pointer(BadLink),
    /// It could not be read.
    Unread(Fault<Gva>),
    /// It is of a type that cannot be read so; what it is instead.
    Mistyped(String),
    /// It is a number that does not fit what was asked for.
    OutOfRange(u64),
    /// More bytes were asked for than are read at once.
    TooLong(u64),
}

impl ObjectError {
    pub(super) fn new(
        object: impl Into<String>,
        at: Option<Gva>,
        member: impl Into<String>,
        why: Why,
    ) -> Self {
        Self(Box::new(Parts {
            object: object.into(),
            at,
            member: member.into(),
            why,
        }))
    }

    /// The type of the object, such as `struct task_struct`, or the name of a symbol.
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// Where the object is, where there is one.
    pub fn at(&self) -> Option<Gva> {
        self.0.at
    }

    /// The path that was asked for, empty for the object itself.
    pub fn member(&self) -> &str {
        &self.0.member
    }

    /// What is wrong.
    pub fn why(&self) -> &Why {
        &self.0.why
    }

    /// Whether a null pointer stands where the path goes on.
    pub fn is_null(&self) -> bool {
        self.0.why == Why::Pointer(BadLink::Null)
    }

    /// Whether this system's types or symbols do not have it at all. Types that are damaged say nothing of the kind.
    pub fn is_missing(&self) -> bool {
        matches!(
            self.0.why,
            Why::Missing(
                TypeError::NoType(_) | TypeError::NoMember { .. } | TypeError::NoRecord(_)
            ) | Why::NoSymbol
        )
    }

    /// How to report it.
    pub fn kind(&self) -> FindingKind {
        match self.0.why {
            Why::Pointer(bad) => bad.kind(),
            Why::Unread(fault) if !fault.cause.is_unmapped() => FindingKind::Unreadable,
            _ => FindingKind::Damaged,
        }
    }
}

impl std::error::Error for ObjectError {}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts {
            object,
            at,
            member,
            why,
        } = &*self.0;
        let has = !member.is_empty();
        match (has, at) {
            (true, Some(at)) => write!(f, "{member} of {object} at {at} ")?,
            (true, None) => write!(f, "{member} of {object} ")?,
            (false, Some(at)) => write!(f, "{object} at {at} ")?,
            (false, None) => write!(f, "{object} ")?,
        }
        match why {
            Why::Missing(error) => write!(f, "is not known: {error}"),
            Why::NoSymbol => f.write_str("is no symbol, or several"),
            Why::Pointer(bad) => write!(f, "{bad}"),
            Why::Unread(fault) => write!(f, "cannot be read: {fault}"),
            Why::Mistyped(what) => write!(f, "is {what}"),
            Why::OutOfRange(value) => write!(f, "is {value:#x}, which cannot be right"),
            Why::TooLong(len) => write!(f, "has {len} bytes, more than are read at once"),
        }
    }
}

/// Tells what is not there from what could not be looked at.
pub trait Known<T> {
    /// `None` where a pointer on the way is null: this object has no such thing.
    ///
    /// # Errors
    ///
    /// All others.
    fn unless_null(self) -> Result<Option<T>, ObjectError>;

    /// `None` where the system has no such member, type or symbol: this version of it has no such thing.
    ///
    /// # Errors
    ///
    /// All others.
    fn unless_missing(self) -> Result<Option<T>, ObjectError>;
}

impl<T> Known<T> for Result<T, ObjectError> {
    fn unless_null(self) -> Result<Option<T>, ObjectError> {
        match self {
            Err(error) if error.is_null() => Ok(None),
            other => other.map(Some),
        }
    }

    fn unless_missing(self) -> Result<Option<T>, ObjectError> {
        match self {
            Err(error) if error.is_missing() => Ok(None),
            other => other.map(Some),
        }
    }
}
