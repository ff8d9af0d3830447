//! Virtual tables, and what run-time type information says of them.

/// The most slots of a table that are counted.
pub(super) const MAX_SLOTS: usize = 256;

/// A virtual table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vtable {
    /// How many functions it has, at most 256: pointers into code, one after the other.
    pub slots: usize,
    /// The class, where run-time type information names it.
    pub rtti: Option<Rtti>,
    /// Whether the table can be written, which is unusual.
    pub writable: bool,
}

/// What run-time type information says of a virtual table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rtti {
    /// The class of the whole object.
    pub class: String,
    /// How many bytes into the object the pointer to this table stands: not 0 for a second base.
    pub base: u64,
    /// Whether it has Visual C++'s form; else it has that of the Itanium ABI.
    pub msvc: bool,
}

impl Vtable {
    /// How sure that is.
    pub(super) fn confidence(&self) -> u8 {
        match (&self.rtti, self.slots, self.writable) {
            (Some(_), ..) => 99,
            (None, 3.., false) => 75,
            (None, 2, false) => 65,
            (None, _, false) => 50,
            (None, ..) => 35,
        }
    }

    /// The class in words; empty without RTTI.
    pub(super) fn class(&self) -> String {
        match &self.rtti {
            Some(Rtti { class, base: 0, .. }) => class.clone(),
            Some(Rtti { class, base, .. }) => format!("{class}, base at +{base:#x}"),
            None => String::new(),
        }
    }

    /// What speaks for it.
    pub(super) fn evidence(&self) -> String {
        let slots = match self.slots {
            1 => "1 slot leads to code".to_owned(),
            MAX_SLOTS.. => format!("{MAX_SLOTS} slots or more lead to code"),
            slots => format!("{slots} slots lead to code"),
        };
        match &self.rtti {
            Some(rtti) if rtti.msvc => format!("{slots}; Visual C++ RTTI"),
            Some(_) => format!("{slots}; Itanium RTTI"),
            None => format!("{slots}; no RTTI"),
        }
    }
}
