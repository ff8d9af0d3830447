//! What can be asked of any memory, physical or virtual.
//!
//! [`Memory`] is the one interface between where bytes come from (saved images, live guests,
//! address spaces, snapshots) and what is done with them (sweeps, scans, dissection). It is
//! object-safe and generic over the address type, so each scanner is written once and works on
//! physical memory, processes and snapshots alike.
//!
//! Two rules shape it:
//!
//! * **A hole is not zeros.** A read stops at the first byte it cannot deliver and says why
//!   ([`Fault`]); an enumeration yields what it could not look into ([`SpanKind::Lost`]) beside what
//!   is there; every scan adds both up in a [`Coverage`].
//! * **Live memory is never a `&[u8]`.** [`Memory::borrow`] answers only for sources that nobody
//!   can change; everything else is copied.
//!
//! The primitive of enumeration is an iterator and not a "next region after this address" call: a
//! page-table walk carries state from one region to the next, and restarting it at every region made
//! fragmented address spaces many times slower.

use std::fmt;

use crate::addr::{AddrRange, Address, Gpa};
use crate::view::View;

/// What may be done with a page: a set of `r`, `w`, `x`, and whether user mode may do it.
///
/// For virtual memory this is the *effective* protection, all table levels taken together.
///
/// Execution is a right of each mode. [`Prot::X`] is that of the mode to which the page belongs: of user mode where it may use the
/// page, else of the kernel. Where the tables say more ([`Prot::OTHER_X`]), [`Prot::user_exec`] and [`Prot::kernel_exec`]
/// tell them apart. x86's tables do not: whether its kernel may execute what is user mode's is up to a register (CR4.SMEP).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Prot(u8);

impl Prot {
    /// Nothing allowed.
    pub const NONE: Self = Self(0);
    /// May be read.
    pub const R: Self = Self(1);
    /// May be written.
    pub const W: Self = Self(2);
    /// May be executed by the mode to which the page belongs.
    pub const X: Self = Self(4);
    /// User mode may use it too.
    pub const USER: Self = Self(8);
    /// Read, write and execute: what physical memory answers.
    pub const RWX: Self = Self(7);
    /// Everything that can be asked for.
    pub const ALL: Self = Self(15);
    /// The other mode may execute it, too: the kernel what is user mode's, user mode what is the kernel's. Only where the
    /// page tables say so.
    pub const OTHER_X: Self = Self(16);
    /// Where the descent through tables begins: nothing is forbidden yet.
    pub(crate) const UNLIMITED: Self = Self(31);

    /// As a number: 1 to read, 2 to write, 4 to execute, 8 for user mode, 16 for the other mode to execute.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From such a number; `None` when it has other bits.
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & !Self::UNLIMITED.0 == 0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// Both sets together.
    #[must_use]
    #[inline]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What both sets allow.
    #[must_use]
    #[inline]
    pub const fn intersect(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether everything in `other` is allowed.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the page may be written.
    #[inline]
    pub const fn write(self) -> bool {
        self.contains(Self::W)
    }

    /// Whether the page may be executed.
    #[inline]
    pub const fn exec(self) -> bool {
        self.contains(Self::X)
    }

    /// Whether user mode may execute the page, by what the page tables say.
    #[inline]
    pub const fn user_exec(self) -> bool {
        self.contains(if self.user() { Self::X } else { Self::OTHER_X })
    }

    /// Whether the kernel may execute the page, by what the page tables say.
    #[inline]
    pub const fn kernel_exec(self) -> bool {
        self.contains(if self.user() { Self::OTHER_X } else { Self::X })
    }

    /// From execution by user mode as [`Prot::X`] and by the kernel as [`Prot::OTHER_X`], as tables with a right for each are
    /// read, to the mode to which the page belongs and the other one.
    #[inline]
    pub(crate) const fn by_owner(self) -> Self {
        const BOTH: u8 = Prot::X.0 | Prot::OTHER_X.0;
        match (self.user(), self.0 & BOTH) {
            (true, _) | (false, 0 | BOTH) => self,
            (false, _) => Self(self.0 ^ BOTH),
        }
    }

    /// Whether user mode may use the page.
    #[inline]
    pub const fn user(self) -> bool {
        self.contains(Self::USER)
    }

    /// Reads letters out of `r`, `w`, `x`, `u` (user) in any order, each at most once; `-` is
    /// skipped. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        text.chars().try_fold(Self::NONE, |set, c| {
            let bit = match c.to_ascii_lowercase() {
                'r' => Self::R,
                'w' => Self::W,
                'x' => Self::X,
                'u' => Self::USER,
                '-' => return Some(set),
                _ => return None,
            };
            (!set.contains(bit)).then(|| set.union(bit))
        })
    }
}

