//! Reading the kernel's objects.
//!
//! A kernel structure is read in one piece: a [`Planner`] looks up once where the wanted members are,
//! a [`Plan`] knows the range from the first to the last of them, and an [`Object`] is that range of
//! one instance. Reading member by member would cost a page-table walk each.
//!
//! Every pointer comes from the guest. [`link`] says whether it can lead to an object of the kernel at
//! all, before anything is read there, and [`BadLink`] says what is wrong with it otherwise.

use std::fmt;
use std::ops::Range;

use crate::addr::{Address, Gva};
use crate::memory::{Fault, Memory, read_around_holes};
use crate::os::types::{Field, Type, TypeError, TypeId, Types};
use crate::os::{Finding, FindingKind};

/// No plan reads more of an object than this. `task_struct` has some 10 KiB.
const MAX_OBJECT: u64 = 64 << 10;

const PAGE: u64 = 4096;

/// How many findings a listing keeps; of the rest, their number.
const MAX_FINDINGS: usize = 256;

/// Where a member is within its structure, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// Looks up members of one structure, and remembers from where to where they reach.
pub(super) struct Planner<'t> {
    types: &'t Types,
    record: TypeId,
    plan: Option<Plan>,
}

impl<'t> Planner<'t> {
    /// For members of the structure `name`.
    pub(super) fn new(types: &'t Types, name: &str) -> Result<Self, TypeError> {
        Ok(Self {
            types,
            record: types.find(&format!("struct {name}"))?,
            plan: None,
        })
    }

    /// A member that every kernel has.
    pub(super) fn need(&mut self, path: &str) -> Result<Slot, TypeError> {
        let field = self.types.field(self.record, path)?;
        let damaged = TypeError::Damaged(self.record.0);
        let slot = Slot {
            offset: field.offset(),
            // That a member's own type is lost does not keep the member from being read.
            size: match self.types.size_of(field.ty) {
                Ok(size) => size,
                Err(error) => self.room_at(field.offset()).ok_or(error)?,
            },
        };
        let end = slot.offset.checked_add(slot.size);
        let end = end.filter(|&end| end <= MAX_OBJECT).ok_or(damaged)?;
        let (start, end) = match self.plan {
            Some(plan) => (plan.start.min(slot.offset), plan.end.max(end)),
            None => (slot.offset, end),
        };
        self.plan = Some(Plan { start, end });
        Ok(slot)
    }

    /// How many bytes there are from an offset up to the next member, 16 at most.
    fn room_at(&self, offset: u64) -> Option<u64> {
        const MOST: u64 = 16;
        let (_, Type::Record(record)) = self.types.resolve(self.record).ok()? else {
            return None;
        };
        let starts = record.members.iter().map(|member| member.bit_offset / 8);
        let next = starts.filter(|&start| start > offset).min();
        let end = next.unwrap_or(record.size);
        end.checked_sub(offset).map(|room| room.min(MOST))
    }

    /// Where a member starts that kernels have under one of these names. When it is not there, its first
    /// name is added to `lost`. It is not read.
    pub(super) fn offset(&self, paths: &[&str], lost: &mut Vec<String>) -> Option<u64> {
        let found = paths
            .iter()
            .find_map(|path| self.types.field(self.record, path).ok());
        if found.is_none() {
            self.note_lost(paths, lost);
        }
        found.map(Field::offset)
    }

    fn note_lost(&self, paths: &[&str], lost: &mut Vec<String>) {
        let name = self.types.describe(self.record);
        let path = paths.first().copied().unwrap_or_default();
        lost.push(format!("{name}.{path}"));
    }

    /// A member that kernels have under one of these names, or not at all.
    pub(super) fn want(&mut self, paths: &[&str]) -> Option<Slot> {
        paths.iter().find_map(|path| self.need(path).ok())
    }

    /// A member that kernels have under one of these names. When it is not there, its first name is added
    /// to `lost`.
    pub(super) fn ask(&mut self, paths: &[&str], lost: &mut Vec<String>) -> Option<Slot> {
        let slot = self.want(paths);
        if slot.is_none() {
            self.note_lost(paths, lost);
        }
        slot
    }

