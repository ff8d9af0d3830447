//! A QEMU that is none: it speaks QMP from a thread of this process, and its RAM is this process's.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

pub(super) const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": []}}"#;

/// What a command is answered with.
pub(super) enum Answer {
    Return(Value),
    Error(&'static str),
    /// These bytes as they are.
    Raw(Vec<u8>),
    Silence,
    Close,
}

/// A server and what it was asked for.
pub(super) struct Fake {
    dir: tempfile::TempDir,
    log: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Serves one client after the other. A command of the human monitor is asked for by its own name.
    pub(super) fn new(
        greeting: &'static str,
        mut answer: impl FnMut(&str) -> Answer + Send + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("qmp")).expect("a socket");
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&log);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                // A client that goes away is nothing to us.
                let _ = serve(&client, greeting, &mut answer, &seen);
            }
        });
        Self { dir, log }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("qmp")
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The commands so far, without negotiation.
    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic").clone()
    }
}

fn serve(
    client: &UnixStream,
    greeting: &str,
    answer: &mut dyn FnMut(&str) -> Answer,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut out = client;
    out.write_all(greeting.as_bytes())?;
    if !greeting.is_empty() {
        out.write_all(b"\r\n")?;
    }
    for line in BufReader::new(client).lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let id = &request["id"];
        let command = match request["execute"].as_str() {
            Some("qmp_capabilities") => {
                writeln!(out, "{}", json!({"return": {}, "id": id}))?;
                continue;
            }
            Some("human-monitor-command") => request["arguments"]["command-line"].as_str(),
            other => other,
        };
        let command = command.expect("a command");
        log.lock().expect("no panic").push(command.to_owned());
        match answer(command) {
            Answer::Return(value) => writeln!(out, "{}", json!({"return": value, "id": id}))?,
            Answer::Error(why) => {
                let error = json!({"class": "GenericError", "desc": why});
                writeln!(out, "{}", json!({"error": error, "id": id}))?;
            }
            Answer::Raw(bytes) => out.write_all(&bytes)?,
            Answer::Silence => {}
            Answer::Close => return client.shutdown(std::net::Shutdown::Both),
        }
    }
    Ok(())
}

/// A machine whose RAM is at these addresses of this process: `(first, len, kind, hva)`.
#[derive(Clone)]
pub(super) struct Machine {
    pub(super) ram: Vec<(u64, u64, &'static str, u64)>,
    pub(super) running: bool,
}

impl Machine {
    pub(super) fn answer(&mut self, command: &str) -> Answer {
        let text = |text: String| Answer::Return(Value::String(text));
        if let Some(gpa) = command.strip_prefix("gpa2hva 0x") {
            let gpa = u64::from_str_radix(gpa, 16).expect("an address");
            let within =
                |(first, len, ..): &&(u64, u64, &str, u64)| gpa.wrapping_sub(*first) < *len;
            let (first, _, _, hva) = self.ram.iter().find(within).expect("asked for RAM only");
            let hva = hva + (gpa - first);
            return text(format!(
                "Host virtual address for {gpa:#x} (ram) is {hva:#x}\r\n"
            ));
        }
        match command {
            "query-status" => {
                let status = if self.running { "running" } else { "paused" };
                Answer::Return(json!({"running": self.running, "status": status}))
            }
            "stop" | "cont" => {
                self.running = command == "cont";
                Answer::Return(json!({}))
            }
            "info mtree -f -o" => text(self.mtree()),
            "info registers -a" => {
                text("\r\nCPU#0\r\nEIP=0000fff0 ESP=00000001\r\nCR0=00000011 CR2=0 CR3=00001000 CR4=00000020\r\n".to_owned())
            }
            other => panic!("{other}"),
        }
    }

    fn mtree(&self) -> String {
        let ram = |(first, len, kind, _): &(u64, u64, &str, u64)| {
            let last = first + (len - 1);
            format!(
                "  {first:016x}-{last:016x} (prio 0, {kind}): ram @{first:016x} owner:{{obj path=/objects/ram}}"
            )
        };
        let bios =
            "  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios parent:{obj path=/machine}";
        let low = self.ram.iter().filter(|ram| ram.0 >> 32 == 0).map(ram);
        let high = self.ram.iter().filter(|ram| ram.0 >> 32 != 0).map(ram);
        let lines: Vec<String> = low.chain([bios.to_owned()]).chain(high).collect();
        let head = "FlatView #0\r\n AS \"memory\", root: system";
        format!("{head}\r\n{}\r\n", lines.join("\r\n"))
    }
}
