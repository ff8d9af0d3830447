//! What must hold for *any* file that somebody calls the state of a microVM.
//!
//! One body for the tests of snapshots in several files, which run it on mutated states, and for the fuzz
//! target of the same name.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use vmie::{Image, OpenError, OpenOptions};

use super::open_image;

/// As much memory as the seeds describe.
pub const MEMORY: u64 = 1 << 20;

/// A directory with a memory file, as Cloud Hypervisor calls it, which is one of Firecracker, too.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("vmie-microvm-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a directory");
        fs::write(path.join("memory-ranges"), vec![0xa5; MEMORY as usize]).expect("memory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

thread_local! {
    /// Tests run side by side.
    static SCRATCH: Scratch = Scratch::new();
}

/// Takes `data` for a state of Firecracker as it is, for one with the right checksum, and for a state of Cloud
/// Hypervisor, and checks what comes of it. Answers the first.
///
/// # Panics
///
/// When an image breaks a promise of [`Memory`](vmie::Memory) or of [`Image`].
pub fn open_microvm(data: &[u8]) -> Result<Image, OpenError> {
    SCRATCH.with(|scratch| open_in(&scratch.0, data))
}

fn open_in(dir: &Path, data: &[u8]) -> Result<Image, OpenError> {
    let checked = |opened: Result<Image, OpenError>| {
        match &opened {
            Ok(image) => open_image::check(image, MEMORY),
            Err(error) => assert!(error.to_string().len() < 2000, "{error}"),
        }
        opened
    };
    let state = dir.join("firecracker");
    let options = OpenOptions {
        state: Some(state.clone()),
        ..OpenOptions::default()
    };
    let with = |bytes: &[u8]| {
        fs::write(&state, bytes).expect("writes");
        checked(Image::open_with(dir.join("memory-ranges"), &options))
    };
    let plain = with(data);
    let right = with_checksum(data);
    if right != data {
        let _ = with(&right);
    }
    // Without the feature a directory is refused.
    if data.first() == Some(&b'{') {
        fs::write(dir.join("state.json"), data).expect("writes");
        let _ = checked(Image::open(dir));
    }
    plain
}

/// The same state with the checksum that belongs to it.
pub fn with_checksum(data: &[u8]) -> Vec<u8> {
    let body = &data[..data.len().saturating_sub(8)];
    let crc = body.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u64::from(*byte), |crc: u64, _| {
            (crc >> 1) ^ ((crc & 1) * 0x95ac_9329_ac4b_c9b5)
        })
    });
    [body, &crc.to_le_bytes()].concat()
}
