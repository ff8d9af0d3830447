//! What an object is made of: its fields, guessed from its bytes and from what its words point at.
//!
//! A [`Dissector`] goes over the bytes of an instance from the front and takes, at each place, the most
//! telling reading: a virtual table (and the class, where run-time type information names it), the shapes
//! of `std::string` and `std::vector`, a pointer to code, to an object, to text or to other data, text in
//! place, numbers. Every field says how sure that is and why. Nothing is certain: eight bytes may be a
//! double, two floats or chance.
//!
//! Several instances of one class say more than one ([`Dissector::instances`]): each votes with its
//! confidence and against what it contradicts, zeros (a null pointer, an empty text) vote for nothing, and what differs
//! shows. Copies in memory that has been freed ([`Dissector::life`]) are best left without a vote.
//!
//! Invariants, for memory that was made to deceive: no more than [`MAX_LEN`] bytes of no more than
//! [`MAX_INSTANCES`] instances are taken apart, no pointer is followed more than four deep, and every text,
//! table and name that is read has a bound. A part that could not be read is a field that says so.
//!
//! Deliberately absent: members of the standard containers other than string and vector; UTF-16 of other scripts than Latin, Greek and Cyrillic, since every random number is
//! a Chinese character.

mod class;
mod fields;
mod life;
mod like;
mod look;
mod number;
mod shape;
mod split;
mod strings;
#[cfg(test)]
mod tests;
mod text;
mod vote;
mod vtable;
mod wide;

use std::fmt;

use crate::addr::Address;
use crate::memory::{Cause, Memory};
use crate::pointers::{Edge, Width};
pub use life::Life;
pub use like::Likeness;
use look::Look;
pub use vote::{Common, Comparison};
pub use vtable::{Rtti, Vtable};

/// The most bytes of an instance that are looked at.
pub const MAX_LEN: u64 = 64 << 10;

/// The most instances that are compared.
pub const MAX_INSTANCES: usize = 64;

/// What a field is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A pointer to a virtual table.
    Vtable,
    /// A pointer into code.
    Function,
    /// A pointer to an object that begins with a virtual table.
    Object,
    /// A pointer to text with a terminator.
    String,
    /// A pointer to something else that is mapped.
    Pointer,
    /// `std::string` of libstdc++: pointer, length, and the text itself or its capacity.
    StdString,
    /// `std::string` of libc++: bytes allocated, length, pointer; or the length and the text itself.
    LibcxxString,
    /// `std::string` of libc++ in its alternate layout: pointer, length, bytes allocated; or the text
    /// itself and its length.
    LibcxxAltString,
    /// `std::string` of Visual C++: pointer or the text itself, length, capacity.
    MsvcString,
    /// `std::wstring` of Visual C++: the same in UTF-16.
    MsvcWstring,
    /// `std::vector`: begin, end, end of the capacity.
    StdVector,
    /// ASCII or UTF-8 text in place.
    Utf8,
    /// UTF-16 text in place.
    Utf16,
    /// A 32-bit floating-point number.
    Float,
    /// A 64-bit floating-point number.
    Double,
    /// A small integer, of 1, 2, 4 or 8 bytes.
    Integer,
    /// A few bits of a large number.
    Flags,
    /// Bytes that look like nothing in particular.
    Unknown,
    /// Zeros: padding, or a field that is zero.
    Zero,
    /// Bytes that could not be read.
    Unreadable,
}

impl Kind {
    /// One word, stable: `"vtable"`, `"std::string"`, ...
    pub const fn label(self) -> &'static str {
        match self {
            Self::Vtable => "vtable",
            Self::Function => "function",
            Self::Object => "object",
            Self::String => "string",
            Self::Pointer => "pointer",
            Self::StdString | Self::LibcxxString | Self::LibcxxAltString | Self::MsvcString => {
                "std::string"
            }
            Self::MsvcWstring => "std::wstring",
            Self::StdVector => "std::vector",
            Self::Utf8 => "utf8",
            Self::Utf16 => "utf16",
            Self::Float => "float",
            Self::Double => "double",
            Self::Integer => "integer",
            Self::Flags => "flags",
            Self::Unknown => "unknown",
            Self::Zero => "zero",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whose layout a string object has: `"libstdc++"`, `"libc++"`, ...; empty for other kinds.
    pub const fn library(self) -> &'static str {
        match self {
            Self::StdString => "libstdc++",
            Self::LibcxxString => "libc++",
            Self::LibcxxAltString => "libc++, alternate layout",
            Self::MsvcString | Self::MsvcWstring => "Visual C++",
            _ => "",
        }
    }

    /// Whether the field is an object that holds text: a string of any library.
    pub const fn is_string(self) -> bool {
        !self.library().is_empty()
    }

    /// Whether the field is one word that holds an address.
    pub const fn is_pointer(self) -> bool {
        matches!(
            self,
            Self::Vtable | Self::Function | Self::Object | Self::String | Self::Pointer
        )
    }
}

