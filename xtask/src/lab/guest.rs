//! A running guest: the QEMU process, its sockets and its RAM files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vmie_lab::qemu::Registers;

use super::initramfs::Tree;
use super::kernel::Kernel;
use super::qmp::{Qmp, base64};
use super::variant::Variant;
use super::witness::{Round, Witness};
use crate::Fallible;

/// RAM in one piece as QEMU sees it: all of it, or that of a NUMA node.
pub(crate) struct Block {
    /// By which `info mtree` shows where it is mapped.
    pub(crate) name: String,
    /// The file it is in, if QEMU shares it; in the guest's folder.
    file: String,
    /// Length in bytes.
    pub(crate) len: u64,
}

/// From power-on to READY takes about 10 s; a busy machine may need many times that.
const BOOT_PATIENCE: Duration = Duration::from_secs(600);

/// The machine type with its options. With ACPI a kernel takes a microvm for one without the old timer,
/// and then emulation offers it none to measure its clock by: it waits for ever.
fn machine(variant: &Variant) -> &'static str {
    match variant.machine {
        "microvm" => "microvm,acpi=off",
        machine => machine,
    }
}

/// A guest that runs. Dropping it ends QEMU; so does the end of this process, however it comes.
pub(crate) struct Guest {
    pub(crate) variant: Variant,
    pub(crate) qmp: Qmp,
    pub(crate) witness: Witness,
    /// QEMU's command line.
    pub(crate) command: Vec<String>,
    child: Child,
    dir: PathBuf,
}

impl Guest {
    /// Starts a guest in `dir`, which is emptied before.
    pub(crate) fn start(
        variant: &Variant,
        kernel: &Kernel,
        tree: &Tree,
        dir: &Path,
    ) -> Fallible<Self> {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir)?;
        let dir = fs::canonicalize(dir)?;
        fs::write(dir.join("initramfs"), tree.archive())?;

        let blocks = blocks(variant);
        // A guest that panics by accident ends QEMU at once; one that shall panic stays as it is.
        let panic = if variant.panics {
            "panic=0 unknown_nmi_panic=1"
        } else {
            "panic=-1"
        };
        let append = format!("console=ttyS0 quiet {panic} {}", variant.append);
        let mut args: Vec<String> = [
            // A KVM device may exist and not work; emulation always does. One thread for all CPUs:
            // with a thread each, a kernel on a busy host has died of executing the breakpoint it
            // patches its own code with ("Oops: int3").
            "-accel",
            "tcg,thread=single",
            "-machine",
            &match &blocks[..] {
                [block] => format!("{},memory-backend={}", machine(variant), block.name),
                _ => machine(variant).to_owned(),
            },
            "-m",
            &format!("{}M", variant.ram_mib),
            "-smp",
            &variant.cpus.to_string(),
            "-kernel",
            &kernel.vmlinuz().to_string_lossy(),
            "-initrd",
            "initramfs",
            "-append",
            append.trim_end(),
            "-display",
            "none",
            "-vga",
            "none",
            "-nic",
            "none",
            "-no-reboot",
            "-serial",
            "file:console.log",
            // The guest's report goes into a buffer in QEMU, because a file chardev makes one system
            // call for each byte.
            "-chardev",
            "ringbuf,id=witness,size=16M",
            "-device",
            "isa-debugcon,iobase=0xe9,chardev=witness",
            // QEMU serves one client at a time on a socket: one is ours, one is for users, and one for
            // whoever wants to watch while the second is taken.
            "-qmp",
            "unix:control,server=on,wait=off",
            "-qmp",
            "unix:qmp,server=on,wait=off",
            "-qmp",
            "unix:watch,server=on,wait=off",
        ]
        .map(str::to_owned)
        .to_vec();
        for block in &blocks {
            let Block { name, file, len } = block;
            let backend = match variant.shares {
                true => {
                    format!("memory-backend-file,id={name},size={len},mem-path={file},share=on")
                }
                false => format!("memory-backend-ram,id={name},size={len}"),
            };
            args.extend(["-object".to_owned(), backend]);
        }
        if let [first, second] = &blocks[..] {
            let cpus = variant.cpus - 1;
            let nodes = [
                format!("node,nodeid=0,cpus=0-{cpus},memdev={}", first.name),
                format!("node,nodeid=1,memdev={}", second.name),
            ];
            args.extend(
                nodes
                    .into_iter()
                    .flat_map(|node| ["-numa".to_owned(), node]),
            );
        }
        if let Some(cpu) = variant.cpu {
            args.extend(["-cpu".to_owned(), cpu.to_owned()]);
        }
        let mut command = vec!["qemu-system-x86_64".to_owned()];
        command.append(&mut args);

