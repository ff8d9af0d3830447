//! Files that are there whole or not at all.
//!
//! Whatever is saved is written to a file that has no name yet (or, where the file system has no such
//! thing, a temporary one beside the target), synced, and only then given its name. A process that is
//! killed at any moment leaves the target as it was before or whole.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// A file that will take a name's place when it is whole.
#[derive(Debug)]
pub struct Replacement {
    file: File,
    target: PathBuf,
    /// A name that it has meanwhile, and that goes when this does.
    temporary: Option<PathBuf>,
}

impl Replacement {
    /// An empty file that is to be at `target`. A file that is there is not touched yet.
    ///
    /// # Errors
    ///
    /// When nothing can be created there, or what is there is no file: a rename would replace a device as
    /// well, for whoever may do that.
    pub fn create(target: &Path) -> io::Result<Self> {
        if std::fs::metadata(target).is_ok_and(|found| !found.is_file()) {
            return Err(io::Error::other("it is not a file"));
        }
        let (file, temporary) = match nameless(directory(target)) {
            Some(file) => (file, None),
            None => {
                let temporary = beside(target);
                // Anew: a link that was planted under this name is not followed.
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .open(&temporary)?;
                (file, Some(temporary))
            }
        };
        Ok(Self {
            file,
            target: target.to_owned(),
            temporary,
        })
    }

    /// The file, to be written.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    ///
    /// When that fails. What was at the target is still there.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if self.temporary.is_none() {
            match link(&self.file, &self.target) {
                Ok(()) => {
                    sync_directory(&self.target);
                    return Ok(());
                }
                // A name that is taken can only be replaced by another name.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let temporary = beside(&self.target);
                    link(&self.file, &temporary)?;
                    self.temporary = Some(temporary);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(temporary) = &self.temporary {
            std::fs::rename(temporary, &self.target)?;
            self.temporary = None;
        }
        sync_directory(&self.target);
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // It is only in the way; there is nobody to tell.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

fn directory(target: &Path) -> &Path {
    let parent = target.parent();
    let named = parent.filter(|parent| !parent.as_os_str().is_empty());
    named.unwrap_or(Path::new("."))
}

/// A name beside `target` that no other process uses.
fn beside(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    target.with_file_name(name)
}

/// A file without a name, where the file system can give it one later.
#[cfg(target_os = "linux")]
fn nameless(directory: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    // The name is given by way of this link; without `/proc` it cannot be.
    if !Path::new("/proc/self/fd").is_dir() {
        return None;
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(directory)
        .ok()
}

/// Gives a file without a name one that is not taken.
#[cfg(target_os = "linux")]
fn link(file: &File, name: &Path) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::ffi::OsStrExt as _;

    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = CString::new(name.as_os_str().as_bytes())?;
    // SAFETY: a plain system call on two strings that end with a zero and outlive it.
    let failed = unsafe {
        libc::linkat(
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        )
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Other systems have no files without a name.
#[cfg(not(target_os = "linux"))]
fn nameless(_directory: &Path) -> Option<File> {
    None
}

#[cfg(not(target_os = "linux"))]
fn link(_file: &File, _name: &Path) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// Makes the new name last. Where a directory cannot be synced, it is as safe as it can be.
fn sync_directory(target: &Path) {
    if let Ok(directory) = File::open(directory(target)) {
        let _ = directory.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_is_there_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        for text in ["first", "second"] {
            let mut file = Replacement::create(&target).unwrap();
            file.file().write_all(text.as_bytes()).unwrap();
            assert!(
                std::fs::read_to_string(&target)
                    .is_ok_and(|now| now == text)
                    .eq(&false)
            );
            file.commit().unwrap();
            assert_eq!(std::fs::read_to_string(&target).unwrap(), text);
            assert_eq!(names(directory.path()), ["target"]);
        }
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        let mut file = Replacement::create(&target).unwrap();
        file.file().write_all(b"half").unwrap();
        drop(file);
        assert!(names(directory.path()).is_empty());
        // Where files must have names.
        let temporary = beside(&target);
        let named = Replacement {
            file: File::create_new(&temporary).unwrap(),
            target: target.clone(),
            temporary: Some(temporary),
        };
        assert_eq!(names(directory.path()).len(), 1);
        drop(named);
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Replacement::create(directory.path()).is_err());
        assert!(Replacement::create(Path::new("/dev/null")).is_err());
        assert!(Replacement::create(&directory.path().join("none/target")).is_err());
    }
}
