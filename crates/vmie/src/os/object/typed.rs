//! One object, and its members by name.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::error::{ObjectError, Why};
use super::pointer::{BadLink, address, link, read_bytes, until_nul};
use super::reader::Objects;
use super::route::{Route, Target};
use crate::addr::{Address, Gva, PAGE_SIZE};
use crate::memory::{Fault, read_around_holes};
use crate::os::types::{Type, TypeError, TypeId};

/// The largest object that [`Object::load`] reads in one piece.
const MAX_LOAD: u64 = 64 << 10;

/// How long a text behind a pointer may be. Paths of the kernel's own calls take up to 4096 bytes.
const MAX_TEXT: usize = 4096;

/// How many bytes are read at once.
const MAX_BYTES: u64 = 1 << 20;

/// An address and the type of what is there.
///
/// Members are asked for by path: `pid`, `tasks.next`, `mm.exe_file.f_path.dentry`. A path goes through structures,
/// members without a name, array elements (`fd[3]`) and pointers. Alternatives are separated by `|`, of which the first
/// is taken that this system's types have: `__state | state`. The empty path is the object itself.
///
/// Numbers are read at any width up to eight bytes, and so are structures of that size: what a kernel wraps into one of
/// its own (`kuid_t`, `atomic_t`) is read as what is in it.
///
/// Cost: a read of memory for each pointer on the way and for the member, unless the object was [loaded](Self::load).
#[derive(Clone)]
pub struct Object<'o> {
    objects: &'o Objects<'o>,
    at: Gva,
    ty: TypeId,
    bits: Option<(u32, u32)>,
    copy: Option<Arc<Copy>>,
}

/// The bytes of an object as they were at one moment.
struct Copy {
    start: Gva,
    bytes: Vec<u8>,
    /// Parts that could not be read together with the others.
    holes: Vec<Range<usize>>,
}

impl Copy {
    /// Fills `buf` with what was at `at`; `None` where that is no part of it.
    fn read(&self, at: Gva, buf: &mut [u8]) -> Option<()> {
        let from = usize::try_from(at.raw().checked_sub(self.start.raw())?).ok()?;
        let to = from.checked_add(buf.len())?;
        let bytes = self.bytes.get(from..to)?;
        let overlaps = |hole: &Range<usize>| hole.start < to && from < hole.end;
        if self.holes.iter().any(overlaps) {
            return None;
        }
        buf.copy_from_slice(bytes);
        Some(())
    }
}

impl PartialEq for Object<'_> {
    /// Whether both are of one type and at one place.
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.ty, self.bits) == (other.at, other.ty, other.bits)
    }
}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.type_name(), self.at)
    }
}

