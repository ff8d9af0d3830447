//! A small program placed into an address space: code, strings, a static pointer, objects.
//!
//! It is the shape of every C++ program one looks into: a pointer in the data section leads to a root
//! object, which leads to a linked list of objects with a vtable each, which lead to further objects
//! and back; code refers to all of that relative to the instruction pointer. All addresses and values
//! are returned, so scans, references, pointer paths and dissection can be tested against them.
//!
//! The program is a toy space station: a [`World`] with a list of [`Ship`]s, each with [`Cargo`].

mod build;
#[cfg(test)]
mod tests;

use super::asm::CodeRef;
use super::entry::Paging;
use super::machine::Machine;
use super::space::Space;
use super::truth::VaRange;
use build::Builder;

/// How a linked list ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListEnd {
    /// With a null pointer.
    Null,
    /// With a link back to the first item.
    Ring,
    /// With an item that links to itself.
    SelfLoop,
}

/// Where a program is put and what it looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgramPlan {
    /// Start of the image: code, constants, data. A page border, 6 pages.
    pub base: u64,
    /// Start of the heap, a page border; a page for every four ships, at least one.
    pub heap: u64,
    /// Start of the stack, a page border, 2 pages.
    pub stack: u64,
    /// Number of ships, 1 to 20.
    pub ships: u64,
    /// How the list of ships ends.
    pub end: ListEnd,
}

impl Default for ProgramPlan {
    /// Eight ships, at addresses such as a 64-bit system chooses.
    fn default() -> Self {
        Self {
            base: 0x5581_4a20_0000,
            heap: 0x5581_4b7c_3000,
            stack: 0x7ffd_3c5e_0000,
            ships: 8,
            end: ListEnd::Null,
        }
    }
}

/// A function of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// First byte.
    pub va: u64,
    /// Bytes.
    pub len: u64,
}

/// How text is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// One byte a character.
    Ascii,
    /// Little-endian UTF-16.
    Utf16,
}

/// Text in memory, ended by a null character.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    /// First byte.
    pub va: u64,
    /// How it is stored.
    pub encoding: Encoding,
    /// The text.
    pub text: String,
}

impl Text {
    /// The bytes in memory, without the null character.
    pub fn bytes(&self) -> Vec<u8> {
        match self.encoding {
            Encoding::Ascii => self.text.bytes().collect(),
            Encoding::Utf16 => self
                .text
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect(),
        }
    }
}

/// A qword in memory that holds an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Pointer {
    /// Where the qword is.
    pub at: u64,
    /// The address in it.
    pub to: u64,
}

/// The root object: 0x40 bytes.
///
/// `+00 vtable, +08 u32 count, +10 first ship, +18 table of ships, +20 title, +28 f64 time`
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct World {
    /// Address of the object.
    pub va: u64,
    /// Number of ships.
    pub count: u32,
    /// An array of pointers to the ships.
    pub table: u64,
    /// ASCII text.
    pub title: u64,
    /// Seconds.
    pub time: f64,
}

/// An item of the list: 0x60 bytes.
///
/// `+00 vtable, +08 u32 id, +0c u32 flags, +10 name, +18 f32 health, +1c f32 shield,
/// +20 f64 position[3], +38 next, +40 cargo, +48 captain, +50 u8 docked, +52 u16 crew`
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ship {
    /// Address of the object.
    pub va: u64,
    /// A number of its own.
    pub id: u32,
    /// ASCII text among the constants.
    pub name: u64,
    /// Hit points.
    pub health: f32,
    /// Shield points.
    pub shield: f32,
    /// Coordinates.
    pub position: [f64; 3],
    /// The next ship; 0 behind the last one, unless the plan says otherwise.
    pub next: u64,
    /// Its cargo.
    pub cargo: u64,
    /// UTF-16 text on the heap.
    pub captain: u64,
    /// Whether it is docked.
    pub docked: bool,
    /// People on board.
    pub crew: u16,
}

/// What a ship carries: 0x28 bytes.
///
/// `+00 vtable, +08 u32 id, +10 f64 price, +18 owner (a ship), +20 i64 balance`
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cargo {
    /// Address of the object.
    pub va: u64,
    /// A number of its own.
    pub id: u32,
    /// Price.
    pub price: f64,
    /// The ship that carries it.
    pub owner: u64,
    /// May be negative.
    pub balance: i64,
}

/// A program in memory. All addresses are virtual.
#[derive(Clone, PartialEq, Debug)]
pub struct Program {
    /// Code: readable, executable.
    pub text: VaRange,
    /// Constants: readable.
    pub rodata: VaRange,
    /// Data: readable, writable.
    pub data: VaRange,
    /// Heap: readable, writable.
    pub heap: VaRange,
    /// Stack: readable, writable.
    pub stack: VaRange,
    /// Stack pointer.
    pub rsp: u64,
    /// Functions, in order of address; the first is the entry point.
    pub functions: Vec<Function>,
    /// What the code refers to, in order of address.
    pub references: Vec<CodeRef>,
    /// All text.
    pub texts: Vec<Text>,
    /// The greeting, which is also in `texts`.
    pub banner: Text,
    /// Every qword that holds an address, in order of place.
    pub pointers: Vec<Pointer>,
    /// The static pointer to the world, in the data section.
    pub root_pointer: u64,
    /// A static u32 that the code increments.
    pub ticks: u64,
    /// The vtables of world, ship and cargo.
    pub vtables: [u64; 3],
    /// The root object.
    pub world: World,
    /// The ships in list order.
    pub ships: Vec<Ship>,
    /// Their cargo, in the same order.
    pub cargo: Vec<Cargo>,
    /// A signature of the function `take_damage`. Its first instruction crosses a page border.
    pub signature: String,
    /// Where the signature matches, and nowhere else in the program.
    pub signature_va: u64,
}

impl Program {
    /// Puts the program into `space`, over new frames.
    ///
    /// # Panics
    /// When the space is not a 64-bit one, something is in the way, or the plan breaks its bounds.
    pub fn place(machine: &mut Machine, space: &Space, plan: &ProgramPlan) -> Self {
        assert!(
            matches!(space.paging(), Paging::FourLevel | Paging::FiveLevel),
            "the code is 64-bit code"
        );
        assert!((1..=20).contains(&plan.ships), "1 to 20 ships");
        Builder::new(machine, *space, plan).build()
    }

    /// The function of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn function(&self, name: &str) -> Function {
        *self
            .functions
            .iter()
            .find(|function| function.name == name)
            .unwrap_or_else(|| panic!("the program has no function {name}"))
    }
}
