//! Files that are there whole or not at all.
//!
//! Whatever is saved is written to a file that has no name yet (or, where the file system has no such
//! thing, to one with a hidden name beside the target), synced, and only then given its name. A process
//! that is killed at any moment leaves the target as it was before or whole. It leaves nothing else either, unless
//! it had to use a hidden name: where there are no files without one, or between the two calls that put a
//! file in the place of another one.
//!
//! Rejected: `fs::write` and a rename in each place that saves something. There were three of that, of which one did
//! not sync and one wrote over what was there.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many hidden names are tried. Only what was killed before has left one behind.
const MAX_NAMES: u32 = 100;

/// A file that will take a name's place when it is whole.
///
/// Given up before [`commit`](Self::commit), it leaves what was there. It is written to as it is, without a
/// buffer.
#[derive(Debug)]
pub struct Replacement {
    file: File,
    target: PathBuf,
    /// A name that it has meanwhile, and that goes when this does.
    temporary: Option<PathBuf>,
}

/// Writes a whole file: these bytes are at `target` then, or what was there before.
///
/// # Errors
///
/// As [`Replacement::create`] and [`Replacement::commit`], and when writing fails. The error does not say
/// where; whoever tells it adds the path.
pub fn write(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = Replacement::create(target)?;
    file.write_all(bytes)?;
    file.commit()
}

impl Replacement {
    /// An empty file that is to be at `target`. A file that is there is not touched yet.
    ///
    /// Who may not read or write the file that is there may not do so with the new one.
    ///
    /// # Errors
    ///
    /// When nothing can be created there, or what is there is no file: a rename would replace a device as
    /// well, for whoever may do that.
    pub fn create(target: &Path) -> io::Result<Self> {
        Self::create_in(target, nameless(directory(target)))
    }