impl fmt::Display for Prot {
    /// `rwx` with `-` for what is absent; user mode is not part of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |bit, c| if self.contains(bit) { c } else { '-' };
        let text: String = [
            letter(Self::R, 'r'),
            letter(Self::W, 'w'),
            letter(Self::X, 'x'),
        ]
        .iter()
        .collect();
        f.pad(&text)
    }
}

impl fmt::Debug for Prot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let other = self.contains(Self::OTHER_X).then_some("+x");
        let user = if self.user() { "u" } else { "-" };
        write!(f, "{self}{user}{}", other.unwrap_or_default())
    }
}

/// Why a byte could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The page tables do not map the address: this entry is not present.
    NotMapped {
        /// Level of the table, 1 for the one that holds 4 KiB pages.
        level: u8,
        /// Physical address of the entry.
        at: Gpa,
        /// The entry as it stands in memory.
        entry: u64,
    },
    /// The entry is present but breaks a rule of its format, so the CPU would fault on it.
    Malformed {
        /// Level of the table, 1 for the one that holds 4 KiB pages.
        level: u8,
        /// Physical address of the entry.
        at: Gpa,
        /// The entry as it stands in memory.
        entry: u64,
    },
    /// The address is outside what this paging mode can express.
    NonCanonical,
    /// A page table that is needed for the answer is not in the image: what it maps is unknown.
    TableAbsent {
        /// Level of the table that could not be read.
        level: u8,
        /// Where it should be.
        table: Gpa,
    },
    /// The image holds no bytes for this physical address.
    Absent {
        /// The physical address.
        gpa: Gpa,
    },
    /// The image says it holds these bytes, but the file ends before them.
    Truncated {
        /// The physical address.
        gpa: Gpa,
        /// Where in the file the bytes should be.
        offset: u64,
    },
    /// A compressed part of the image does not decode.
    Corrupt {
        /// The physical address.
        gpa: Gpa,
        /// Where in the file the part begins.
        offset: u64,
    },
    /// Reading the source failed.
    Io {
        /// The operating system's error number.
        errno: i32,
    },
    /// The guest has quit while it was looked at.
    Gone,
    /// A bound on the work was reached; what lies behind it was not looked at.
    Limit,
    /// The page is not in memory: the operating system has swapped it out.
    SwappedOut {
        /// Number of the swap area.
        area: u32,
        /// Number of the page in it.
        offset: u64,
    },
    /// The operating system has swapped the page out and keeps it in memory, compressed, which is not read.
    Compressed {
        /// Number of the swap area.
        area: u32,
        /// Number of the page in it.
        offset: u64,
    },
    /// Nothing was mapped here when the snapshot was taken.
    NothingThere,
    /// Outside of what the snapshot was asked to keep.
    NotCaptured,
    /// A part of a snapshot's file is not what was written.
    Damaged {
        /// Where in the file the part begins.
        offset: u64,
    },
}

impl Cause {
    /// Whether this says that *nothing is there*, as against *it could not be looked at*.
    #[inline]
    pub const fn is_unmapped(self) -> bool {
        matches!(
            self,
            Self::NotMapped { .. }
                | Self::Malformed { .. }
                | Self::NonCanonical
                | Self::NothingThere
        )
    }

