//! What something was made from, as a short text to compare.
//!
//! Good enough to notice a change; it is no protection against anybody. (SipHash with fixed keys:
//! when Rust changes it, things are made anew once.)

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;

use crate::Fallible;

#[derive(Default)]
pub(crate) struct Fingerprint(DefaultHasher);

impl Fingerprint {
    pub(crate) fn add(&mut self, name: &str, content: &[u8]) {
        for part in [name.as_bytes(), content] {
            self.0.write_usize(part.len());
            self.0.write(part);
        }
    }

    /// The files in a directory, and not those in folders of it, by name.
    pub(crate) fn add_files(&mut self, dir: &Path) -> Fallible<()> {
        let mut entries = fs::read_dir(dir)
            .map_err(|error| format!("{}: {error}", dir.display()))?
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            if !entry.file_type()?.is_dir() {
                let name = entry.file_name();
                self.add(&name.to_string_lossy(), &fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    /// All files below a directory, by name.
    pub(crate) fn add_dir(&mut self, dir: &Path) -> Fallible<()> {
        let mut entries = fs::read_dir(dir)
            .map_err(|error| format!("{}: {error}", dir.display()))?
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            if entry.file_type()?.is_dir() {
                self.add_dir(&entry.path())?;
            } else {
                let name = entry.file_name();
                self.add(&name.to_string_lossy(), &fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    pub(crate) fn text(&self) -> String {
        format!("{:016x}", self.0.finish())
    }
}
