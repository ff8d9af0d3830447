//! Guest addresses and ranges of them.
//!
//! A guest physical and a guest virtual address are both 64-bit numbers, and mixing them up is the
//! classic mistake of this field. They are therefore distinct types, [`Gpa`] and [`Gva`], and code
//! that works on either is generic over [`Address`]. All arithmetic is checked: the numbers come
//! from hostile guests.
//!
//! A range is kept as *first and last* address, not as start and end, because an address space ends
//! at 2^64, which is not a number an exclusive `u64` end can hold. A range is never empty.

use std::fmt;
use std::hash::Hash;

/// Bytes in the smallest page of any architecture that is read: what is there and what is not, what is mapped and what
/// is not, changes at multiples of this only.
///
/// Right wherever memory is cut into pieces that are wholly there or not, whoever's it is: holes of images, frames that
/// several spaces share, reads page by page. Larger pages consist of whole ones of these. What depends on the page that a table
/// entry maps asks the space: [`Mode::page_size`](crate::Mode::page_size) for the smallest page of its tables, and
/// [`Mapping::page_size`](crate::paging::Mapping::page_size) for the page at an address.
pub const PAGE_SIZE: u64 = 4096;

/// An address in some space: what [`Gpa`] and [`Gva`] have in common.
pub trait Address:
    Copy + Eq + Ord + Hash + Default + fmt::Debug + fmt::Display + fmt::LowerHex + Send + Sync + 'static
{
    /// What the space is called in messages: `"physical"` or `"virtual"`.
    const SPACE: &'static str;

    /// Wraps a raw number.
    fn new(raw: u64) -> Self;

    /// The raw number.
    fn raw(self) -> u64;

    /// `self + bytes`, or `None` past 2^64.
    fn checked_add(self, bytes: u64) -> Option<Self> {
        self.raw().checked_add(bytes).map(Self::new)
    }

    /// `self - bytes`, or `None` below zero.
    fn checked_sub(self, bytes: u64) -> Option<Self> {
        self.raw().checked_sub(bytes).map(Self::new)
    }

    /// Distance in bytes from `earlier` to `self`, or `None` when `self` lies before it.
    fn offset_from(self, earlier: Self) -> Option<u64> {
        self.raw().checked_sub(earlier.raw())
    }

    /// The address rounded down to a multiple of `align`, a power of two.
    fn align_down(self, align: u64) -> Self {
        debug_assert!(align.is_power_of_two());
        Self::new(self.raw() & !(align - 1))
    }
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident, $space:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl Address for $name {
            const SPACE: &'static str = $space;

            #[inline]
            fn new(raw: u64) -> Self {
                Self(raw)
            }

            #[inline]
            fn raw(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address!(
    /// A guest physical address.
    Gpa,
    "physical"
);
address!(
    /// A guest virtual address; which address space it belongs to is said by what holds it.
    Gva,
    "virtual"
);

/// A non-empty range of addresses, kept as its first and last address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddrRange<A> {
    first: A,
    last: A,
}

impl<A: Address> AddrRange<A> {
    /// `len` bytes from `start`; `None` when `len` is zero or the range passes 2^64.
    pub fn new(start: A, len: u64) -> Option<Self> {
        let last = start.checked_add(len.checked_sub(1)?)?;
        Some(Self { first: start, last })
    }

    /// From `first` to `last`, both included; `None` when `last` lies before `first`.
    pub fn inclusive(first: A, last: A) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The whole 64-bit space.
    pub fn all() -> Self {
        Self {
            first: A::new(0),
            last: A::new(u64::MAX),
        }
    }

    /// Everything from `first` on.
    pub fn from(first: A) -> Self {
        Self {
            first,
            last: A::new(u64::MAX),
        }
    }

    /// The first address.
    pub fn start(self) -> A {
        self.first
    }

    /// The last address, which belongs to the range.
    pub fn last(self) -> A {
        self.last
    }

    /// The address after the last one, or `None` when the range ends at 2^64.
    pub fn end(self) -> Option<A> {
        self.last.checked_add(1)
    }

    /// Length in bytes. The whole space, 2^64 bytes, answers `u64::MAX`.
    #[allow(clippy::len_without_is_empty)] // never empty by construction
    pub fn len(self) -> u64 {
        (self.last.raw() - self.first.raw()).saturating_add(1)
    }

    /// Whether `addr` lies in the range.
    pub fn contains(self, addr: A) -> bool {
        self.first <= addr && addr <= self.last
    }

    /// Whether all of `other` lies in the range.
    pub fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// What both have in common.
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::inclusive(self.first.max(other.first), self.last.min(other.last))
    }
}

impl<A: Address> fmt::Display for AddrRange<A> {
    /// `0x1000..0x3000`, the end excluded as on the command line; a range that ends at 2^64 shows
    /// `0x10000000000000000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:#x}..{:#x}",
            self.first.raw(),
            u128::from(self.last.raw()) + 1
        )
    }
}

impl<A: Address> fmt::Debug for AddrRange<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_reach_the_top_of_the_space() {
        let top = AddrRange::new(Gva(u64::MAX - 0xfff), 0x1000).expect("fits");
        assert_eq!(top.last(), Gva(u64::MAX));
        assert_eq!(top.end(), None);
        assert_eq!(top.len(), 0x1000);
        assert_eq!(top.to_string(), "0xfffffffffffff000..0x10000000000000000");
        assert_eq!(AddrRange::<Gva>::all().len(), u64::MAX);
    }

    #[test]
    fn ranges_refuse_empty_and_wrapping() {
        assert_eq!(AddrRange::new(Gpa(0), 0), None);
        assert_eq!(AddrRange::new(Gpa(u64::MAX), 2), None);
        assert_eq!(AddrRange::inclusive(Gpa(2), Gpa(1)), None);
    }

    #[test]
    fn intersection() {
        let a = AddrRange::new(Gpa(0x1000), 0x2000).expect("fits");
        let b = AddrRange::new(Gpa(0x2000), 0x2000).expect("fits");
        assert_eq!(a.intersect(b), AddrRange::new(Gpa(0x2000), 0x1000));
        let c = AddrRange::new(Gpa(0x3000), 1).expect("fits");
        assert_eq!(a.intersect(c), None);
        assert!(a.contains(Gpa(0x2fff)) && !a.contains(Gpa(0x3000)));
    }
}