    /// Whether this says that *something is mapped, and is not in memory as it stands*.
    #[inline]
    pub const fn is_away(self) -> bool {
        matches!(self, Self::SwappedOut { .. } | Self::Compressed { .. })
    }

    /// One or two words for summaries, stable: `"not mapped"`, `"absent"`, ...
    #[inline]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotMapped { .. } | Self::NothingThere => "not mapped",
            Self::Malformed { .. } => "malformed entry",
            Self::NonCanonical => "non-canonical",
            Self::TableAbsent { .. } => "page table absent",
            Self::Absent { .. } => "absent from the image",
            Self::Truncated { .. } => "image truncated",
            Self::Corrupt { .. } => "image corrupt",
            Self::Io { .. } => "read error",
            Self::Gone => "guest gone",
            Self::SwappedOut { .. } => "swapped out",
            Self::Compressed { .. } => "compressed in memory",
            Self::Limit => "work limit",
            Self::NotCaptured => "not captured",
            Self::Damaged { .. } => "snapshot damaged",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotMapped { level, at, entry } => {
                write!(
                    f,
                    "not mapped: the level-{level} entry at {at} is {entry:#x}"
                )
            }
            Self::Malformed { level, at, entry } => {
                write!(
                    f,
                    "not mapped: the level-{level} entry at {at} is {entry:#x}, which sets reserved bits"
                )
            }
            Self::NonCanonical => f.write_str("outside what this paging mode can address"),
            Self::TableAbsent { level, table } => {
                write!(
                    f,
                    "unknown: the level-{level} page table at {table} is not in the image"
                )
            }
            Self::Absent { gpa } => write!(f, "physical address {gpa} is not in the image"),
            Self::Truncated { gpa, offset } => write!(
                f,
                "physical address {gpa} should be at file offset {offset:#x}, but the file ends before it"
            ),
            Self::Corrupt { gpa, offset } => write!(
                f,
                "physical address {gpa} is in the compressed block at file offset {offset:#x}, which does not decode"
            ),
            Self::Io { errno } => {
                write!(f, "{}", std::io::Error::from_raw_os_error(errno))
            }
            Self::Gone => f.write_str("the guest has quit"),
            Self::Limit => f.write_str("not looked at: the bound on the work was reached"),
            Self::SwappedOut { area, offset } => {
                write!(f, "swapped out: page {offset} of swap area {area}")
            }
            Self::Compressed { area, offset } => write!(
                f,
                "swapped out and kept in memory compressed, which is not read: page {offset} of swap area {area}"
            ),
            Self::NothingThere => f.write_str("not mapped when the snapshot was taken"),
            Self::NotCaptured => f.write_str(
                "not in the snapshot: outside of the range or the protection it was taken with",
            ),
            Self::Damaged { offset } => write!(
                f,
                "the part of the snapshot at file offset {offset:#x} is damaged"
            ),
        }
    }
}

/// The first address at which a read had to stop, and why.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[error("{addr}: {cause}")]
pub struct Fault<A: Address> {
    /// The first address that could not be read.
    pub addr: A,
    /// Why.
    pub cause: Cause,
}

/// A run of consecutive addresses with one answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Span<A> {
    /// First address.
    pub start: A,
    /// Length in bytes, never zero.
    pub len: u64,
    /// What the run is.
    pub kind: SpanKind,
}

/// What a [`Span`] is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SpanKind {
    /// Mapped with this protection. Its bytes may still be absent: reading tells.
    Mapped(Prot),
    /// It could not be determined what is mapped here.
    Lost(Cause),
    /// The operating system maps something here with this protection that is not in memory, or not as it stands.
    Away(Prot, Cause),
}

impl<A: Address> Span<A> {
    /// The span's addresses.
    pub fn range(self) -> AddrRange<A> {
        AddrRange::new(self.start, self.len).expect("a span is not empty and does not wrap")
    }

    /// The region, when the span is mapped.
    pub fn region(self) -> Option<Region<A>> {
        match self.kind {
            SpanKind::Mapped(prot) => Some(Region {
                start: self.start,
                len: self.len,
                prot,
            }),
            SpanKind::Lost(_) | SpanKind::Away(..) => None,
        }
    }
}

