//! Ctrl-C: the first one asks the running search to stop and say what it found, the second one ends the
//! command at once.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell answers for a command that Ctrl-C ended.
const KILLED: i32 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);
static LISTENING: Once = Once::new();

/// Listens for Ctrl-C from now on.
pub(crate) fn listen() {
    LISTENING.call_once(|| {
        // Where the system refuses, Ctrl-C ends the command as it always does.
        let _ = ctrlc::set_handler(|| {
            if ASKED.swap(true, Ordering::Relaxed) {
                std::process::exit(KILLED);
            }
        });
    });
}

/// Whether to stop.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