/// What a field holds.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Value {
    /// The address that a pointer holds.
    Address(u64),
    /// A number.
    Integer(i64),
    /// A number whose bits say more than its size.
    Bits(u64),
    /// A floating-point number of 32 bits.
    Float(f32),
    /// A floating-point number of 64 bits.
    Double(f64),
    /// Text, cut after 256 characters.
    Text(String),
    /// How many bytes are in use and how many there is room for.
    Room {
        /// In use.
        used: u64,
        /// There is room for.
        room: u64,
    },
    /// Nothing but zeros.
    Zeros,
    /// Why there is none.
    Unread(Cause),
    /// Some of the bytes could be read, and what they hold as a whole cannot be said.
    Partial,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(at) | Self::Bits(at) => write!(f, "{at:#x}"),
            Self::Integer(number) => write!(f, "{number}"),
            // Far from one, plain digits would be a long row of zeros.
            Self::Float(number) if (1e-5..1e9).contains(&number.abs()) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number:e}"),
            Self::Double(number) if (1e-5..1e15).contains(&number.abs()) => write!(f, "{number}"),
            Self::Double(number) => write!(f, "{number:e}"),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::Room { used, room } => write!(f, "{used} of {room} bytes"),
            Self::Zeros => f.write_str("0"),
            Self::Unread(cause) => f.write_str(cause.label()),
            Self::Partial => f.write_str("partly read"),
        }
    }
}

/// A field of an instance.
#[derive(Clone, PartialEq, Debug)]
pub struct Field {
    /// Bytes from the start of the instance.
    pub offset: u64,
    /// Length in bytes, never zero.
    pub len: u64,
    /// What it is.
    pub kind: Kind,
    /// What it holds.
    pub value: Value,
    /// A class, a text that is pointed at, or the like; may be empty.
    pub detail: String,
    /// How sure that is: 0 to 100.
    pub confidence: u8,
    /// What speaks for it.
    pub evidence: String,
}

/// Takes objects of a memory apart.
///
/// Keeps what it has learnt about the protection of pages and about virtual tables, so one for many
/// objects is faster than one each.
///
/// # Example
///
/// ```
/// use vmie::dissect::Dissector;
/// use vmie::pointers::Width;
/// use vmie::Gva;
/// # fn with(space: &dyn vmie::Memory<Addr = Gva>) {
/// let mut dissector = Dissector::new(space, Width::Eight);
/// for field in dissector.instance(Gva(0x7f00_1000), 0x40) {
///     println!("+{:#x} {} {}: {}", field.offset, field.kind.label(), field.value, field.evidence);
/// }
/// # }
/// ```
pub struct Dissector<'m, A: Address> {
    look: Look<'m, A>,
}

impl<'m, A: Address> Dissector<'m, A> {
    /// For objects in this memory, with pointers of this width.
    pub fn new(memory: &'m dyn Memory<Addr = A>, width: Width) -> Self {
        Self {
            look: Look::new(memory, width),
        }
    }

    /// The virtual table whose address point (what instances hold) is here, if that is one.
    pub fn vtable(&mut self, at: A) -> Option<Vtable> {
        self.look.vtable(at.raw())
    }

    /// The fields of the `len` bytes from `at` on, in order, without holes between them.
    ///
    /// No more than [`MAX_LEN`] bytes are looked at, and none beyond the end of the address space.
    ///
    /// Cost: some microseconds a word, most of it for what the words point at.
    pub fn instance(&mut self, at: A, len: u64) -> Vec<Field> {
        let bytes = self.look.bytes(at.raw(), len);
        let mut fields = fields::classify(&mut self.look, &bytes);
        vote::merge_zeros(&mut fields);
        fields
    }

    /// Whether these places are instances of the class of the object at `model`, as all of them hold its
    /// virtual table and stacks may hold it by accident. One judgement for each, in the order given.
    ///
    /// `len` is how long the object is; of an allocation that says that it is shorter no more is compared.
    ///
    /// Cost: that of [`Dissector::instance`] for each.
    pub fn likeness(&mut self, model: A, others: &[A], len: u64) -> Vec<Likeness> {
        like::likeness(&mut self.look, model, others, len)
    }

    /// Whether these instances of a class, of `len` bytes, are still in use, or copies in memory that has been freed.
    /// One judgement for each, in the order given.
    ///
    /// `pointers` are those that lead into them, all that there are; without, only the notes of malloc tell.
    ///
    /// Cost: two words of memory for each, and a search by halves for each pointer.
    pub fn life(&self, at: &[A], len: u64, pointers: Option<&[Edge<A>]>) -> Vec<Life> {
        life::judge(&self.look, at, len, pointers)
    }

    /// The fields that the instances at these addresses have in common, each of `len` bytes.
    ///
    /// No more than [`MAX_INSTANCES`] are compared, the first ones.
    pub fn instances(&mut self, at: &[A], len: u64) -> Comparison<A> {
        vote::compare(&mut self.look, at, |_| true, len)
    }

    /// As [`Dissector::instances`], with a vote only for those of which `votes` is true; for all where none is. The values
    /// of the others are told.
    pub fn instances_that_vote(&mut self, at: &[A], votes: &[bool], len: u64) -> Comparison<A> {
        let votes = |index: usize| votes.get(index).copied().unwrap_or(true);
        vote::compare(&mut self.look, at, votes, len)
    }
}

impl<A: Address> fmt::Debug for Dissector<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dissector").finish_non_exhaustive()
    }
}