/// A memory of this crate's that is scanned from end to end, without it being made a `dyn Memory` first.
pub(crate) trait Whole: Memory + Sized {}

/// A maximal run of mapped addresses with the same effective protection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Region<A> {
    /// First address.
    pub start: A,
    /// Length in bytes, never zero.
    pub len: u64,
    /// Effective protection.
    pub prot: Prot,
}

impl<A: Address> Region<A> {
    /// The region's addresses.
    pub fn range(self) -> AddrRange<A> {
        AddrRange::new(self.start, self.len).expect("a region is not empty and does not wrap")
    }
}

/// The iterator that [`Memory::spans`] gives.
pub type Spans<'a, A> = Box<dyn Iterator<Item = Span<A>> + Send + 'a>;

/// Bytes at addresses: an image, a live guest, one address space, a snapshot.
///
/// To add a source of memory, implement this trait; ARCHITECTURE.md has the checklist.
pub trait Memory: Send + Sync {
    /// Physical or virtual.
    type Addr: Address;

    /// What is mapped within `range`, in ascending order, without overlaps, each span maximal but
    /// cut to `range`. Addresses between spans are not mapped.
    ///
    /// The work is bounded whatever the guest's tables contain; what lies behind the bound comes as
    /// a [`SpanKind::Lost`] span.
    fn spans(&self, range: AddrRange<Self::Addr>) -> Spans<'_, Self::Addr>;

    /// Copies memory from `addr` on into `buf`.
    ///
    /// # Errors
    ///
    /// The first address that could not be read, and why. The bytes before it have been copied; the
    /// content of the rest of `buf` is unspecified. An empty `buf` always succeeds.
    fn read(&self, addr: Self::Addr, buf: &mut [u8]) -> Result<(), Fault<Self::Addr>>;

    /// The bytes of `range` in place, when they lie in one piece in memory that nobody can change.
    ///
    /// `None` says nothing about whether they can be read.
    fn borrow(&self, range: AddrRange<Self::Addr>) -> Option<&[u8]> {
        let _ = range;
        None
    }

    /// The stretch of memory around `addr` that can be read directly: as much as lies in one piece.
    ///
    /// This is an offer of speed and nothing else. `None`, the default, says nothing about whether
    /// `addr` can be read.
    fn view(&self, addr: Self::Addr) -> Option<View<'_, Self::Addr>> {
        let _ = addr;
        None
    }

    /// Reads a little-endian 64-bit number.
    ///
    /// # Errors
    ///
    /// As [`Memory::read`].
    fn read_u64(&self, addr: Self::Addr) -> Result<u64, Fault<Self::Addr>> {
        let mut bytes = [0; 8];
        self.read(addr, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads a little-endian 32-bit number.
    ///
    /// # Errors
    ///
    /// As [`Memory::read`].
    fn read_u32(&self, addr: Self::Addr) -> Result<u32, Fault<Self::Addr>> {
        let mut bytes = [0; 4];
        self.read(addr, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Mapped regions within `range`, leaving out what could not be determined. Where that matters,
    /// use [`Memory::spans`].
    fn regions(
        &self,
        range: AddrRange<Self::Addr>,
    ) -> Box<dyn Iterator<Item = Region<Self::Addr>> + Send + '_> {
        Box::new(self.spans(range).filter_map(Span::region))
    }
}

impl<M: Memory + ?Sized> Memory for &M {
    type Addr = M::Addr;

    fn spans(&self, range: AddrRange<Self::Addr>) -> Spans<'_, Self::Addr> {
        (**self).spans(range)
    }

    fn read(&self, addr: Self::Addr, buf: &mut [u8]) -> Result<(), Fault<Self::Addr>> {
        (**self).read(addr, buf)
    }

    fn borrow(&self, range: AddrRange<Self::Addr>) -> Option<&[u8]> {
        (**self).borrow(range)
    }

    fn view(&self, addr: Self::Addr) -> Option<View<'_, Self::Addr>> {
        (**self).view(addr)
    }

    fn read_u64(&self, addr: Self::Addr) -> Result<u64, Fault<Self::Addr>> {
        (**self).read_u64(addr)
    }

    fn read_u32(&self, addr: Self::Addr) -> Result<u32, Fault<Self::Addr>> {
        (**self).read_u32(addr)
    }
}