impl<'m> Objects<'m> {
    /// What a symbol names, which is of the type `ty`.
    ///
    /// # Errors
    ///
    /// [`Why::NoSymbol`], [`Why::Missing`].
    pub fn object(&self, symbol: &str, ty: &str) -> Result<Object<'_>, ObjectError> {
        self.object_at(self.address_of(symbol)?, ty)
    }

    /// What a pointer variable leads to, which a symbol names; it is of the type `ty`.
    ///
    /// # Errors
    ///
    /// As [`Objects::object`]; [`Why::Unread`], [`Why::Pointer`].
    pub fn behind(&self, symbol: &str, ty: &str) -> Result<Object<'_>, ObjectError> {
        let at = self.address_of(symbol)?;
        let fail = |why| ObjectError::new(symbol, Some(at), "", why);
        let pointer = self.memory().read_u64(at);
        let pointer = pointer.map_err(|fault| fail(Why::Unread(fault)))?;
        let there = address(pointer).map_err(|bad| fail(Why::Pointer(bad)))?;
        self.object_at(there, ty)
    }

    /// The object of the type `ty` at an address. Nothing is read.
    ///
    /// # Errors
    ///
    /// [`Why::Missing`].
    pub fn object_at(&self, at: Gva, ty: &str) -> Result<Object<'_>, ObjectError> {
        let missing = |error| ObjectError::new(ty, Some(at), "", Why::Missing(error));
        let ty = self.type_named(ty).map_err(missing)?;
        Ok(self.typed(at, ty))
    }

    /// A CPU's own copy of the variable that a symbol names.
    ///
    /// # Errors
    ///
    /// As [`Objects::object`]; [`Why::OutOfRange`] when there is no such CPU.
    pub fn per_cpu(&self, symbol: &str, ty: &str, cpu: u32) -> Result<Object<'_>, ObjectError> {
        self.per_cpu_at(self.address_of(symbol)?, ty, cpu)
    }

    /// The same for a variable that a pointer names, such as a member declared `__percpu`.
    ///
    /// # Errors
    ///
    /// As [`Objects::per_cpu`].
    pub fn per_cpu_at(&self, va: Gva, ty: &str, cpu: u32) -> Result<Object<'_>, ObjectError> {
        let fail = |why| ObjectError::new(ty, Some(va), "", why);
        let areas = self.areas().map_err(|bad| fail(Why::Pointer(bad)))?;
        let at = areas.place(va, cpu);
        self.object_at(at.ok_or_else(|| fail(Why::OutOfRange(cpu.into())))?, ty)
    }

    /// The numbers of all CPUs that there may be, ascending; at most 8192.
    ///
    /// # Errors
    ///
    /// [`Why::Pointer`], when the list of them cannot be read.
    pub fn cpus(&self) -> Result<Vec<u32>, ObjectError> {
        let fail = |bad| ObjectError::new("__per_cpu_offset", None, "", Why::Pointer(bad));
        Ok(self.areas().map_err(fail)?.cpus().collect())
    }

    /// The object at an address, of a type that was looked up.
    pub(super) fn typed(&self, at: Gva, ty: TypeId) -> Object<'_> {
        Object {
            objects: self,
            at,
            ty,
            bits: None,
            copy: None,
        }
    }
}

impl<'o> Object<'o> {
    /// Where it is.
    pub fn address(&self) -> Gva {
        self.at
    }

    /// What it is read by.
    pub fn objects(&self) -> &'o Objects<'o> {
        self.objects
    }

    /// Its type's number in [`Objects::types`].
    pub fn type_id(&self) -> TypeId {
        self.ty
    }

    /// Its type for messages, such as `struct task_struct`.
    pub fn type_name(&self) -> String {
        self.objects.types().describe(self.ty)
    }

    /// The same place as an object of another type: what a `void *` leads to, the larger structure that this one is the
    /// beginning of.
    ///
    /// # Errors
    ///
    /// [`Why::Missing`].
    pub fn cast(&self, ty: &str) -> Result<Self, ObjectError> {
        let ty = self.objects.type_named(ty);
        let ty = ty.map_err(|error| self.fail("", Why::Missing(error)))?;
        Ok(Self {
            ty,
            bits: None,
            ..self.clone()
        })
    }

    /// The object of type `ty` of which this one is the member `member`: `container_of`.
    ///
    /// # Errors
    ///
    /// [`Why::Missing`].
    pub fn container_of(&self, ty: &str, member: &str) -> Result<Self, ObjectError> {
        let (ty, offset) = self.objects.container(ty, member)?;
        let at = Gva(self.at.raw().wrapping_sub(offset));
        Ok(self.objects.typed(at, ty))
    }

    /// Whether this system's objects of this kind have such a member. Nothing is read.
    pub fn has(&self, path: &str) -> bool {
        self.objects.route(self.ty, path).is_ok()
    }

    /// The same object with all of its bytes, up to 64 KiB, read at once. What of them cannot be read is
    /// tried again, and an error, when it is asked for. Worth it where several members are wanted, or members that must be of one moment.
    #[must_use]
    pub fn load(&self) -> Self {
        let size = self.size().unwrap_or(0);
        let mut bytes = vec![0; size.min(MAX_LOAD) as usize];
        let mut holes = Vec::new();
        let memory = self.objects.memory();
        read_around_holes(memory, self.at, &mut bytes, PAGE_SIZE, |offset, len, _| {
            holes.push(offset..offset + len);
        });
        // An object cannot reach over the end of all addresses: such a one is read, and refused, member by member.
        let fits = self.at.raw().checked_add(size).is_some();
        Self {
            copy: fits.then(|| {
                Arc::new(Copy {
                    start: self.at,
                    bytes,
                    holes,
                })
            }),
            ..self.clone()
        }
    }