        // The kernel ends QEMU when we end, even when we are killed.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(&command)
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("qemu.log"))?)
            .spawn()
            .map_err(|error| format!("cannot run setpriv: {error}"))?;
        let qmp = connect(&dir).map_err(|error| {
            let _ = child.kill();
            let _ = child.wait();
            let log = fs::read_to_string(dir.join("qemu.log")).unwrap_or_default();
            format!("QEMU does not start: {error}\n{log}")
        })?;
        Ok(Self {
            variant: variant.clone(),
            qmp,
            witness: Witness::default(),
            command,
            child,
            dir,
        })
    }

    /// The guest's RAM; one behind the other, with `layout` of the machine's type, its blocks are a raw image.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        blocks(&self.variant)
    }

    /// The file of one of them.
    pub(crate) fn ram(&self, block: &Block) -> PathBuf {
        self.dir.join(&block.file)
    }

    /// The QMP socket for others.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("qmp")
    }

    /// What the guest wrote to its console.
    pub(crate) fn console(&self) -> String {
        let bytes = fs::read(self.dir.join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until all programs have reported and the witness has seen the same twice.
    pub(crate) fn wait_until_ready(&mut self) -> Fallible<()> {
        let deadline = Instant::now() + BOOT_PATIENCE;
        loop {
            self.listen()?;
            let console = self.console();
            if console.contains("vmie-lab: READY") {
                self.listen()?;
                if self.witness.errors.is_empty() {
                    return Ok(());
                }
                return Err(self.failure(&format!(
                    "reports errors: {}",
                    self.witness.errors.join("; ")
                )));
            }
            if console.contains("vmie-lab: FAILED") || console.contains("Kernel panic") {
                return Err(self.failure("has failed"));
            }
            if Instant::now() > deadline {
                return Err(self.failure(&format!("is not ready after {BOOT_PATIENCE:?}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The files that the witness has sent, by names that begin so.
    pub(crate) fn files(&self, under: &str) -> impl Iterator<Item = (&str, &[u8])> {
        let files = self.witness.files.iter();
        files
            .filter(move |(name, _)| name.starts_with(under))
            .map(|(name, text)| (name.as_str(), &text[..]))
    }

    /// Takes in what the witness has sent.
    pub(crate) fn listen(&mut self) -> Fallible<()> {
        if let Some(status) = self.child.try_wait()? {
            return Err(self.failure(&format!("has ended: {status}")));
        }
        loop {
            let answer = self.execute(
                "ringbuf-read",
                json!({"device": "witness", "size": 1 << 20, "format": "base64"}),
            )?;
            let bytes = base64(answer.as_str().unwrap_or_default())?;
            if bytes.is_empty() {
                return Ok(());
            }
            self.witness.feed(&bytes)?;
        }
    }

    /// Lets the guest run until its witness has completed `count` more rounds, and returns the last.
    pub(crate) fn rounds(&mut self, count: u64) -> Fallible<Round> {
        let deadline = Instant::now() + BOOT_PATIENCE;
        self.listen()?;
        let number = |round: Option<Round>| round.map_or(0, |round| round.number);
        let before = number(self.witness.last);
        loop {
            self.listen()?;
            match self.witness.last {
                Some(round) if round.number >= before + count => return Ok(round),
                _ if Instant::now() > deadline => return Err(self.failure("no longer reports")),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Executes a QMP command. When QEMU has gone away, the guest's console says why.
    fn execute(&mut self, command: &str, arguments: Value) -> Fallible<Value> {
        self.qmp
            .execute(command, arguments)
            .map_err(|error| self.failure(&format!("does not answer: {error}")))
    }

    /// Stops all CPUs.
    pub(crate) fn stop(&mut self) -> Fallible<()> {
        self.execute("stop", json!({})).map(drop)
    }

    /// Lets all CPUs run.
    pub(crate) fn resume(&mut self) -> Fallible<()> {
        self.execute("cont", json!({})).map(drop)
    }

    /// Makes a stopped guest's kernel panic, in whatever it is doing, and stops it again.
    pub(crate) fn panic(&mut self) -> Fallible<()> {
        self.execute("inject-nmi", json!({}))?;
        self.resume()?;
        let deadline = Instant::now() + BOOT_PATIENCE;
        // The last line of a panic.
        while !self.console().contains("---[ end Kernel panic") {
            if Instant::now() > deadline {
                return Err(self.failure("does not panic when told to"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.stop()
    }

    /// Registers of all CPUs.
    pub(crate) fn registers(&mut self) -> Fallible<Vec<Registers>> {
        (0..self.variant.cpus)
            .map(|cpu| {
                let text = self.qmp.monitor("info registers", cpu)?;
                Ok(Registers::parse(cpu, &text)?)
            })
            .collect()
    }

    /// Waits for QEMU to end by itself, on Ctrl-C for instance.
    pub(crate) fn wait(&mut self) -> Fallible<()> {
        self.child.wait()?;
        Ok(())
    }

    /// An error with the end of the console, where the reason usually stands.
    fn failure(&self, what: &str) -> Box<dyn std::error::Error> {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        let tail = lines[lines.len().saturating_sub(25)..].join("\n");
        let log = fs::read_to_string(self.dir.join("qemu.log")).unwrap_or_default();
        format!(
            "guest {} {what}\n--- end of its console ({}) ---\n{tail}\n--- QEMU ---\n{log}",
            self.variant.name,
            self.dir.join("console.log").display()
        )
        .into()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The RAM of a guest, in the order of its physical addresses.
fn blocks(variant: &Variant) -> Vec<Block> {
    let block = |suffix: &str, mib: u64| Block {
        name: format!("vmie-ram{suffix}"),
        file: format!("ram{suffix}"),
        len: mib << 20,
    };
    match variant.second_node_mib {
        0 => vec![block("", variant.ram_mib)],
        second => vec![block("0", variant.ram_mib - second), block("1", second)],
    }
}

/// Connects to the socket in `dir`. A socket's path may have 107 bytes at most, so it is reached
/// through the directory's descriptor.
fn connect(dir: &Path) -> Fallible<Qmp> {
    use std::os::fd::AsRawFd;
    let handle = File::open(dir)?;
    Qmp::connect(Path::new(&format!(
        "/proc/self/fd/{}/control",
        handle.as_raw_fd()
    )))
}
