//! QEMU's machine protocol: JSON lines over a Unix socket (QEMU's `docs/interop/qmp-spec`).
//!
//! Every call has a deadline. Events are skipped: what we wait for we ask for.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Fallible;

/// A connection on which commands can be executed.
pub(crate) struct Qmp {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    /// A line that has arrived in part.
    line: Vec<u8>,
}

/// Long enough for anything but copying memory, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

impl Qmp {
    /// Connects and negotiates capabilities. The socket appears shortly after QEMU starts.
    pub(crate) fn connect(socket: &Path) -> Fallible<Self> {
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => {
                    return Err(format!("{}: {error}", socket.display()).into());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let reader = BufReader::with_capacity(1 << 16, stream.try_clone()?);
        let mut qmp = Self {
            stream,
            reader,
            line: Vec::new(),
        };
        let greeting = qmp.message(deadline)?;
        if greeting.get("QMP").is_none() {
            return Err(format!("not QEMU's greeting: {greeting}").into());
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and returns its answer.
    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Fallible<Value> {
        self.execute_within(command, arguments, PATIENCE)
    }

    /// As [`Qmp::execute`], for commands that take long.
    pub(crate) fn execute_within(
        &mut self,
        command: &str,
        arguments: Value,
        patience: Duration,
    ) -> Fallible<Value> {
        let deadline = Instant::now() + patience;
        let request = json!({"execute": command, "arguments": arguments});
        self.stream.write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut message = self
                .message(deadline)
                .map_err(|error| format!("{command}: {error}"))?;
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = message.get("error") {
                return Err(format!("QEMU refused {request}: {error}").into());
            }
        }
    }

    /// Executes a command of the human monitor as seen from one CPU.
    pub(crate) fn monitor(&mut self, command: &str, cpu: u32) -> Fallible<String> {
        let answer = self.execute(
            "human-monitor-command",
            json!({"command-line": command, "cpu-index": cpu}),
        )?;
        match answer {
            Value::String(text) => Ok(text),
            other => Err(format!("{command}: expected text, got {other}").into()),
        }
    }

    fn message(&mut self, deadline: Instant) -> Fallible<Value> {
        loop {
            // What arrived before a timeout stays in `line`.
            match self.reader.read_until(b'\n', &mut self.line) {
                Ok(0) => return Err("QEMU has closed the connection".into()),
                Ok(_) if self.line.ends_with(b"\n") => {
                    let message = serde_json::from_slice(&self.line)?;
                    self.line.clear();
                    return Ok(message);
                }
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if Instant::now() > deadline {
                        return Err("no answer from QEMU in time".into());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Decodes base64 (RFC 4648, section 4), in which QEMU hands out binary data.
pub(crate) fn base64(text: &str) -> Fallible<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for &digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return Err(format!("not base64: byte {digit:#x}").into()),
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - group.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(base64(text).expect("valid"), bytes.as_bytes());
        }
        assert!(base64("Zm 9v").is_err());
    }
}