    /// The same, given the file without a name if there can be one.
    fn create_in(target: &Path, nameless: Option<File>) -> io::Result<Self> {
        let found = std::fs::metadata(target).ok();
        if found.as_ref().is_some_and(|found| !found.is_file()) {
            return Err(io::Error::other("it is not a file"));
        }
        let (file, temporary) = match nameless {
            Some(file) => (file, None),
            None => {
                // Anew: a link that was planted under this name is not followed.
                let create = |name: &Path| {
                    OpenOptions::new()
                        .read(true)
                        .write(true)
                        .create_new(true)
                        .open(name)
                };
                let (file, temporary) = hidden(target, create)?;
                (file, Some(temporary))
            }
        };
        let replacement = Self {
            file,
            target: target.to_owned(),
            temporary,
        };
        if let Some(found) = found {
            keep_closed(&replacement.file, &found)?;
        }
        Ok(replacement)
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
                    let ((), temporary) = hidden(&self.target, |name| link(&self.file, name))?;
                    self.temporary = Some(temporary);
                }
                Err(error) => return Err(error),
            }
        }
        self.rename()
    }

    /// As [`commit`](Self::commit), where nothing may be at the target; the file stays open. For files that
    /// grow after they have begun.
    ///
    /// # Errors
    ///
    /// With [`AlreadyExists`](io::ErrorKind::AlreadyExists) when there is something, and as
    /// [`commit`](Self::commit).
    pub fn commit_new(mut self) -> io::Result<File> {
        self.file.sync_all()?;
        let file = self.file.try_clone()?;
        let Some(temporary) = &self.temporary else {
            link(&self.file, &self.target)?;
            sync_directory(&self.target);
            return Ok(file);
        };
        match std::fs::hard_link(temporary, &self.target) {
            Ok(()) => sync_directory(&self.target),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // A file system without links: whoever makes the name has it, and puts the file there.
            Err(_) => {
                File::create_new(&self.target)?;
                self.rename()?;
            }
        }
        Ok(file)
    }

    /// Gives a file that has a hidden name its own.
    fn rename(&mut self) -> io::Result<()> {
        if let Some(temporary) = &self.temporary {
            std::fs::rename(temporary, &self.target)?;
            self.temporary = None;
        }
        sync_directory(&self.target);
        Ok(())
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
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

/// Does something with a hidden name beside `target` that is not taken.
///
/// The name does not hold the target's: that may be as long as a name can be.
fn hidden<T>(
    target: &Path,
    mut with: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<(T, PathBuf)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);

    let mut tries = 0;
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = target.with_file_name(format!(".vmie.{}-{number}.tmp", std::process::id()));
        tries += 1;
        match with(&name) {
            Ok(done) => return Ok((done, name)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < MAX_NAMES => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes from a new file the permissions that the one it replaces does not have: memory of a guest that
/// was kept from others stays so. It is not given any: the old file may be another user's.
#[cfg(unix)]
fn keep_closed(file: &File, found: &std::fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let mut permissions = file.metadata()?.permissions();
    let mode = permissions.mode();
    let kept = mode & (found.permissions().mode() | !0o777);
    if kept == mode {
        return Ok(());
    }
    permissions.set_mode(kept);
    file.set_permissions(permissions)
}

/// Elsewhere a directory says who may do what with its files.
#[cfg(not(unix))]
fn keep_closed(_file: &File, _found: &std::fs::Metadata) -> io::Result<()> {
    Ok(())
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
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect()
    }

    /// Both ways: without a name, as far as this file system goes, and with a hidden one.
    const WAYS: [fn(&Path) -> io::Result<Replacement>; 2] = [Replacement::create, |target| {
        Replacement::create_in(target, None)
    }];

    #[test]
    fn a_file_is_there_when_it_is_whole() {
        for way in WAYS {
            let directory = tempfile::tempdir().unwrap();
            let target = directory.path().join("target");
            let mut before = None;
            for text in ["first", "second"] {
                let mut file = way(&target).unwrap();
                file.write_all(text.as_bytes()).unwrap();
                assert_eq!(std::fs::read_to_string(&target).ok().as_deref(), before);
                file.commit().unwrap();
                assert_eq!(std::fs::read_to_string(&target).unwrap(), text);
                assert_eq!(names(directory.path()), ["target"]);
                before = Some(text);
            }
            write(&target, b"third").unwrap();
            assert_eq!(std::fs::read_to_string(&target).unwrap(), "third");
            assert_eq!(names(directory.path()), ["target"]);
        }
    }

    #[test]
    fn what_is_given_up_leaves_what_was_there() {
        for way in WAYS {
            let directory = tempfile::tempdir().unwrap();
            let target = directory.path().join("target");
            let mut file = way(&target).unwrap();
            file.write_all(b"half").unwrap();
            drop(file);
            assert!(names(directory.path()).is_empty());
            write(&target, b"old").unwrap();
            let mut file = way(&target).unwrap();
            file.write_all(b"half").unwrap();
            drop(file);
            assert_eq!(std::fs::read(&target).unwrap(), b"old");
            assert_eq!(names(directory.path()), ["target"]);
        }
    }

    #[test]
    fn a_hidden_name_is_one() {
        let directory = tempfile::tempdir().unwrap();
        // As long as a name may be.
        let target = directory.path().join("n".repeat(255));
        let file = Replacement::create_in(&target, None).unwrap();
        let [name] = &names(directory.path())[..] else {
            panic!("one file");
        };
        assert!(name.starts_with('.'), "{name}");
        file.commit().unwrap();
        assert_eq!(names(directory.path()), ["n".repeat(255)]);
        write(&target, b"again").unwrap();
        assert_eq!(names(directory.path()), ["n".repeat(255)]);
    }

    #[test]
    fn what_must_be_new_does_not_replace() {
        for way in WAYS {
            let directory = tempfile::tempdir().unwrap();
            let target = directory.path().join("target");
            let mut file = way(&target).unwrap();
            file.write_all(b"begun").unwrap();
            let other = way(&target).unwrap();
            let mut file = file.commit_new().unwrap();
            let error = other.commit_new().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            file.write_all(b", and gone on").unwrap();
            let all = std::fs::read_to_string(&target).unwrap();
            assert_eq!(all, "begun, and gone on");
            assert_eq!(names(directory.path()), ["target"]);
        }
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        for way in WAYS {
            let directory = tempfile::tempdir().unwrap();
            assert!(way(directory.path()).is_err());
            assert!(way(Path::new("/dev/null")).is_err());
            assert!(way(&directory.path().join("none/target")).is_err());
            assert!(names(directory.path()).is_empty());
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_was_closed_to_others_stays_so() {
        use std::os::unix::fs::PermissionsExt as _;

        for way in WAYS {
            let directory = tempfile::tempdir().unwrap();
            let target = directory.path().join("target");
            let mode = || std::fs::metadata(&target).unwrap().permissions().mode() & 0o7777;
            way(&target).unwrap().commit().unwrap();
            let new = mode();
            // Never more than a new file has, whoever made the old one.
            for (old, then) in [(0o600, new & 0o600), (0o4777, new)] {
                let permissions = std::fs::Permissions::from_mode(old);
                std::fs::set_permissions(&target, permissions).unwrap();
                way(&target).unwrap().commit().unwrap();
                assert_eq!(mode(), then, "{old:o}");
            }
        }
    }
}
