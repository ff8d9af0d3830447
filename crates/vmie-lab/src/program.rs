//! What a guest program states about itself; the form is described in `xtask/guest/lab.h`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::{Error, read_text};

/// One program's statements. All hold from its `ready` on, so also in the images.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Program {
    /// Its name, `objects-static` for instance.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Processes (it, and children of its) that can be caught on a CPU in user mode.
    pub busy: Vec<u32>,
    /// Addresses of functions and variables, by the names they have in the ELF file.
    pub symbols: BTreeMap<String, u64>,
    /// Values that do not change.
    pub values: Vec<Value>,
    /// Values that change at every tick and never go down.
    pub ticks: Vec<Tick>,
    /// How objects are reached from a static pointer.
    pub paths: Vec<PointerPath>,
    /// Sizes of classes in bytes.
    pub sizes: BTreeMap<String, u64>,
    /// What the first qword of each class's instances holds.
    pub vtables: BTreeMap<String, u64>,
    /// Mappings that the program made for a purpose.
    pub areas: Vec<Area>,
    /// Anything else, for people.
    pub notes: Vec<String>,
}

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// Unsigned integers.
    U8,
    /// 16 bits.
    U16,
    /// 32 bits.
    U32,
    /// 64 bits.
    U64,
    /// Signed integers.
    I32,
    /// 64 bits.
    I64,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// A pointer.
    Ptr,
    /// A pointer in a 32-bit program.
    Ptr32,
    /// Text of one-byte characters (ASCII, or UTF-8), without terminator.
    Ascii,
    /// UTF-16LE text, without terminator.
    Utf16,
}

/// A constant value at an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// What it is called: `player.health`.
    pub name: String,
    /// Virtual address.
    pub va: u64,
    /// Its type.
    pub ty: Type,
    /// Its bytes in memory.
    pub bytes: Vec<u8>,
}

/// A changing value at an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tick {
    /// What it is called: `world.ticks`.
    pub name: String,
    /// Virtual address.
    pub va: u64,
    /// Its type.
    pub ty: Type,
}

/// A chain of pointers: start at `base`; for each offset load the pointer there and add the offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PointerPath {
    /// What it is called.
    pub name: String,
    /// Address of the static pointer.
    pub base: u64,
    /// Offsets.
    pub offsets: Vec<u64>,
    /// Where it ends.
    pub target: u64,
}

/// A mapping with a purpose, named in `crowd.cpp` or `resident.cpp`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Area {
    /// Its name there.
    pub name: String,
    /// First virtual address.
    pub va: u64,
    /// Length in bytes.
    pub len: u64,
}

impl Area {
    /// Whether a page of it begins at this address.
    pub fn contains(&self, va: u64) -> bool {
        (self.va..self.va + self.len).contains(&va)
    }

    /// Whether its pages begin with its name and their number, as those whose names are in capitals do.
    pub fn is_marked(&self) -> bool {
        self.name
            .starts_with(|letter: char| letter.is_ascii_uppercase())
    }

    /// Where each marker is, and its text.
    pub fn markers(&self) -> impl Iterator<Item = (u64, String)> {
        let step = if self.len < 1 << 30 { 1 } else { 64 };
        let pages = (0..self.len / 4096).step_by(step);
        pages.map(|page| {
            (
                self.va + page * 4096,
                format!("{}-{page:05}-marker", self.name),
            )
        })
    }
}

impl Type {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "u8" => Self::U8,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "u64" => Self::U64,
            "i32" => Self::I32,
            "i64" => Self::I64,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "ptr" => Self::Ptr,
            "ptr32" => Self::Ptr32,
            "ascii" => Self::Ascii,
            "utf16" => Self::Utf16,
            _ => return None,
        })
    }

    /// The bytes that a value of this type, written as text, has in memory.
    fn bytes(self, text: &str) -> Option<Vec<u8>> {
        Some(match self {
            Self::U8 => vec![text.parse().ok()?],
            Self::U16 => text.parse::<u16>().ok()?.to_le_bytes().to_vec(),
            Self::U32 => text.parse::<u32>().ok()?.to_le_bytes().to_vec(),
            Self::U64 => text.parse::<u64>().ok()?.to_le_bytes().to_vec(),
            Self::I32 => text.parse::<i32>().ok()?.to_le_bytes().to_vec(),
            Self::I64 => text.parse::<i64>().ok()?.to_le_bytes().to_vec(),
            Self::F32 => text.parse::<f32>().ok()?.to_le_bytes().to_vec(),
            Self::F64 => text.parse::<f64>().ok()?.to_le_bytes().to_vec(),
            Self::Ptr => address(text)?.to_le_bytes().to_vec(),
            Self::Ptr32 => u32::try_from(address(text)?).ok()?.to_le_bytes().to_vec(),
            Self::Ascii | Self::Utf16 => text
                .as_bytes()
                .chunks(2)
                .map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok())
                .collect::<Option<_>>()?,
        })
    }
}

