//! A client of QEMU's machine protocol: JSON lines over a Unix socket (QEMU's
//! `docs/interop/qmp-spec`).
//!
//! The other end is not trusted: every wait has an end, a line has a greatest length, and what is not
//! understood is an error that shows how it begins. Events are skipped: what we wait for we ask for.

use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::error::{LiveErrorKind, excerpt};
use super::sys;

/// The longest line that is taken: QEMU's longest answers, layouts of large machines, have less than a
/// megabyte.
const MAX_LINE: usize = 32 << 20;

/// How many bytes are read at a time.
const CHUNK: usize = 64 << 10;

/// How long a wait takes before the clock is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How long is waited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Patience {
    /// For the greeting.
    pub(super) greeting: Duration,
    /// For each answer.
    pub(super) answer: Duration,
}

impl Default for Patience {
    /// QEMU greets at once unless somebody else is connected; answers take milliseconds, and longer on a
    /// busy machine.
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(5),
            answer: Duration::from_secs(30),
        }
    }
}

/// A connection on which commands can be executed. Nobody else is served while it lasts.
#[derive(Debug)]
pub(super) struct Qmp {
    stream: UnixStream,
    /// What has arrived and was not looked at yet.
    input: Vec<u8>,
    /// How much of `input` is known to hold no end of a line.
    scanned: usize,
    patience: Patience,
    /// How many commands were sent. Numbers them, so that an answer which came too late is not taken for
    /// the next one's.
    sent: u64,
}

impl Qmp {
    /// Connects and negotiates capabilities.
    pub(super) fn connect(socket: &Path, patience: Patience) -> Result<Self, LiveErrorKind> {
        let kind = std::fs::metadata(socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LiveErrorKind::NoSocket,
            _ => LiveErrorKind::io("looking at the socket")(error),
        })?;
        if !kind.file_type().is_socket() {
            return Err(LiveErrorKind::NotASocket);
        }
        let deadline = Instant::now() + patience.greeting;
        let stream = loop {
            match sys::connect(socket) {
                Ok(stream) => break stream,
                // Others wait in front of us.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if Instant::now() >= deadline {
                        return Err(LiveErrorKind::Busy(patience.greeting));
                    }
                    std::thread::sleep(TICK);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Err(LiveErrorKind::NobodyListens);
                }
                Err(error) => return Err(LiveErrorKind::io("connecting to the socket")(error)),
            }
        };
        let mut qmp = Self {
            stream,
            input: Vec::new(),
            scanned: 0,
            patience,
            sent: 0,
        };
        let busy = || LiveErrorKind::Busy(patience.greeting);
        let greeting = qmp.message(deadline, "its greeting", busy)?;
        if greeting.get("QMP").is_none() {
            return Err(not_qmp("its greeting", greeting.to_string().as_bytes()));
        }
        qmp.execute("qmp_capabilities", None)?;
        Ok(qmp)
    }

    /// The process at the other end.
    pub(super) fn peer(&self) -> Result<u32, LiveErrorKind> {
        let asking = "asking who listens on the socket";
        match sys::peer(&self.stream).map_err(LiveErrorKind::io(asking))? {
            0 => Err(LiveErrorKind::NoProcess),
            pid => Ok(pid),
        }
    }

    /// Executes a command and returns its answer.
    pub(super) fn execute(
        &mut self,
        command: &str,
        arguments: Option<Value>,
    ) -> Result<Value, LiveErrorKind> {
        self.sent += 1;
        let id = self.sent;
        let request = match arguments {
            Some(arguments) => json!({"execute": command, "arguments": arguments, "id": id}),
            None => json!({"execute": command, "id": id}),
        };
        self.send(&request).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => LiveErrorKind::Closed,
            _ => LiveErrorKind::io(format!("sending `{command}`"))(error),
        })?;
        let within = self.patience.answer;
        let deadline = Instant::now() + within;
        loop {
            let late = || LiveErrorKind::NoAnswer {
                command: command.to_owned(),
                within,
            };
            let mut message = self.message(deadline, "an answer", late)?;
            if message.get("id").is_some_and(|of| of.as_u64() != Some(id)) {
                continue;
            }
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = message.get("error") {
                let why = error.get("desc").and_then(Value::as_str);
                let why = why.map_or_else(|| error.to_string(), str::to_owned);
                return Err(LiveErrorKind::Refused {
                    command: command.to_owned(),
                    why: excerpt(why.as_bytes()),
                });
            }
            if message.get("event").is_none() {
                return Err(not_qmp("an answer", message.to_string().as_bytes()));
            }
        }
    }

    /// Executes a command of the human monitor.
    pub(super) fn monitor(&mut self, command: &str) -> Result<String, LiveErrorKind> {
        let arguments = json!({"command-line": command});
        match self.execute("human-monitor-command", Some(arguments))? {
            Value::String(text) => Ok(text),
            other => Err(not_qmp("text", other.to_string().as_bytes())),
        }
    }

    /// Whether the guest runs, and its state in QEMU's words.
    pub(super) fn status(&mut self) -> Result<(bool, String), LiveErrorKind> {
        let answer = self.execute("query-status", None)?;
        let running = answer.get("running").and_then(Value::as_bool);
        let status = answer.get("status").and_then(Value::as_str);
        match (running, status) {
            (Some(running), Some(status)) => Ok((running, excerpt(status.as_bytes()))),
            _ => Err(not_qmp("a status", answer.to_string().as_bytes())),
        }
    }

    fn send(&mut self, request: &Value) -> io::Result<()> {
        self.stream.set_write_timeout(Some(self.patience.answer))?;
        self.stream.write_all(format!("{request}\n").as_bytes())
    }

    /// The next line, as JSON.
    fn message(
        &mut self,
        deadline: Instant,
        expected: &'static str,
        late: impl Fn() -> LiveErrorKind,
    ) -> Result<Value, LiveErrorKind> {
        loop {
            let unseen = &self.input[self.scanned..];
            if let Some(at) = memchr::memchr(b'\n', unseen) {
                let line: Vec<u8> = self.input.drain(..=self.scanned + at).collect();
                self.scanned = 0;
                return serde_json::from_slice(&line).map_err(|_| not_qmp(expected, &line));
            }
            self.scanned = self.input.len();
            // Other protocols greet with text that has no end of line.
            let is_json = self.input.first().is_none_or(|&byte| byte == b'{');
            if !is_json || self.input.len() > MAX_LINE {
                return Err(not_qmp(expected, &self.input));
            }
            self.receive(deadline, &late)?;
        }
    }

    /// Waits for more.
    fn receive(
        &mut self,
        deadline: Instant,
        late: &impl Fn() -> LiveErrorKind,
    ) -> Result<(), LiveErrorKind> {
        let reading = || LiveErrorKind::io("reading from the socket");
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late());
            }
            self.stream
                .set_read_timeout(Some(left))
                .map_err(reading())?;
            let before = self.input.len();
            self.input.resize(before + CHUNK, 0);
            let got = self.stream.read(&mut self.input[before..]);
            self.input
                .truncate(before + got.as_ref().map_or(0, |&got| got));
            match got {
                Ok(0) => return Err(LiveErrorKind::Closed),
                Ok(_) => return Ok(()),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionReset => return Err(LiveErrorKind::Closed),
                    _ => return Err(reading()(error)),
                },
            }
        }
    }
}

fn not_qmp(expected: &'static str, found: &[u8]) -> LiveErrorKind {
    LiveErrorKind::NotQmp {
        expected,
        found: excerpt(found.trim_ascii()),
    }
}
