//! Virtual tables, and the names of classes.
//!
//! ```text
//! Itanium ABI (everything but Visual C++)        Visual C++
//!   address point - 2 words: offset to top         address point - 1 word: complete object locator
//!   address point - 1 word:  type_info             locator +0 u32 signature (1: 64 bits, 0: 32 bits)
//!   type_info + 1 word:      mangled name                  +4 u32 offset of this table in the object
//!                                                          +12   type descriptor (address, or RVA)
//!                                                          +20   RVA of the locator itself (64 bits)
//!                                                  type descriptor + 2 words: ".?AVName@Outer@@"
//! ```
//!
//! Sources: the Itanium C++ ABI, 2.5.2 and 2.9; the layout of Visual C++'s RTTI as Clang writes it
//! (`MicrosoftCXXABI.cpp`).

use std::fmt;

use cpp_demangle::{DemangleOptions, DemangleWrite, ParseOptions, Symbol};

use super::look::{Look, word};
use super::vtable::{MAX_SLOTS, Rtti, Vtable};
use crate::addr::Address;
use crate::pointers::Width;

/// The longest mangled name.
const MAX_NAME: usize = 512;
/// The longest name of a class; a mangled one can stand for an exponentially longer one.
const MAX_PLAIN: usize = 1024;
/// How deep a mangled name may nest.
const MAX_DEPTH: u32 = 64;
/// The largest object in which a second base is believed.
const MAX_OBJECT: u64 = 1 << 24;

impl<A: Address> Look<'_, A> {
    /// The table whose address point is here.
    pub(super) fn vtable(&mut self, at: u64) -> Option<Vtable> {
        if !at.is_multiple_of(self.width.bytes() as u64) {
            return None;
        }
        if let Some(known) = self.vtables.get(&at) {
            return known.clone();
        }
        let table = self.read_vtable(at);
        if self.vtables.len() > 1 << 16 {
            self.vtables.clear();
        }
        self.vtables.insert(at, table.clone());
        table
    }

    fn read_vtable(&mut self, at: u64) -> Option<Vtable> {
        let prot = self.pointee(at)?;
        // The first slot decides in nearly every case; read no more before it is seen.
        let first = self.word(at)?;
        if !self.is_code(first) {
            return None;
        }
        let bytes = self.some::<{ MAX_SLOTS * 8 }>(at);
        let width = self.width;
        let slots = bytes
            .chunks_exact(width.bytes())
            .take(MAX_SLOTS)
            .map_while(|slot| word(slot, width))
            .take_while(|&slot| self.is_code(slot))
            .count();
        Some(Vtable {
            slots,
            rtti: self.itanium(at).or_else(|| self.msvc(at)),
            writable: prot.write(),
        })
    }

    fn itanium(&mut self, at: u64) -> Option<Rtti> {
        let word = self.width.bytes() as u64;
        let info = self.word(at.checked_sub(word)?)?;
        self.pointee(info)?;
        let to_top = self.word(at.checked_sub(2 * word)?)?;
        // Sign-extended: no offset to the top is positive.
        let base = match self.width {
            Width::Four => u64::from((to_top as u32).wrapping_neg()),
            Width::Eight => to_top.wrapping_neg(),
        };
        if base >= MAX_OBJECT {
            return None;
        }
        // A type_info is an object itself.
        let own = self.word(info)?;
        self.pointee(own)?;
        let name = self.word(info.checked_add(word)?)?;
        self.pointee(name)?;
        Some(Rtti {
            class: itanium_name(&self.name(name)?)?,
            base,
            msvc: false,
        })
    }

    fn msvc(&mut self, at: u64) -> Option<Rtti> {
        let word = self.width.bytes() as u64;
        let locator = self.word(at.checked_sub(word)?)?;
        self.pointee(locator)?;
        let part = |offset: u64| self.u32(locator.checked_add(offset)?).map(u64::from);
        let (signature, base, descriptor) = (part(0)?, part(4)?, part(12)?);
        let descriptor = match self.width {
            Width::Eight if signature == 1 => {
                let own = part(20)?;
                locator.checked_sub(own)?.checked_add(descriptor)?
            }
            Width::Four if signature == 0 => descriptor,
            _ => return None,
        };
        if base >= MAX_OBJECT {
            return None;
        }
        self.pointee(descriptor)?;
        let name = self.name(descriptor.checked_add(2 * word)?)?;
        Some(Rtti {
            class: msvc_name(&name)?,
            base,
            msvc: true,
        })
    }

    /// Printable ASCII with a terminator.
    fn name(&self, at: u64) -> Option<String> {
        let bytes = self.some::<MAX_NAME>(at);
        let len = bytes.iter().position(|&byte| byte == 0)?;
        let name = &bytes[..len];
        let plain = len > 0 && name.iter().all(u8::is_ascii_graphic);
        plain.then(|| String::from_utf8_lossy(name).into_owned())
    }
}

/// The class that an Itanium type name means, such as `N3lab5WorldE`.
pub(super) fn itanium_name(name: &str) -> Option<String> {
    // A star marks names that are only compared by address.
    let name = name.strip_prefix('*').unwrap_or(name);
    // Classes begin with a length, a nesting, a local scope or an abbreviation of std.
    if !name.starts_with(|c: char| c.is_ascii_digit() || "NZS".contains(c)) {
        return None;
    }
    let mangled = format!("_ZTS{name}");
    let options = ParseOptions::default().recursion_limit(MAX_DEPTH);
    let symbol = Symbol::new_with_options(mangled.as_bytes(), &options).ok()?;
    let mut out = Bounded(String::new());
    let options = DemangleOptions::new().recursion_limit(MAX_DEPTH);
    symbol.structured_demangle(&mut out, &options).ok()?;
    let class = out.0.strip_prefix("typeinfo name for ")?;
    (!class.is_empty()).then(|| class.to_owned())
}

/// Text that does not grow beyond [`MAX_PLAIN`].
struct Bounded(String);

impl DemangleWrite for Bounded {
    fn write_string(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_PLAIN {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// The class that a Visual C++ type name means: `.?AVInner@Outer@@` is `Outer::Inner`. Templates and
/// unnamed scopes stay as they are written.
pub(super) fn msvc_name(name: &str) -> Option<String> {
    let class = name
        .strip_prefix(".?AV")
        .or_else(|| name.strip_prefix(".?AU"))?;
    let parts = class.strip_suffix("@@")?;
    if parts.is_empty() {
        return None;
    }
    if class.contains(['?', '$']) {
        return Some(class.to_owned());
    }
    let parts: Vec<&str> = parts.rsplit('@').collect();
    (!parts.iter().any(|part| part.is_empty())).then(|| parts.join("::"))
}
