//! The guests that `cargo xtask test` has left running, and the command on them.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A running guest. While one test stops or reads it, no other does.
pub(crate) struct Machine {
    pub(crate) dir: PathBuf,
    handle: File,
    _turn: MutexGuard<'static, ()>,
}

/// The socket is for one client, and a guest that is stopped is stopped for all.
static TURN: Mutex<()> = Mutex::new(());

impl Machine {
    pub(crate) fn new(name: &str) -> Self {
        let live = std::env::var_os("VMIE_LIVE");
        let live = live.expect("VMIE_LIVE is set by `cargo xtask test`, which boots the guests");
        let dir = PathBuf::from(live).join(name);
        let handle = File::open(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        Self {
            dir,
            handle,
            _turn: TURN.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// A socket by a path that is short enough wherever the directory is.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.handle.as_raw_fd()).into()
    }

    /// Executes a command on the monitor that nobody else uses.
    pub(crate) fn ask(&self, command: &str, arguments: Value) -> Value {
        let mut client = Client::connect(&self.socket("watch").display().to_string());
        client.ask("qmp_capabilities", json!({}));
        client.ask(command, arguments)
    }

    /// Whether the guest runs.
    pub(crate) fn runs(&self) -> bool {
        let status = self.ask("query-status", json!({}));
        status["running"].as_bool().expect("a status")
    }

    /// Stops the guest until the answer is dropped.
    pub(crate) fn stop(&self) -> Stopped<'_> {
        self.ask("stop", json!({}));
        Stopped(self)
    }

    /// Physical memory as QEMU writes it to a file.
    pub(crate) fn saved(&self, gpa: u64, len: u64) -> Vec<u8> {
        let path = self.dir.join("saved");
        self.ask(
            "pmemsave",
            json!({"val": gpa, "size": len, "filename": path}),
        );
        let bytes = std::fs::read(&path).expect("QEMU has written it");
        std::fs::remove_file(path).expect("it is there");
        assert_eq!(bytes.len() as u64, len);
        bytes
    }

    /// `vmie VERB qemu:qmp ARGS`, as a user would type it in the guest's directory.
    pub(crate) fn command(&self, verb: &str, args: &[&str]) -> Command {
        self.on("qemu:qmp", verb, args)
    }

    /// The same on another source.
    pub(crate) fn on(&self, source: &str, verb: &str, args: &[&str]) -> Command {
        let vmie = std::env::var_os("VMIE_BIN").expect("VMIE_BIN says where the command is");
        let vmie = std::fs::canonicalize(vmie).expect("the command is built");
        let mut command = Command::new(vmie);
        command.current_dir(&self.dir).args([verb, source]);
        command.args(args).args(["--output", "jsonl"]);
        command
    }
}

/// The guest runs on when this is dropped.
pub(crate) struct Stopped<'m>(&'m Machine);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.ask("cont", json!({}));
    }
}

/// What a command printed, after seeing to its status.
pub(crate) fn run(mut command: Command, status: i32) -> (String, String) {
    let Output {
        status: ended,
        stdout,
        stderr,
    } = command.output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let (out, err) = (text(stdout), text(stderr));
    assert_eq!(ended.code(), Some(status), "{command:?}: {err}");
    (out, err)
}

/// Waits until something holds, for as long as a busy machine may need.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A QMP client.
pub(crate) struct Client {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects, and takes in the greeting.
    pub(crate) fn connect(socket: &str) -> Self {
        let stream = UnixStream::connect(socket).expect("QEMU listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a timeout");
        let reader = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut client = Self { stream, reader };
        assert!(client.line()["QMP"].is_object());
        client
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).expect("JSON")
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Value {
        let request = json!({"execute": command, "arguments": arguments});
        writeln!(self.stream, "{request}").expect("sent");
        loop {
            let mut answer = self.line();
            assert!(answer["error"].is_null(), "{request}: {answer}");
            if let Some(value) = answer.get_mut("return") {
                return value.take();
            }
        }
    }
}
