//! Types that come from outside of a guest, and what tells that they are its own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::Types;

/// The fewest bytes of a build id: linkers make 8 (fast hashes), 16 (MD5, UUID) or 20 (SHA-1).
const FEWEST: usize = 8;

/// The most that are believed.
const MOST: usize = 64;

/// What a linker notes to tell one build of a program or kernel from all others: the descriptor of its note
/// `NT_GNU_BUILD_ID`. Shown in hexadecimal.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BuildId(Vec<u8>);

impl BuildId {
    /// A build id of these bytes; `None` when no linker makes one of that length.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (FEWEST..=MOST)
            .contains(&bytes.len())
            .then(|| Self(bytes.to_owned()))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The build id among ELF notes, little-endian, such as a kernel has from `__start_notes` on.
    ///
    /// Source: the ELF specification, "Note Section"; name `GNU`, type 3 (`NT_GNU_BUILD_ID`).
    pub fn among_notes(notes: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let bytes = notes.get(at..at.checked_add(4)?)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let mut at = 0_usize;
        loop {
            let (name_len, len, kind) = (word(at)?, word(at + 4)?, word(at + 8)?);
            let name_at = at + 12;
            let padded = |len: u32| usize::try_from(len).ok()?.checked_next_multiple_of(4);
            let desc_at = name_at.checked_add(padded(name_len)?)?;
            let next = desc_at.checked_add(padded(len)?)?;
            let name = notes.get(name_at..desc_at)?;
            if kind == 3 && name.starts_with(b"GNU\0") {
                return Self::new(notes.get(desc_at..desc_at + len as usize)?);
            }
            at = next;
        }
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is no [`BuildId`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a build id: 16 to 128 hexadecimal digits, two for each byte")]
pub struct NoBuildId;

impl FromStr for BuildId {
    type Err = NoBuildId;

    fn from_str(text: &str) -> Result<Self, NoBuildId> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(NoBuildId);
        let bytes: Result<Vec<u8>, NoBuildId> = pairs
            .iter()
            .map(|&[high, low]| Ok((digit(high)? << 4 | digit(low)?) as u8))
            .collect();
        let whole = rest.is_empty().then_some(()).ok_or(NoBuildId);
        whole.and_then(|()| Self::new(&bytes?).ok_or(NoBuildId))
    }
}

/// Types that come from outside of the guest. They are used only when the guest says that they are its
/// own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SuppliedTypes {
    /// The types.
    pub types: Arc<Types>,
    /// The version of the system that they belong to, as it puts it itself ([`Guest::version`](crate::os::Guest::version)).
    pub banner: Option<String>,
    /// The build that they belong to, where that is noted.
    pub build: Option<BuildId>,
    /// Where they come from, for messages.
    pub origin: String,
}

impl SuppliedTypes {
    /// Types of which only is known where they come from.
    pub fn new(types: Arc<Types>, origin: impl Into<String>) -> Self {
        Self {
            types,
            banner: None,
            build: None,
            origin: origin.into(),
        }
    }

    /// The same types, which belong to the system with this version.
    #[must_use]
    pub fn of_version(mut self, banner: impl Into<String>) -> Self {
        self.banner = Some(banner.into());
        self
    }

    /// The same types, which belong to this build.
    #[must_use]
    pub fn of_build(mut self, build: Option<BuildId>) -> Self {
        self.build = build;
        self
    }

    /// Whether they are those of the system with this version and build. The build decides where both
    /// sides know it: a version may be given to two builds, and may be damaged. Without either nobody can tell, so they are not.
    pub fn fits(&self, version: &str, build: Option<&BuildId>) -> bool {
        fits(self.banner.as_deref(), self.build.as_ref(), version, build)
    }
}

/// Whether what is said to belong to a version and a build does.
pub(super) fn fits(
    banner: Option<&str>,
    own: Option<&BuildId>,
    version: &str,
    build: Option<&BuildId>,
) -> bool {
    match (own, build) {
        (Some(own), Some(build)) => own == build,
        _ => banner.is_some_and(|banner| banner.trim_end() == version.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [name.len() as u32, desc.len() as u32, kind] {
            bytes.extend(word.to_le_bytes());
        }
        for part in [name, desc] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn build_ids_are_found_among_notes() {
        let id: Vec<u8> = (1..=20).collect();
        let mut notes = note(b"Xen\0", 6, b"linux\0");
        notes.extend(note(b"Linux\0", 3, b"not this one"));
        notes.extend(note(b"GNU\0", 3, &id));
        notes.extend(note(b"GNU\0", 5, &[0; 16]));
        let found = BuildId::among_notes(&notes).expect("there");
        assert_eq!(found.bytes(), id);
        assert_eq!(
            found.to_string(),
            "0102030405060708090a0b0c0d0e0f1011121314"
        );
        assert_eq!(found.to_string().parse(), Ok(found));
        // Cut anywhere before its end, and with lengths that lead nowhere.
        let end = notes.len() - note(b"GNU\0", 5, &[0; 16]).len();
        for len in 0..end {
            assert_eq!(BuildId::among_notes(&notes[..len]), None, "{len}");
        }
        notes[4..8].fill(0xff);
        assert_eq!(BuildId::among_notes(&notes), None);
        assert_eq!(BuildId::among_notes(&note(b"GNU\0", 3, &[1; 65])), None);
    }

    #[test]
    fn texts_that_are_no_build_ids() {
        for text in [
            "",
            "0",
            "00112233445566",
            "001122334455667",
            "+0112233445566778899",
            "äääääääää",
        ] {
            assert_eq!(text.parse::<BuildId>(), Err(NoBuildId), "{text}");
        }
        assert_eq!("00".repeat(65).parse::<BuildId>(), Err(NoBuildId));
    }

    #[test]
    fn the_build_decides_where_it_is_known() {
        let build = |byte| BuildId::new(&[byte; 20]);
        let (one, other) = (build(1), build(2));
        for (banner, own, version, build, fit) in [
            (Some("v1"), None, "v1\n", None, true),
            (Some("v1"), None, "v2", None, false),
            (None, None, "v1", None, false),
            (Some("v1"), one.as_ref(), "v1", None, true),
            (Some("v1"), one.as_ref(), "damaged", one.as_ref(), true),
            (None, one.as_ref(), "v1", one.as_ref(), true),
            (Some("v1"), one.as_ref(), "v1", other.as_ref(), false),
            (None, one.as_ref(), "v1", None, false),
        ] {
            assert_eq!(
                fits(banner, own, version, build),
                fit,
                "{banner:?} {version}"
            );
        }
    }
}