    /// A member whose place is known otherwise.
    pub(super) fn place(&mut self, offset: u64, size: u64) -> Slot {
        let end = offset.saturating_add(size).min(MAX_OBJECT);
        let slot = Slot { offset, size };
        self.plan = Some(match self.plan {
            Some(plan) => Plan {
                start: plan.start.min(offset),
                end: plan.end.max(end),
            },
            None => Plan { start: offset, end },
        });
        slot
    }

    /// What is to be read of each object.
    pub(super) fn plan(&self) -> Plan {
        self.plan.unwrap_or(Plan { start: 0, end: 0 })
    }
}

/// What is read of each object of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    start: u64,
    end: u64,
}

impl Plan {
    /// Reads the object at `at`.
    pub(super) fn read(
        self,
        memory: &dyn Memory<Addr = Gva>,
        at: Gva,
    ) -> Result<Object, Fault<Gva>> {
        let mut bytes = vec![0; (self.end - self.start) as usize];
        // A wrapping address is not canonical, so reading there fails as it should.
        memory.read(Gva(at.raw().wrapping_add(self.start)), &mut bytes)?;
        Ok(Object {
            at,
            start: self.start,
            bytes,
            absent: Vec::new(),
        })
    }

    /// Reads the object at `at`, around what of it is absent: [`Object::has`] tells which members are there. Also the
    /// first fault, if there was one.
    pub(super) fn read_partly(
        self,
        memory: &dyn Memory<Addr = Gva>,
        at: Gva,
    ) -> (Object, Option<Fault<Gva>>) {
        let mut bytes = vec![0; (self.end - self.start) as usize];
        let from = Gva(at.raw().wrapping_add(self.start));
        let mut absent = Vec::new();
        let mut first = None;
        let len = bytes.len();
        read_around_holes(memory, from, &mut bytes, PAGE, |offset, len, fault| {
            first.get_or_insert(fault);
            absent.push(offset..offset + len);
        });
        if from.raw().checked_add(len as u64).is_none() {
            absent.push(0..len);
        }
        for hole in &absent {
            bytes[hole.clone()].fill(0);
        }
        let object = Object {
            at,
            start: self.start,
            bytes,
            absent,
        };
        (object, first)
    }

    /// Follows a pointer and reads the object there.
    pub(super) fn follow(
        self,
        memory: &dyn Memory<Addr = Gva>,
        pointer: u64,
    ) -> Result<Object, BadLink> {
        let at = link(pointer)?;
        self.read(memory, at)
            .map_err(|fault| BadLink::Fault { pointer, fault })
    }
}

/// The wanted part of one object, as it was when it was read.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// Where it is.
    pub(super) at: Gva,
    start: u64,
    bytes: Vec<u8>,
    /// Parts of `bytes` that could not be read.
    absent: Vec<Range<usize>>,
}

impl Object {
    /// Whether a member could be read.
    pub(super) fn has(&self, slot: Slot) -> bool {
        let from = slot.offset.wrapping_sub(self.start) as usize;
        let to = from.saturating_add(slot.size as usize);
        let overlaps = |hole: &Range<usize>| hole.start < to && from < hole.end;
        !self.absent.iter().any(overlaps)
    }

