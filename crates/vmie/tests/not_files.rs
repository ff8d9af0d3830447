//! Paths that lead to no regular file.
//!
//! Apart from the other tests because it starts a process: a child inherits open files for a moment,
//! and tests of live files must not see that.
#![cfg(unix)]

use vmie::{Image, OpenErrorKind};

#[test]
fn pipes_and_devices_are_refused_without_waiting() {
    let path = std::env::temp_dir().join(format!("vmie-raw-{}-fifo", std::process::id()));
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.is_ok_and(|s| s.success()), "mkfifo works");
    let error = Image::open(&path).expect_err("a pipe");
    std::fs::remove_file(&path).expect("removes");
    assert!(
        matches!(error.kind, OpenErrorKind::NotAFile { found: "a pipe" }),
        "{error}"
    );
    let error = Image::open("/dev/zero").expect_err("a device");
    assert!(
        matches!(error.kind, OpenErrorKind::NotAFile { found: "a device" }),
        "{error}"
    );
}
