//! Which members of a structure are read, and the part of an object that has them.
//!
//! A structure of which many instances are looked at is read in one piece: a [`Planner`] looks up once where the
//! wanted members are, a [`Plan`] knows the range from the first to the last of them, and a [`Part`] is that range of
//! one instance. Reading member by member would cost a page-table walk each.

use std::ops::Range;

use super::pointer::{BadLink, link, until_nul};
use crate::addr::{Address, Gva, PAGE_SIZE};
use crate::memory::{Fault, Memory, read_around_holes};
use crate::os::types::{Field, Type, TypeError, TypeId, Types};

/// No plan reads more of an object than this. `task_struct` has some 10 KiB.
const MAX_OBJECT: u64 = 64 << 10;

/// Where a member is within its structure, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// From the start of the structure.
    pub offset: u64,
    /// How many.
    pub size: u64,
}

/// Looks up members of one structure, and remembers from where to where they reach.
pub struct Planner<'t> {
    types: &'t Types,
    record: TypeId,
    plan: Option<Plan>,
}

impl<'t> Planner<'t> {
    /// For members of the structure `name`.
    ///
    /// # Errors
    ///
    /// [`TypeError::NoType`].
    pub fn new(types: &'t Types, name: &str) -> Result<Self, TypeError> {
        Ok(Self {
            types,
            record: types.find(&format!("struct {name}"))?,
            plan: None,
        })
    }

    /// A member that every version of the system has.
    ///
    /// # Errors
    ///
    /// As [`Types::field`].
    pub fn need(&mut self, path: &str) -> Result<Slot, TypeError> {
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
    pub fn offset(&self, paths: &[&str], lost: &mut Vec<String>) -> Option<u64> {
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

    /// A member that versions of the system have under one of these names, or not at all.
    pub fn want(&mut self, paths: &[&str]) -> Option<Slot> {
        paths.iter().find_map(|path| self.need(path).ok())
    }

    /// A member that kernels have under one of these names. When it is not there, its first name is added
    /// to `lost`.
    pub fn ask(&mut self, paths: &[&str], lost: &mut Vec<String>) -> Option<Slot> {
        let slot = self.want(paths);
        if slot.is_none() {
            self.note_lost(paths, lost);
        }
        slot
    }

    /// A member whose place is known otherwise.
    pub fn place(&mut self, offset: u64, size: u64) -> Slot {
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
    pub fn plan(&self) -> Plan {
        self.plan.unwrap_or(Plan { start: 0, end: 0 })
    }
}

/// What is read of each object of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    start: u64,
    end: u64,
}

impl Plan {
    /// Reads the object at `at`.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, and why.
    pub fn read(self, memory: &dyn Memory<Addr = Gva>, at: Gva) -> Result<Part, Fault<Gva>> {
        let mut bytes = vec![0; (self.end - self.start) as usize];
        // A wrapping address is not canonical, so reading there fails as it should.
        memory.read(Gva(at.raw().wrapping_add(self.start)), &mut bytes)?;
        Ok(Part {
            at,
            start: self.start,
            bytes,
            absent: Vec::new(),
        })
    }

    /// Reads the object at `at`, around what of it is absent: [`Part::has`] tells which members are there. Also the
    /// first fault, if there was one.
    pub fn read_partly(
        self,
        memory: &dyn Memory<Addr = Gva>,
        at: Gva,
    ) -> (Part, Option<Fault<Gva>>) {
        let mut bytes = vec![0; (self.end - self.start) as usize];
        let from = Gva(at.raw().wrapping_add(self.start));
        let mut absent = Vec::new();
        let mut first = None;
        let len = bytes.len();
        read_around_holes(memory, from, &mut bytes, PAGE_SIZE, |offset, len, fault| {
            first.get_or_insert(fault);
            absent.push(offset..offset + len);
        });
        if from.raw().checked_add(len as u64).is_none() {
            absent.push(0..len);
        }
        for hole in &absent {
            bytes[hole.clone()].fill(0);
        }
        let object = Part {
            at,
            start: self.start,
            bytes,
            absent,
        };
        (object, first)
    }

    /// Follows a pointer and reads the object there.
    ///
    /// # Errors
    ///
    /// When it leads to no object, or to one that cannot be read.
    pub fn follow(self, memory: &dyn Memory<Addr = Gva>, pointer: u64) -> Result<Part, BadLink> {
        let at = link(pointer)?;
        self.read(memory, at)
            .map_err(|fault| BadLink::Fault { pointer, fault })
    }
}

/// The wanted part of one object, as it was when it was read.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where it is.
    pub at: Gva,
    start: u64,
    bytes: Vec<u8>,
    /// Parts of `bytes` that could not be read.
    absent: Vec<Range<usize>>,
}

impl Part {
    /// Whether a member could be read.
    pub fn has(&self, slot: Slot) -> bool {
        let from = slot.offset.wrapping_sub(self.start) as usize;
        let to = from.saturating_add(slot.size as usize);
        let overlaps = |hole: &Range<usize>| hole.start < to && from < hole.end;
        !self.absent.iter().any(overlaps)
    }

    /// The bytes of a member; none when the slot is of another plan.
    pub fn bytes(&self, slot: Slot) -> &[u8] {
        let from = slot.offset.wrapping_sub(self.start) as usize;
        let to = from.saturating_add(slot.size as usize);
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// A member as an unsigned number.
    pub fn number(&self, slot: Slot) -> u64 {
        let mut value = [0; 8];
        let bytes = self.bytes(slot);
        let len = bytes.len().min(8);
        value[..len].copy_from_slice(&bytes[..len]);
        u64::from_le_bytes(value)
    }

    /// A member as an unsigned number of 32 bits; what is above them is cut off.
    pub fn number32(&self, slot: Slot) -> u32 {
        self.number(slot) as u32
    }

    /// A member that holds a text up to its first NUL.
    pub fn text(&self, slot: Slot) -> String {
        until_nul(self.bytes(slot))
    }
}