    /// The bytes of a member; none when the slot is of another plan.
    pub(super) fn bytes(&self, slot: Slot) -> &[u8] {
        let from = slot.offset.wrapping_sub(self.start) as usize;
        let to = from.saturating_add(slot.size as usize);
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// A member as an unsigned number.
    pub(super) fn number(&self, slot: Slot) -> u64 {
        let mut value = [0; 8];
        let bytes = self.bytes(slot);
        let len = bytes.len().min(8);
        value[..len].copy_from_slice(&bytes[..len]);
        u64::from_le_bytes(value)
    }

    /// A member as an unsigned number of 32 bits; what is above them is cut off.
    pub(super) fn number32(&self, slot: Slot) -> u32 {
        self.number(slot) as u32
    }

    /// A member that holds a text up to its first NUL.
    pub(super) fn text(&self, slot: Slot) -> String {
        until_nul(self.bytes(slot))
    }
}

/// The text before the first NUL, with what is not UTF-8 replaced.
pub(super) fn until_nul(bytes: &[u8]) -> String {
    let len = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

/// Reads a NUL-terminated text of at most `limit` bytes; what is longer is cut there.
pub(super) fn read_text(
    memory: &dyn Memory<Addr = Gva>,
    pointer: u64,
    limit: usize,
) -> Result<String, BadLink> {
    const PAGE: usize = 4096;
    let mut bytes = Vec::new();
    let at = kernel_half(pointer)?;
    while bytes.len() < limit {
        // Up to the next page border: what lies behind may not be mapped.
        let here = at.raw().wrapping_add(bytes.len() as u64);
        let len = (PAGE - here as usize % PAGE)
            .min(limit - bytes.len())
            .min(64);
        let old = bytes.len();
        bytes.resize(old + len, 0);
        memory
            .read(Gva(here), &mut bytes[old..])
            .map_err(|fault| BadLink::Fault { pointer, fault })?;
        if bytes[old..].contains(&0) {
            break;
        }
    }
    Ok(until_nul(&bytes))
}

/// A pointer that does not lead to an object of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadLink {
    /// It is null.
    Null,
    /// It leads into the half of the address space that is not the kernel's.
    User(u64),
    /// No object of the kernel can be there.
    Unaligned(u64),
    /// What is there is in use by nobody.
    Unused(u64),
    /// There is nothing there, or it is not known what.
    Fault { pointer: u64, fault: Fault<Gva> },
}

impl BadLink {
    /// How to report it.
    pub(super) fn kind(self) -> FindingKind {
        match self {
            Self::Fault { fault, .. } if !fault.cause.is_unmapped() => FindingKind::Unreadable,
            _ => FindingKind::Damaged,
        }
    }
}

impl fmt::Display for BadLink {
    /// Goes on from "the link", "the pointer": `is null`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("is null"),
            Self::User(pointer) => write!(f, "leads into user memory, to {pointer:#x}"),
            Self::Unaligned(pointer) => write!(f, "leads to {pointer:#x}, which is unaligned"),
            Self::Unused(pointer) => {
                write!(f, "leads to {pointer:#x}, which is in use by nobody")
            }
            Self::Fault { pointer, fault } => {
                write!(f, "leads to {pointer:#x}, which cannot be read: {fault}")
            }
        }
    }
}

/// The object that a pointer leads to. Nothing is read.
pub(super) fn link(pointer: u64) -> Result<Gva, BadLink> {
    let at = kernel_half(pointer)?;
    match pointer % 8 {
        0 => Ok(at),
        _ => Err(BadLink::Unaligned(pointer)),
    }
}

/// The kernel's text or object that a pointer leads to. Nothing is read.
fn kernel_half(pointer: u64) -> Result<Gva, BadLink> {
    match pointer {
        0 => Err(BadLink::Null),
        _ if pointer >> 63 == 0 => Err(BadLink::User(pointer)),
        _ => Ok(Gva(pointer)),
    }
}

/// Collects findings, so that a hostile guest cannot make a million of them.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    dropped: usize,
}

impl Findings {
    pub(super) fn add(&mut self, kind: FindingKind, at: Option<Gva>, text: impl Into<String>) {
        if self.kept.len() == MAX_FINDINGS {
            self.dropped += 1;
            return;
        }
        let text = text.into();
        self.kept.push(Finding { kind, at, text });
    }

    /// Something of `at` that `what` names does not lead anywhere.
    pub(super) fn bad_link(&mut self, bad: BadLink, at: Gva, what: impl fmt::Display) {
        self.add(bad.kind(), Some(at), format!("{what} {bad}"));
    }

    /// How many there are so far.
    pub(super) fn len(&self) -> usize {
        self.kept.len() + self.dropped
    }

    /// Whether something could not be read, going by what came behind the first `len`.
    pub(super) fn unreadable_since(&self, len: usize) -> bool {
        let mut since = self.kept.iter().skip(len);
        since.any(|finding| finding.kind == FindingKind::Unreadable)
    }

    pub(super) fn finish(mut self) -> Vec<Finding> {
        if self.dropped > 0 {
            let text = format!("{} more of these are left out", self.dropped);
            self.kept.push(Finding {
                kind: FindingKind::Limit,
                at: None,
                text,
            });
        }
        self.kept
    }
}