/// A part of what was asked for that could not be looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap<A> {
    /// First address.
    pub start: A,
    /// Length in bytes, never zero.
    pub len: u64,
    /// Why.
    pub cause: Cause,
}

/// Which of the requested bytes were read, and why the others were not.
///
/// `mapped == read + absent` always holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coverage<A> {
    /// Bytes that the page tables map (for physical memory: that the image declares).
    pub mapped: u64,
    /// Mapped bytes that were read.
    pub read: u64,
    /// Mapped bytes that could not be read.
    pub absent: u64,
    /// Bytes of address space of which it is not known whether they are mapped, because a page
    /// table is absent or a bound was reached.
    pub lost: u64,
    /// Bytes in what was asked for that are not mapped at all.
    pub unmapped: u64,
    /// Of these, bytes that were asked for one by one, as a read does, and so are missing. A range that narrows a search
    /// does not ask for each of its addresses.
    pub unmapped_wanted: u64,
    /// The first [`Coverage::MAX_GAPS`] gaps, in the order they were met.
    pub gaps: Vec<Gap<A>>,
    /// How many gaps there were in all.
    pub gap_count: u64,
}

impl<A> Default for Coverage<A> {
    fn default() -> Self {
        Self {
            mapped: 0,
            read: 0,
            absent: 0,
            lost: 0,
            unmapped: 0,
            unmapped_wanted: 0,
            gaps: Vec::new(),
            gap_count: 0,
        }
    }
}

impl<A: Address> Coverage<A> {
    /// How many gaps are kept one by one; the rest are only counted.
    pub const MAX_GAPS: usize = 64;

    /// Whether everything that was asked for was looked at. Of a search in a range that is all that is mapped in it.
    pub fn is_complete(&self) -> bool {
        self.absent == 0 && self.lost == 0 && self.unmapped_wanted == 0
    }

    /// Counts bytes that were read.
    pub fn add_read(&mut self, len: u64) {
        self.mapped = self.mapped.saturating_add(len);
        self.read = self.read.saturating_add(len);
    }

    /// Counts a part that could not be looked at, under the heading its cause belongs to.
    ///
    /// Consecutive gaps with the same kind of cause count as one.
    pub fn add_gap(&mut self, start: A, len: u64, cause: Cause) {
        if cause.is_unmapped() {
            self.add_unmapped(start, len, cause);
        } else if matches!(cause, Cause::TableAbsent { .. } | Cause::Limit) {
            self.add_lost(start, len, cause);
        } else {
            self.add_absent(start, len, cause);
        }
    }

    /// Counts mapped bytes that could not be read, whatever the cause.
    pub fn add_absent(&mut self, start: A, len: u64, cause: Cause) {
        self.mapped = self.mapped.saturating_add(len);
        self.absent = self.absent.saturating_add(len);
        self.note(Gap { start, len, cause });
    }

    /// Counts bytes of which it is not known whether they are mapped, whatever the cause.
    pub fn add_lost(&mut self, start: A, len: u64, cause: Cause) {
        self.lost = self.lost.saturating_add(len);
        self.note(Gap { start, len, cause });
    }

    /// Counts bytes that were asked for and are not mapped, whatever the cause.
    pub fn add_unmapped(&mut self, start: A, len: u64, cause: Cause) {
        self.unmapped_wanted = self.unmapped_wanted.saturating_add(len);
        self.add_not_mapped(start, len, cause);
    }

    /// Counts bytes that are not mapped in a range that narrows a search, whatever the cause: they are not missing.
    pub fn add_not_mapped(&mut self, start: A, len: u64, cause: Cause) {
        self.unmapped = self.unmapped.saturating_add(len);
        self.note(Gap { start, len, cause });
    }