    /// The member that a path leads to, where it stands: of a pointer, the pointer and not what it leads to.
    ///
    /// # Errors
    ///
    /// [`Why::Missing`]; of pointers on the way [`Why::Pointer`] and [`Why::Unread`].
    pub fn place(&self, path: &str) -> Result<Self, ObjectError> {
        if path.is_empty() {
            return Ok(self.clone());
        }
        let route = self.route(path)?;
        let mut here = self.clone();
        for &(offset, target) in &route.pointers {
            let at = here.behind(offset, target);
            here.at = at.map_err(|why| self.fail(path, why))?;
            here.copy = None;
        }
        Ok(Self {
            at: Gva(here.at.raw().wrapping_add(route.offset)),
            ty: route.ty,
            bits: route.bits,
            ..here
        })
    }

    /// The object that a path leads to: a member, or what it points to where it is a pointer.
    ///
    /// # Errors
    ///
    /// As [`Object::place`]. A null pointer is an error, too: see [`Known::unless_null`](super::Known::unless_null).
    pub fn at(&self, path: &str) -> Result<Self, ObjectError> {
        let place = self.place(path)?;
        match self.route(path)?.target {
            Some(target) => {
                let at = place.behind(0, target);
                let at = at.map_err(|why| self.fail(path, why))?;
                Ok(self.objects.typed(at, target.ty))
            }
            None => Ok(place),
        }
    }

    /// The same, as an object of another type: for pointers to `void`, and for links to a structure within a larger one.
    ///
    /// # Errors
    ///
    /// As [`Object::at`] and [`Object::cast`].
    pub fn at_as(&self, path: &str, ty: &str) -> Result<Self, ObjectError> {
        self.at(path)?.cast(ty)
    }

    /// An element of the array that this is, or points to, or begins: a symbol names the first element of its array.
    /// Where a length is declared, an index beyond the last is an error.
    ///
    /// # Errors
    ///
    /// [`Why::OutOfRange`], [`Why::Missing`]; for pointers, as [`Object::at`].
    pub fn element(&self, index: u64) -> Result<Self, ObjectError> {
        let types = self.objects.types();
        let missing = |error| self.fail("", Why::Missing(error));
        let (start, element) = match types.resolve(self.ty).map_err(missing)?.1 {
            Type::Array { count, .. } if count != 0 && index >= count => {
                return Err(self.fail("", Why::OutOfRange(index)));
            }
            Type::Array { element, .. } => (self.clone(), element),
            Type::Pointer { target, .. } => (self.at("")?, target),
            _ => (self.clone(), self.ty),
        };
        let size = self
            .objects
            .typed(self.at, element)
            .size()
            .map_err(missing)?;
        let distance = size.checked_mul(index);
        let distance = distance.ok_or_else(|| self.fail("", Why::OutOfRange(index)))?;
        Ok(Self {
            at: Gva(start.at.raw().wrapping_add(distance)),
            ty: element,
            bits: None,
            ..start
        })
    }

    /// How many elements the array at a path is declared to have; 0 for one that ends its structure.
    ///
    /// # Errors
    ///
    /// [`Why::Missing`]; [`Why::Mistyped`] when it is no array.
    pub fn declared_len(&self, path: &str) -> Result<u64, ObjectError> {
        let route = self.route(path)?;
        match self.objects.types().resolve(route.ty) {
            Ok((_, Type::Array { count, .. })) => Ok(count),
            Ok(_) => Err(self.fail(path, Why::Mistyped("no array".into()))),
            Err(error) => Err(self.fail(path, Why::Missing(error))),
        }
    }

    /// A number, its sign taken for a bit like others.
    ///
    /// # Errors
    ///
    /// As [`Object::place`]; [`Why::Unread`]; [`Why::Mistyped`] for what has more than eight bytes, or none.
    pub fn u64(&self, path: &str) -> Result<u64, ObjectError> {
        Ok(self.number(path)?.0)
    }

