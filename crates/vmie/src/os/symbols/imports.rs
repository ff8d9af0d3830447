//! What an image imports: the slots that its loader fills with addresses of other images, and the stubs
//! that jump through them.
//!
//! A call to a function of another image does not say where that is. It goes through a *slot*, a word
//! that the loader fills (the global offset table of ELF), often by way of a *stub* that does nothing but
//! jump through it (the procedure linkage table). See [`Routes`](super::Routes) for what that means to
//! whoever looks for references.

use crate::addr::{AddrRange, Gva};

/// A word of an image that the loader fills with an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Where it is.
    pub va: Gva,
    /// What it is for.
    pub kind: SlotKind,
    /// What it is to be filled with: an index of [`Imports::names`]; `None` where no name is known.
    pub name: Option<u32>,
    /// To be added to the address of what has the name.
    pub addend: i64,
    /// The function that chooses what it is filled with, where there is one (`R_X86_64_IRELATIVE`).
    pub resolver: Option<Gva>,
}

/// What a [`Slot`] is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SlotKind {
    /// A function that stubs call, bound at the first call or when the program starts (`JUMP_SLOT`).
    Jump,
    /// The address of a function or variable (`GLOB_DAT`).
    Address,
    /// An address among data: a table of functions, an initialised pointer (`R_X86_64_64`).
    Pointer,
    /// A function that a function of the same image chooses (`IRELATIVE`).
    Chosen,
    /// Not an address: a variable of another image that has moved here (`COPY`).
    Copy,
    /// Only known because a stub jumps through it.
    OfStub,
}

/// What is imported, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportName {
    /// The symbol.
    pub symbol: String,
    /// The version that is needed of it, where versions are used.
    pub version: Option<String>,
}

/// Code that does nothing but jump through a slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stub {
    /// Where it begins.
    pub va: Gva,
    /// How long it is, in bytes.
    pub len: u64,
    /// The slot.
    pub slot: Gva,
}

/// What an image imports.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Imports {
    /// Bytes of a slot: 4 or 8.
    pub width: u64,
    /// By address, each once.
    pub slots: Vec<Slot>,
    /// By address.
    pub stubs: Vec<Stub>,
    /// What slots stand for.
    pub names: Vec<ImportName>,
    /// What the loader fills and then makes read-only, slots and tables of pointers among it.
    pub constant: Option<AddrRange<Gva>>,
    /// How many relocations could not be read, or lead nowhere, and stretches of code that were too much.
    pub missing: u64,
    /// Bytes of its code that are not in memory, so that stubs in there are not known.
    pub unseen: u64,
}

impl Imports {
    /// The slot at an address.
    pub fn slot(&self, va: Gva) -> Option<&Slot> {
        let index = self.slots.binary_search_by_key(&va, |slot| slot.va).ok()?;
        self.slots.get(index)
    }

    /// What a slot stands for, where a name is known.
    pub fn name_of(&self, slot: &Slot) -> Option<&ImportName> {
        self.names.get(slot.name? as usize)
    }
}
