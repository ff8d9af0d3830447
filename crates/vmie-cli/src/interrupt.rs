//! Ctrl-C: the first one asks the running search to stop and say what it found, the second one ends the
//! command at once. So does the first one where nothing is listening.
//!
//! What has to be undone before the command ends, [`before_exit`] is told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// What a shell answers for a command that Ctrl-C ended.
const KILLED: i32 = 130;

/// What is done before the command ends.
type Undo = Box<dyn Fn() + Send>;

static ASKED: AtomicBool = AtomicBool::new(false);
/// Whether somebody looks at `ASKED`.
static LISTENING: AtomicBool = AtomicBool::new(false);
static HANDLER: Once = Once::new();
static BEFORE_EXIT: Mutex<Vec<Undo>> = Mutex::new(Vec::new());

/// Listens for Ctrl-C from now on.
pub(crate) fn listen() {
    LISTENING.store(true, Ordering::Relaxed);
    handle();
}

/// Does this before Ctrl-C ends the command.
pub(crate) fn before_exit(undo: impl Fn() + Send + 'static) {
    undos().push(Box::new(undo));
    handle();
}

/// Does what has to be done before the command ends at once.
pub(crate) fn run_before_exit() {
    for undo in undos().iter() {
        undo();
    }
}

fn undos() -> std::sync::MutexGuard<'static, Vec<Undo>> {
    BEFORE_EXIT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn handle() {
    HANDLER.call_once(|| {
        // Where the system refuses, Ctrl-C ends the command as it always does.
        let _ = ctrlc::set_handler(|| {
            if ASKED.swap(true, Ordering::Relaxed) || !LISTENING.load(Ordering::Relaxed) {
                run_before_exit();
                std::process::exit(KILLED);
            }
        });
    });
}

/// Says that Ctrl-C has done what it was pressed for: it ended what goes on until then, and cut nothing short.
pub(crate) fn settled() {
    ASKED.store(false, Ordering::Relaxed);
}

/// Set when to stop, for what looks at it itself.
pub(crate) fn flag() -> &'static AtomicBool {
    &ASKED
}

/// Whether to stop.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}
