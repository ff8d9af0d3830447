//! Stopping a guest for as long as it is looked at.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::LiveGuest;
use super::error::{LiveError, LiveErrorKind};
use super::qmp::{Patience, Qmp};

/// A guest that stands still until this is dropped.
///
/// The guest is stopped only if it ran, and then resumed by dropping the guard, whatever the reason. The connection to QEMU
/// is held meanwhile: if it were given up, another client could take it and the guest could not be
/// resumed. What ends a process without dropping (SIGKILL, a loss of power) leaves the guest stopped; `cont`
/// on any of its monitors resumes it.
#[derive(Debug)]
pub struct Paused {
    socket: PathBuf,
    patience: Patience,
    held: Mutex<Option<Held>>,
}

/// The connection, until the guest was resumed.
#[derive(Debug)]
struct Held {
    qmp: Qmp,
    /// Whether it was us who stopped the guest.
    ours: bool,
}

impl Paused {
    /// Connects to QEMU, and stops its guest if it runs.
    ///
    /// # Errors
    ///
    /// As [`LiveGuest::open`].
    pub fn new(socket: impl AsRef<Path>) -> Result<Self, LiveError> {
        Self::new_patiently(socket.as_ref(), Patience::default())
    }

    pub(super) fn new_patiently(socket: &Path, patience: Patience) -> Result<Self, LiveError> {
        let fail = |kind| LiveError {
            socket: socket.to_owned(),
            kind,
        };
        let mut qmp = Qmp::connect(socket, patience).map_err(fail)?;
        let (running, _) = qmp.status().map_err(fail)?;
        // The guard exists before the command is sent: it resumes also where the answer is lost.
        let guard = Self {
            socket: socket.to_owned(),
            patience,
            held: Mutex::new(Some(Held { qmp, ours: running })),
        };
        if running {
            guard
                .with(|held| held.qmp.execute("stop", None))
                .map_err(fail)?;
        }
        Ok(guard)
    }

    /// Whether the guest was running and is stopped by us.
    pub fn is_ours(&self) -> bool {
        self.lock().as_ref().is_some_and(|held| held.ours)
    }

    /// Opens the guest over the connection of the guard: its layout and its registers are those of
    /// the moment at which it stands.
    ///
    /// # Errors
    ///
    /// As [`LiveGuest::open`].
    pub fn open(&self) -> Result<LiveGuest, LiveError> {
        self.with(|held| LiveGuest::over(&mut held.qmp, &self.socket, self.patience))
            .map_err(|kind| self.error(kind))
    }

    /// Resumes the guest, if it was us who stopped it, and gives up the connection. Does nothing the second time.
    ///
    /// # Errors
    ///
    /// When QEMU does not confirm: the guest may still stand.
    pub fn resume(&self) -> Result<(), LiveError> {
        let Some(mut held) = self.lock().take() else {
            return Ok(());
        };
        if !held.ours {
            return Ok(());
        }
        match held.qmp.execute("cont", None) {
            Ok(_) => Ok(()),
            // It has ended: there is nothing to resume.
            Err(LiveErrorKind::Closed) => Ok(()),
            Err(kind) => Err(self.error(kind)),
        }
    }

    fn with<T>(
        &self,
        ask: impl FnOnce(&mut Held) -> Result<T, LiveErrorKind>,
    ) -> Result<T, LiveErrorKind> {
        match self.lock().as_mut() {
            Some(held) => ask(held),
            None => Err(LiveErrorKind::Closed),
        }
    }

    /// A panic elsewhere is no reason to leave the guest standing.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Held>> {
        self.held
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn error(&self, kind: LiveErrorKind) -> LiveError {
        LiveError {
            socket: self.socket.clone(),
            kind,
        }
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        // Whoever wants to know whether it worked calls `resume`.
        let _ = self.resume();
    }
}