/// `0x1234`, or what C prints for a null pointer.
fn address(text: &str) -> Option<u64> {
    if text == "(nil)" {
        return Some(0);
    }
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

impl Program {
    pub(crate) fn load_all(dir: &Path) -> Result<Vec<Self>, Error> {
        let mut programs = Vec::new();
        for entry in fs::read_dir(dir).map_err(|error| Error::new(dir, error))? {
            let path = entry.map_err(|error| Error::new(dir, error))?.path();
            programs.push(Self::parse(&read_text(&path)?).map_err(|what| Error::new(&path, what))?);
        }
        programs.sort_by_key(|program| program.pid);
        Ok(programs)
    }

    /// Reads a program's statements.
    ///
    /// # Errors
    ///
    /// The first line that is not understood, or that `ready` is missing at the end.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut program = Self::default();
        let mut ready = false;
        for line in text.lines() {
            if ready {
                return Err(format!("{line:?} after `ready`"));
            }
            ready = line == "ready";
            if !ready && program.statement(line).is_none() {
                return Err(format!("not a statement: {line:?}"));
            }
        }
        if ready {
            Ok(program)
        } else {
            Err("no `ready` at the end".to_owned())
        }
    }

    fn statement(&mut self, line: &str) -> Option<()> {
        let (what, rest) = line.split_once(' ')?;
        let words: Vec<&str> = rest.split(' ').collect();
        match (what, words.as_slice()) {
            ("program", [name]) => (*name).clone_into(&mut self.name),
            ("pid", [pid]) => self.pid = pid.parse().ok()?,
            ("busy", [pid]) => self.busy.push(pid.parse().ok()?),
            ("symbol", [name, at]) => {
                self.symbols.insert((*name).to_owned(), address(at)?);
            }
            ("size", [class, size]) => {
                self.sizes.insert((*class).to_owned(), size.parse().ok()?);
            }
            ("vtable", [class, at]) => {
                self.vtables.insert((*class).to_owned(), address(at)?);
            }
            ("value", [name, at, ty, value @ ..]) => {
                let ty = Type::parse(ty)?;
                self.values.push(Value {
                    name: (*name).to_owned(),
                    va: address(at)?,
                    ty,
                    bytes: ty.bytes(value.first().unwrap_or(&""))?,
                });
            }
            ("tick", [name, at, ty]) => self.ticks.push(Tick {
                name: (*name).to_owned(),
                va: address(at)?,
                ty: Type::parse(ty)?,
            }),
            ("path", [name, base, offsets, target]) => self.paths.push(PointerPath {
                name: (*name).to_owned(),
                base: address(base)?,
                offsets: offsets.split(',').map(address).collect::<Option<_>>()?,
                target: address(target)?,
            }),
            ("area", [name, at, len]) => self.areas.push(Area {
                name: (*name).to_owned(),
                va: address(at)?,
                len: address(len)?,
            }),
            ("note", _) => self.notes.push(rest.to_owned()),
            _ => return None,
        }
        Some(())
    }

    /// A value by its name.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|value| value.name == name)
    }

    /// A mapping by its name.
    pub fn area(&self, name: &str) -> Option<&Area> {
        self.areas.iter().find(|area| area.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements() {
        let program = Program::parse(
            "program p\npid 7\nsymbol main 0x401000\nvalue a 0x10 f32 0.100000001\n\
             value b 0x20 ascii 4164c3a4\nvalue empty 0x30 ascii \nvalue null 0x40 ptr (nil)\n\
             value narrow 0x48 ptr32 0x804b020\n\
             path x 0x10 0x18,0 0x99\narea hole 0x1000 0x2000\nnote any thing\nready\n",
        )
        .expect("valid");
        assert_eq!(program.pid, 7);
        assert_eq!(program.symbols["main"], 0x40_1000);
        assert_eq!(
            program.value("a").map(|v| v.bytes.clone()),
            Some(0.1_f32.to_le_bytes().to_vec())
        );
        assert_eq!(
            program.value("b").map(|v| v.bytes.clone()),
            Some("Adä".as_bytes().to_vec())
        );
        assert_eq!(
            program.value("narrow").map(|v| v.bytes.clone()),
            Some(vec![0x20, 0xb0, 4, 8])
        );
        assert_eq!(program.value("empty").map(|v| v.bytes.len()), Some(0));
        assert_eq!(program.paths[0].offsets, [0x18, 0]);
        assert_eq!(program.notes, ["any thing"]);
    }

    #[test]
    fn half_a_file_is_refused() {
        assert!(Program::parse("program p\npid 7\n").is_err());
        assert!(Program::parse("value a 0x10 u99 1\nready\n").is_err());
    }
}
