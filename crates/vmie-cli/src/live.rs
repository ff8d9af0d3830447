//! Live guests: what `qemu:SOCKET` opens, and what has to be done about it before the command ends.
//!
//! A guest that was stopped for `--pause` runs again when [`Opened`] is dropped, which `main` holds, so errors
//! and panics resume it too. Signals that would end the command at once resume it first.

use std::path::Path;
use std::sync::{Arc, Mutex, Once, PoisonError};

use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use vmie::session::{LiveSource, Still};
use vmie::{LiveError, LiveErrorKind, LiveGuest, Paused};

use crate::escape::shell_word;
use crate::exit::Failure;
use crate::interrupt;
use crate::report::Reporter;
use crate::size;

/// The guests that were opened.
static GUESTS: Mutex<Vec<LiveSource>> = Mutex::new(Vec::new());

/// Listening for signals is begun once.
static LISTENING: Once = Once::new();

/// Stops the guest behind a QMP socket until this command ends, however that is.
pub(crate) fn pause(socket: &Path) -> Result<Arc<Paused>, LiveError> {
    let paused = Arc::new(Paused::new(socket)?);
    resume_on_signals(&paused);
    Ok(paused)
}

/// Takes note of a guest that was opened, which is to run on, and to be there still, when the command ends.
pub(crate) fn opened(source: &LiveSource, reporter: &Reporter) {
    let LiveSource { guest, paused, .. } = source;
    let info = guest.info();
    let size = info.ranges.iter().fold(0, |sum, range| sum + range.len());
    reporter.detail(&format!(
        "process {} with {} of RAM, {} of it in files that QEMU shares; the guest {}",
        info.pid,
        size::approx(size),
        size::approx(info.shared),
        match paused {
            Some(paused) if paused.is_ours() => "is stopped until this command ends",
            Some(_) => "was not running",
            None if info.running => "runs on",
            None => "is not running",
        }
    ));
    guests().push(source.clone());
}

/// The guests that were opened, as `main` holds them.
pub(crate) struct Opened;

impl Opened {
    /// Lets paused guests run on, and sees to it that what was looked at was one guest from
    /// beginning to end.
    pub(crate) fn finish(&self, reporter: &Reporter) -> Result<(), Failure> {
        let mut result = Ok(());
        for live in guests().drain(..) {
            let resumed = live
                .paused
                .as_ref()
                .map_or(Ok(()), |paused| paused.resume());
            let resumed = resumed.map_err(|error| {
                failure(&error).hint("`cont` on a monitor of this guest, to resume it")
            });
            let same = checked(&live, reporter);
            result = result.and(resumed).and(same);
        }
        result
    }
}

/// Whether every guest that was opened still runs: to be asked before a file is finished that claims to be
/// whole.
pub(crate) fn still_there() -> Result<(), Failure> {
    let guests = guests();
    match guests.iter().find(|live| !live.guest.is_alive()) {
        Some(live) => Err(gone(&live.guest)),
        None => Ok(()),
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        for live in guests().drain(..) {
            drop(live.paused);
        }
    }
}

fn guests() -> std::sync::MutexGuard<'static, Vec<LiveSource>> {
    GUESTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether what was looked at was one guest.
fn checked(live: &LiveSource, reporter: &Reporter) -> Result<(), Failure> {
    let guest = &live.guest;
    match live.check() {
        Still::Gone => Err(gone(guest)),
        Still::Rearranged => Err(Failure::new(format!(
            "the memory of the guest behind {} was rearranged while it was looked at",
            shell_word(guest.socket())
        ))
        .found("memory was plugged in or out; what was found may be of memory that was not the guest's")
        .hint("the same command again, or with --pause")),
        Still::Unknown(error) => {
            reporter.detail(&format!("the layout was not asked for again: {error}"));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn gone(guest: &LiveGuest) -> Failure {
    Failure::new(format!(
        "the guest behind {} has quit while it was looked at",
        shell_word(guest.socket())
    ))
    .found(format!("process {} has ended", guest.info().pid))
    .hint("what was printed before this is incomplete")
}

/// Sees to it that a signal which ends the command resumes the guest first.
fn resume_on_signals(paused: &Arc<Paused>) {
    let on_interrupt = Arc::clone(paused);
    interrupt::before_exit(move || {
        let _ = on_interrupt.resume();
    });
    LISTENING.call_once(|| {
        // Where the system refuses, these signals end the command as they always do.
        let Ok(mut signals) = Signals::new([SIGTERM, SIGHUP]) else {
            return;
        };
        let _ = std::thread::Builder::new().spawn(move || {
            for signal in signals.forever() {
                interrupt::run_before_exit();
                let _ = emulate_default_handler(signal);
            }
        });
    });
}

/// An error of the engine's for the user.
pub(crate) fn failure(error: &LiveError) -> Failure {
    const START: &str =
        "QEMU makes such a socket when it is started with -qmp unix:PATH,server=on,wait=off";
    let failure = Failure::new(error.to_string());
    match &error.kind {
        LiveErrorKind::NoSocket | LiveErrorKind::NotASocket => failure.hint(START),
        LiveErrorKind::NobodyListens => failure.hint("start the guest again"),
        LiveErrorKind::Busy(_) => failure
            .hint("end the other client, or give QEMU another socket for vmie")
            .hint(START),
        LiveErrorKind::NotQmp { .. } => {
            failure.hint("the socket of -qmp, not that of -monitor, a console or another program")
        }
        LiveErrorKind::NoProcess => {
            failure.hint("run vmie where QEMU runs: in the same container, or on the host")
        }
        LiveErrorKind::Permission { .. } => failure
            .hint("run vmie as root, or as the user that QEMU runs as")
            .hint(
                "where kernel.yama.ptrace_scope forbids that: RAM that QEMU shares \
                 (-object memory-backend-memfd,share=on) needs no such right",
            ),
        LiveErrorKind::Io { source, .. }
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            failure.hint("run vmie as a user who may use the socket")
        }
        _ => failure,
    }
}