    /// A number that fits into 32 bits.
    ///
    /// # Errors
    ///
    /// As [`Object::u64`]; [`Why::OutOfRange`].
    pub fn u32(&self, path: &str) -> Result<u32, ObjectError> {
        self.fitting(path)
    }

    /// A number that fits into 16 bits.
    ///
    /// # Errors
    ///
    /// As [`Object::u32`].
    pub fn u16(&self, path: &str) -> Result<u16, ObjectError> {
        self.fitting(path)
    }

    /// A number that fits into a byte.
    ///
    /// # Errors
    ///
    /// As [`Object::u32`].
    pub fn u8(&self, path: &str) -> Result<u8, ObjectError> {
        self.fitting(path)
    }

    /// Whether a number is not zero.
    ///
    /// # Errors
    ///
    /// As [`Object::u64`].
    pub fn bool(&self, path: &str) -> Result<bool, ObjectError> {
        Ok(self.u64(path)? != 0)
    }

    /// A number with a sign, which is the highest of its bits.
    ///
    /// # Errors
    ///
    /// As [`Object::u64`].
    pub fn i64(&self, path: &str) -> Result<i64, ObjectError> {
        let (value, bits) = self.number(path)?;
        let unused = 64 - bits.clamp(1, 64);
        Ok((value << unused).cast_signed() >> unused)
    }

    /// The same, where it fits into 32 bits.
    ///
    /// # Errors
    ///
    /// As [`Object::u32`].
    pub fn i32(&self, path: &str) -> Result<i32, ObjectError> {
        let value = self.i64(path)?;
        i32::try_from(value).map_err(|_| self.fail(path, Why::OutOfRange(value.cast_unsigned())))
    }

    /// A pointer as it stands there, null included. Nothing is read where it leads.
    ///
    /// # Errors
    ///
    /// As [`Object::u64`].
    pub fn pointer(&self, path: &str) -> Result<Gva, ObjectError> {
        self.u64(path).map(Gva)
    }

