//! ISF: symbols and types of a kernel in a file, as Volatility 3 keeps them.
//!
//! The format is JSON, plain or compressed with xz; its schema, version 6.2.0, is in Volatility 3's
//! sources (`volatility3/schemas/schema-6.2.0.json`). Reading one ([`Isf::open`]) lets a kernel be
//! looked into that has no type information of its own; writing one ([`export_guest`]) lets other tools look
//! into a kernel that has.
//!
//! **A file belongs to one build of a kernel.** It carries that kernel's banner, and [`Isf::fits`]
//! compares it: with the types of another build every answer would be wrong, and many would look right.
//!
//! Files are untrusted. Their size, compressed and not, is bounded; JSON nests no deeper than its parser
//! allows; a reference to a type that the file does not define becomes a declaration.

mod base64;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod variables;
mod write;

use std::path::Path;
use std::sync::Arc;

use super::{BuildId, SuppliedTypes, Types};
use crate::os::symbols::SymbolTable;

pub use write::{Export, ExportError, export, export_guest, export_xz};

/// The largest file that is read, and the largest that it may be when it is no longer compressed.
/// Distribution kernels need 40 MiB.
const MAX_BYTES: u64 = 1 << 30;

/// Symbols and types out of a file.
#[derive(Clone, Debug)]
pub struct Isf {
    /// The types.
    pub types: Arc<Types>,
    /// The symbols, at the addresses that the kernel was linked for.
    pub symbols: Arc<SymbolTable>,
    /// The banner of the kernel that they belong to, where the file tells.
    pub banner: Option<String>,
    /// The build of that kernel, where the file tells: the schema has no place for it but the name of
    /// where symbols and types were taken from (`..., build id 5f0c...`).
    pub build: Option<BuildId>,
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IsfError {
    /// The file could not be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It is larger than what is read.
    #[error("more than {MAX_BYTES} bytes")]
    TooLarge,
    /// It starts like an xz file and is none.
    #[error("the xz compression is damaged: {0}")]
    Xz(std::io::Error),
    /// It is not JSON, or not in this schema.
    #[error("not an ISF file: {0}")]
    Json(#[from] serde_json::Error),
    /// What it says about a type makes no sense.
    #[error("{name}: {why}")]
    Type {
        /// The type.
        name: String,
        /// What is wrong.
        why: String,
    },
}

impl Isf {
    /// Reads a file, plain or compressed with xz, told apart by content.
    ///
    /// Cost: about 10 ms for each MiB of JSON.
    ///
    /// # Errors
    ///
    /// [`IsfError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, IsfError> {
        let file = std::fs::File::open(path)?;
        if file.metadata()?.len() > MAX_BYTES {
            return Err(IsfError::TooLarge);
        }
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_BYTES), &mut bytes)?;
        Self::parse(&bytes)
    }

    /// Reads what a file contains.
    ///
    /// # Errors
    ///
    /// [`IsfError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, IsfError> {
        read::parse(bytes)
    }

    /// The types, to look into a guest that has none. `origin` names the file in messages.
    pub fn supply(&self, origin: impl Into<String>) -> SuppliedTypes {
        let supplied = SuppliedTypes::new(Arc::clone(&self.types), origin);
        let supplied = supplied.of_build(self.build.clone());
        match &self.banner {
            Some(banner) => supplied.of_version(banner),
            None => supplied,
        }
    }

    /// Whether the file belongs to the kernel with this banner. `None` when it does not say.
    pub fn fits(&self, banner: &str) -> Option<bool> {
        let own = self.banner.as_deref()?;
        Some(own.trim_end() == banner.trim_end())
    }
}
