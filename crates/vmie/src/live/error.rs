//! Why a live guest could not be looked at.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a live guest could not be opened, paused or resumed: where, what was expected, what was found.
#[derive(Debug, thiserror::Error)]
#[error("cannot look at the guest behind {}: {kind}", socket.display())]
pub struct LiveError {
    /// The socket as it was given.
    pub socket: PathBuf,
    /// What is wrong.
    pub kind: LiveErrorKind,
}

/// What is wrong with a live guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveErrorKind {
    /// The operating system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done: `"connecting to the socket"`, ...
        doing: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// There is nothing at the path.
    #[error("nothing is there; expected the QMP socket of a running QEMU")]
    NoSocket,
    /// The path leads to something else than a socket.
    #[error("it is no socket; expected the QMP socket of a running QEMU")]
    NotASocket,
    /// Nobody listens on the socket.
    #[error("nobody listens on the socket: the QEMU that made it has ended")]
    NobodyListens,
    /// Nothing was said after connecting.
    #[error(
        "no greeting within {0:?}: another client is connected (QEMU serves one at a time on a \
         socket), QEMU is stuck, or the socket is not for QMP"
    )]
    Busy(Duration),
    /// QEMU did not answer in time.
    #[error("no answer to `{command}` within {within:?}")]
    NoAnswer {
        /// What was asked.
        command: String,
        /// How long was waited.
        within: Duration,
    },
    /// The other end closed the connection.
    #[error("the connection was closed: QEMU has ended, or has thrown us out")]
    Closed,
    /// What was said is not QMP.
    #[error("not the QMP of QEMU: expected {expected}, got `{found}`")]
    NotQmp {
        /// What should have been said.
        expected: &'static str,
        /// How what was said begins, escaped.
        found: String,
    },
    /// QEMU refused a command.
    #[error("QEMU refused `{command}`: {why}")]
    Refused {
        /// What was asked.
        command: String,
        /// QEMU's words, escaped.
        why: String,
    },
    /// What QEMU says about its memory does not make sense to us.
    #[error("QEMU's memory layout cannot be used: {0}")]
    Layout(String),
    /// The process behind the socket is not one that we see.
    #[error("the process behind the socket is not to be seen from here (another PID namespace)")]
    NoProcess,
    /// The process may not be looked at.
    #[error("process {pid} may not be looked at: {doing}: {source}")]
    Permission {
        /// QEMU's process.
        pid: u32,
        /// What was being done.
        doing: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The guest has quit.
    #[error("the guest has quit: process {pid} has ended")]
    Gone {
        /// What was QEMU's process.
        pid: u32,
    },
}

impl LiveErrorKind {
    /// An error of the operating system's.
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// How a hostile text begins, fit for a message.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    const SHOWN: usize = 80;
    let mut text = String::new();
    for &byte in bytes.iter().take(SHOWN) {
        match byte {
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.extend(byte.escape_ascii().map(char::from)),
        }
    }
    if bytes.len() > SHOWN {
        text.push_str("...");
    }
    text
}
