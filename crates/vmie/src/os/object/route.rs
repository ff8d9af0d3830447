//! Where a path of members leads, going by types alone.
//!
//! A path such as `mm.exe_file.f_path.dentry` becomes a few distances: add one, read a pointer, add the next. It is
//! looked up once for each type and path, and then costs a read for each pointer on the way.

use crate::os::types::{Part, PathParts, Type, TypeError, TypeId, Types};

/// How many pointers one path may go through.
const MAX_POINTERS: usize = 16;

/// How deep, and at how many members of each structure, is looked for one of eight bytes.
const MAX_DEPTH: usize = 3;
const MAX_LOOKED_AT: usize = 16;

/// A path, looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Route {
    /// The pointers on the way: how far behind the start of the object it is in each stands, and what is there.
    pub(super) pointers: Vec<(u64, Target)>,
    /// How far behind the start of the last object the member stands.
    pub(super) offset: u64,
    /// The member's type.
    pub(super) ty: TypeId,
    /// Of a bit-field: how far from the lowest bit it starts, and its width.
    pub(super) bits: Option<(u32, u32)>,
    /// Of a pointer: what it leads to.
    pub(super) target: Option<Target>,
    /// Bytes that the member takes.
    pub(super) size: Result<u64, TypeError>,
}

/// What a pointer leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub(super) ty: TypeId,
    /// Whether something of eight bytes is in it, so that nothing of the kind is elsewhere than at multiples of eight.
    pub(super) aligned: bool,
}

impl Route {
    /// Looks up `path` from a type on. Of alternatives, which are separated by `|`, it is the first that exists.
    pub(super) fn find(types: &Types, from: TypeId, path: &str) -> Result<Self, TypeError> {
        let mut first = None;
        for path in path.split('|') {
            match Self::one(types, from, path.trim()) {
                Ok(route) => return Ok(route),
                Err(error) => first.get_or_insert(error),
            };
        }
        Err(first.unwrap_or(TypeError::Damaged(from.0)))
    }

    fn one(types: &Types, from: TypeId, path: &str) -> Result<Self, TypeError> {
        let mut route = Self {
            pointers: Vec::new(),
            offset: 0,
            ty: from,
            bits: None,
            target: None,
            size: Ok(0),
        };
        for part in PathParts::new(path) {
            let part = part?;
            if let (at, Type::Pointer { target, .. }) = types.resolve(route.ty)? {
                if route.pointers.len() == MAX_POINTERS {
                    return Err(TypeError::Damaged(at.0));
                }
                route
                    .pointers
                    .push((route.offset, Target::new(types, target)));
                route.offset = 0;
                route.ty = target;
                if let Part::Element(index) = part {
                    route.element(types, target, index)?;
                    continue;
                }
            }
            match part {
                Part::Member(name) => {
                    let field = types.field(route.ty, name)?;
                    route.add(field.offset())?;
                    route.bits = field
                        .bit_size
                        .map(|width| ((field.bit_offset % 8) as u32, width));
                    route.ty = field.ty;
                }
                Part::Element(index) => match types.resolve(route.ty)? {
                    (_, Type::Array { element, .. }) => route.element(types, element, index)?,
                    _ => return Err(TypeError::NoRecord(types.describe(route.ty))),
                },
            }
        }
        // Old BTF says with the integer which bits of it count.
        if route.bits.is_none()
            && let Type::Int { bits, size, .. } = types.resolve(route.ty)?.1
            && let Some((offset, width)) = bits
            && u64::from(width) < size.saturating_mul(8)
        {
            route.add(u64::from(offset / 8))?;
            route.bits = Some((offset % 8, width));
        }
        if let Type::Pointer { target, .. } = types.resolve(route.ty)?.1 {
            route.target = Some(Target::new(types, target));
        }
        route.size = types.size_of(route.ty);
        Ok(route)
    }

    fn add(&mut self, offset: u64) -> Result<(), TypeError> {
        let sum = self.offset.checked_add(offset);
        self.offset = sum.ok_or(TypeError::Damaged(self.ty.0))?;
        Ok(())
    }

    fn element(&mut self, types: &Types, element: TypeId, index: u64) -> Result<(), TypeError> {
        let size = match index {
            0 => 0,
            _ => types.size_of(element)?,
        };
        let distance = size.checked_mul(index);
        self.add(distance.ok_or(TypeError::Damaged(element.0))?)?;
        self.ty = element;
        self.bits = None;
        Ok(())
    }
}

impl Target {
    fn new(types: &Types, ty: TypeId) -> Self {
        Self {
            ty,
            aligned: holds_eight_bytes(types, ty, MAX_DEPTH),
        }
    }
}

/// Whether a structure has a member of eight bytes, within so many levels.
fn holds_eight_bytes(types: &Types, ty: TypeId, depth: usize) -> bool {
    match types.resolve(ty) {
        Ok((_, Type::Pointer { size: 8, .. } | Type::Int { size: 8, .. })) => true,
        Ok((_, Type::Record(record))) if depth > 0 => record
            .members
            .iter()
            .filter(|member| member.bit_size.is_none() && member.bit_offset.is_multiple_of(64))
            .take(MAX_LOOKED_AT)
            .any(|member| holds_eight_bytes(types, member.ty, depth - 1)),
        _ => false,
    }
}