    /// A text up to its first NUL: of an array of characters, or behind a pointer, there up to 4096 bytes. What is not
    /// UTF-8 is replaced; see [`Object::raw_text`].
    ///
    /// # Errors
    ///
    /// As [`Object::at`]; [`Why::Unread`].
    pub fn text(&self, path: &str) -> Result<String, ObjectError> {
        let bytes = self.raw_text(path)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The bytes of a text up to its first NUL, as [`Object::text`].
    ///
    /// # Errors
    ///
    /// As [`Object::text`].
    pub fn raw_text(&self, path: &str) -> Result<Vec<u8>, ObjectError> {
        let place = self.place(path)?;
        let fail = |why| self.fail(path, why);
        let missing = |error| fail(Why::Missing(error));
        let types = self.objects.types();
        match types.resolve(place.ty).map_err(missing)?.1 {
            Type::Array { count, .. } if count != 0 => {
                let size = types.size_of(place.ty).map_err(missing)?;
                let mut bytes = place.bytes_here(size).map_err(fail)?;
                bytes.truncate(until_nul(&bytes).len());
                Ok(bytes)
            }
            found => {
                let at = match found {
                    Type::Pointer { .. } => place.word(0).map_err(fail)?,
                    Type::Array { .. } => place.at.raw(),
                    _ => return Err(fail(Why::Mistyped("no text".into()))),
                };
                read_bytes(self.objects.memory(), at, MAX_TEXT)
                    .map_err(|bad| fail(Why::Pointer(bad)))
            }
        }
    }

    /// `len` bytes from where a path leads on, through a pointer where it ends with one.
    ///
    /// # Errors
    ///
    /// As [`Object::at`]; [`Why::Unread`]; [`Why::TooLong`] beyond 1 MiB.
    pub fn bytes(&self, path: &str, len: u64) -> Result<Vec<u8>, ObjectError> {
        let at = self.at(path)?;
        at.bytes_here(len).map_err(|why| self.fail(path, why))
    }

    fn bytes_here(&self, len: u64) -> Result<Vec<u8>, Why> {
        if len > MAX_BYTES {
            return Err(Why::TooLong(len));
        }
        let mut bytes = vec![0; len as usize];
        self.read(self.at, &mut bytes).map_err(Why::Unread)?;
        Ok(bytes)
    }

    /// A number, and how many bits it has.
    fn number(&self, path: &str) -> Result<(u64, u32), ObjectError> {
        let place = self.place(path)?;
        let fail = |why| self.fail(path, why);
        let (shift, width) = match place.bits {
            Some(bits) => bits,
            None => {
                let size = place.size();
                let size = size.map_err(|error| fail(Why::Missing(error)))?;
                match size {
                    1..=8 => (0, size as u32 * 8),
                    0 => return Err(fail(Why::Mistyped("no number".into()))),
                    _ => {
                        let what = format!("{size} bytes long and no number");
                        return Err(fail(Why::Mistyped(what)));
                    }
                }
            }
        };
        let end = shift.saturating_add(width);
        if width == 0 || width > 64 || end > 71 {
            return Err(fail(Why::Mistyped(format!("a field of {width} bits"))));
        }
        let mut bytes = [0; 16];
        let read = place.read(place.at, &mut bytes[..end.div_ceil(8) as usize]);
        read.map_err(|fault| fail(Why::Unread(fault)))?;
        let value = u128::from_le_bytes(bytes) >> shift & (u128::MAX >> (128 - width));
        Ok((value as u64, width))
    }

    fn fitting<T: TryFrom<u64>>(&self, path: &str) -> Result<T, ObjectError> {
        let value = self.u64(path)?;
        T::try_from(value).map_err(|_| self.fail(path, Why::OutOfRange(value)))
    }

    /// Bytes that it takes, by its type.
    ///
    /// # Errors
    ///
    /// [`Why::Missing`].
    pub fn byte_len(&self) -> Result<u64, ObjectError> {
        let size = self.size();
        size.map_err(|error| self.fail("", Why::Missing(error)))
    }

    /// Bytes that it takes.
    pub(super) fn size(&self) -> Result<u64, TypeError> {
        self.objects.route(self.ty, "")?.size.clone()
    }

    /// Where a path leads, by types.
    fn route(&self, path: &str) -> Result<Arc<Route>, ObjectError> {
        let route = self.objects.route(self.ty, path);
        route.map_err(|error| self.fail(path, Why::Missing(error)))
    }

    /// The eight bytes so far behind its start.
    fn word(&self, offset: u64) -> Result<u64, Why> {
        let mut bytes = [0; 8];
        let at = Gva(self.at.raw().wrapping_add(offset));
        self.read(at, &mut bytes).map_err(Why::Unread)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Where the pointer leads that stands so far behind its start.
    fn behind(&self, offset: u64, target: Target) -> Result<Gva, Why> {
        let pointer = self.word(offset)?;
        let at = match target.aligned {
            true => link(pointer),
            false => address(pointer),
        };
        at.map_err(Why::Pointer)
    }

    fn read(&self, at: Gva, buf: &mut [u8]) -> Result<(), Fault<Gva>> {
        match self.copy.as_ref().and_then(|copy| copy.read(at, buf)) {
            Some(()) => Ok(()),
            None => self.objects.memory().read(at, buf),
        }
    }

    /// That what a member leads to is bad.
    pub(crate) fn bad_link(&self, path: &str, bad: BadLink) -> ObjectError {
        self.fail(path, Why::Pointer(bad))
    }

    /// What is wrong with a member of it.
    pub(super) fn fail(&self, path: &str, why: Why) -> ObjectError {
        ObjectError::new(self.type_name(), Some(self.at), path, why)
    }
}

impl Objects<'_> {
    /// A type and where in it a member is, through no pointer.
    pub(super) fn container(&self, ty: &str, member: &str) -> Result<(TypeId, u64), ObjectError> {
        let missing = |error| ObjectError::new(ty, None, member, Why::Missing(error));
        let id = self.type_named(ty).map_err(missing)?;
        let route = self.route(id, member).map_err(missing)?;
        match route.pointers.is_empty() {
            true => Ok((id, route.offset)),
            false => Err(missing(TypeError::BadPath {
                path: member.to_owned(),
                why: "it leads out of the object",
            })),
        }
    }
}