    fn note(&mut self, gap: Gap<A>) {
        if let Some(last) = self.gaps.last_mut()
            && self.gap_count <= Self::MAX_GAPS as u64
            && last.start.checked_add(last.len) == Some(gap.start)
            && last.cause.label() == gap.cause.label()
        {
            last.len = last.len.saturating_add(gap.len);
            return;
        }
        self.gap_count += 1;
        if self.gaps.len() < Self::MAX_GAPS {
            self.gaps.push(gap);
        }
    }

    /// Adds what a later part of the same operation covered.
    pub fn merge(&mut self, later: &Self) {
        self.mapped = self.mapped.saturating_add(later.mapped);
        self.read = self.read.saturating_add(later.read);
        self.absent = self.absent.saturating_add(later.absent);
        self.lost = self.lost.saturating_add(later.lost);
        self.unmapped = self.unmapped.saturating_add(later.unmapped);
        let wanted = later.unmapped_wanted;
        self.unmapped_wanted = self.unmapped_wanted.saturating_add(wanted);
        self.gap_count += later.gap_count;
        let room = Self::MAX_GAPS.saturating_sub(self.gaps.len());
        self.gaps.extend(later.gaps.iter().take(room));
    }
}

/// Reads as much of `buf` as can be read, going on behind every hole.
///
/// Each hole is handed to `hole` as offset and length within `buf` with its fault; its bytes in
/// `buf` are left as they were before the call. Holes are stepped over by the unit of `step` bytes (a
/// power of two, the page size of the memory), aligned. Answers the number of bytes read.
///
/// This is the naive, always correct way to read memory with holes in it; the sweep uses it for the
/// windows in which a plain read fails.
pub fn read_around_holes<A: Address>(
    memory: &dyn Memory<Addr = A>,
    addr: A,
    buf: &mut [u8],
    step: u64,
    mut hole: impl FnMut(usize, usize, Fault<A>),
) -> u64 {
    let mut at = 0;
    let mut total = 0;
    while at < buf.len() {
        let Some(here) = addr.checked_add(at as u64) else {
            break;
        };
        // A failed read leaves the bytes behind the fault unspecified, so read page by page: only
        // whole successful pages are handed out as read.
        let to_border = step - (here.raw() & (step - 1));
        let len = usize::try_from(to_border).map_or(buf.len() - at, |n| n.min(buf.len() - at));
        match memory.read(here, &mut buf[at..at + len]) {
            Ok(()) => total += len as u64,
            Err(fault) => {
                let good = usize::try_from(fault.addr.raw() - here.raw())
                    .unwrap_or(len)
                    .min(len);
                total += good as u64;
                hole(at + good, len - good, fault);
            }
        }
        at += len;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Gva;

    #[test]
    fn prot_round_trips() {
        assert_eq!(Prot::parse("rx"), Some(Prot::R.union(Prot::X)));
        assert_eq!(
            Prot::parse("r-x").map(|p| p.to_string()).as_deref(),
            Some("r-x")
        );
        assert_eq!(Prot::parse("q"), None);
        assert_eq!(Prot::parse("rr"), None);
        assert!(Prot::RWX.contains(Prot::W) && !Prot::RWX.user());
    }

    #[test]
    fn coverage_adds_up() {
        let mut c = Coverage::default();
        c.add_read(0x1000);
        c.add_gap(Gva(0x1000), 0x1000, Cause::Absent { gpa: Gpa(0) });
        c.add_gap(Gva(0x2000), 0x1000, Cause::Absent { gpa: Gpa(0x5000) });
        c.add_gap(Gva(0x9000), 0x1000, Cause::NonCanonical);
        assert_eq!(
            (c.mapped, c.read, c.absent, c.unmapped),
            (0x3000, 0x1000, 0x2000, 0x1000)
        );
        assert_eq!(c.gap_count, 2, "adjacent gaps of one kind are one");
        assert!(!c.is_complete());
    }
}
