//! Running guests: the physical memory of an unmodified QEMU (KVM or emulation), found by its QMP
//! socket.
//!
//! ```text
//! socket ──> peer's process ──> /proc/PID/maps ──> file shared by QEMU, or QEMU's process
//!    └─────> info mtree -f ───> gpa2hva ─────────────┘
//! ```
//!
//! * **The layout comes from QEMU** ([`mtree`]), each piece checked with `gpa2hva` at both ends and with what
//!   the process has mapped, and never from the size of anything. RAM is what memory backends made. Firmware,
//!   devices and their memory are no part of it: reading there faults with [`Cause::Absent`].
//! * **Bytes are copied by the kernel**: `pread` where QEMU shares its RAM in a file, `process_vm_readv`
//!   elsewhere ([`backing`]). There is no mapping, so a file that is cut cannot raise SIGBUS, pages that the guest
//!   never touched are not allocated by looking at them, and there is nothing to lend: neither
//!   [`Memory::borrow`] nor [`Memory::view`] answer.
//! * **A guest that quits is an error.** Every read ends with a look at whether QEMU's process still runs
//!   (by a pidfd, so a number that came to mean another process is not mistaken for it), and faults
//!   with [`Cause::Gone`] when it does not, also where the file with its RAM is still there.
//! * **Others keep their monitors.** QEMU serves one client at a time on a socket, so the connection ends
//!   when the layout and the registers are known, some milliseconds after it began. Only while a guest is
//!   [`Paused`] it is held.
//!
//! The layout and the registers are those of the moment of opening. Where memory is plugged in or out while a
//! guest is looked at, [`LiveGuest::recheck`] tells.

mod backing;
mod error;
mod mtree;
mod pause;
mod qmp;
mod registers;
mod sys;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::addr::{AddrRange, Address, Gpa};
use crate::arch::x86::CpuState;
use crate::memory::{Cause, Fault, Memory, Prot, Span, SpanKind, Spans, Whole};

pub use error::{LiveError, LiveErrorKind};
use mtree::Section;
pub use pause::Paused;
use qmp::{Patience, Qmp};
use sys::Process;

/// What is known about a live guest.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LiveInfo {
    /// QEMU's process.
    pub pid: u32,
    /// The guest's RAM, ascending, adjacent ranges merged.
    pub ranges: Vec<AddrRange<Gpa>>,
    /// The CPUs at the moment of opening. Those of a guest that runs are not all of one moment.
    pub cpus: Vec<CpuState>,
    /// Whether the guest ran at that moment.
    pub running: bool,
    /// Bytes of RAM that are read from files which QEMU shares; the others come from its process.
    pub shared: u64,
}

/// The physical memory of a running guest. See the module documentation.
///
/// Reading costs a system call, and another one to see that QEMU is still there: about a microsecond besides
/// the copy.
#[derive(Debug)]
pub struct LiveGuest {
    socket: PathBuf,
    patience: Patience,
    process: Process,
    files: Vec<File>,
    pieces: Vec<Piece>,
    /// As QEMU said at first.
    layout: Layout,
    info: LiveInfo,
}

/// A run of RAM that is read in one piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Piece {
    first: u64,
    last: u64,
    from: Backing,
}

/// Where a piece begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Backing {
    /// At an offset of one of the files.
    File { index: usize, offset: u64 },
    /// At an address of QEMU's process.
    Process { hva: u64 },
}

impl Backing {
    /// Whether `next` goes on `len` bytes behind.
    fn continues(self, len: u64, next: Self) -> bool {
        match (self, next) {
            (
                Self::File { index, offset },
                Self::File {
                    index: next,
                    offset: at,
                },
            ) => index == next && offset.checked_add(len) == Some(at),
            (Self::Process { hva }, Self::Process { hva: at }) => hva.checked_add(len) == Some(at),
            _ => false,
        }
    }
}

/// QEMU's answers about the layout: the sections, and where each begins in the process.
type Layout = Vec<(Section, u64)>;

impl LiveGuest {
    /// Connects to QEMU, asks for the layout of its guest's memory and for its CPUs, and disconnects.
    ///
    /// Cost: some milliseconds; up to half a minute for each answer of a QEMU that is stuck, and five seconds for
    /// its greeting.
    ///
    /// # Errors
    ///
    /// When there is no QEMU behind the socket, when it serves another client, when its answers make no sense,
    /// and when its process may not be looked at.
    pub fn open(socket: impl AsRef<Path>) -> Result<Self, LiveError> {
        let socket = socket.as_ref();
        Self::open_patiently(socket, Patience::default()).map_err(|kind| LiveError {
            socket: socket.to_owned(),
            kind,
        })
    }

    fn open_patiently(socket: &Path, patience: Patience) -> Result<Self, LiveErrorKind> {
        let mut qmp = Qmp::connect(socket, patience)?;
        Self::over(&mut qmp, socket, patience)
    }

    /// Asks over a connection.
    fn over(qmp: &mut Qmp, socket: &Path, patience: Patience) -> Result<Self, LiveErrorKind> {
        let pid = qmp.peer()?;
        let process = Process::open(pid).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => LiveErrorKind::Gone { pid },
            _ => LiveErrorKind::io("getting hold of QEMU's process")(error),
        })?;
        // That the socket still answers says that the process held is the one that listens.
        let (running, _) = qmp.status()?;
        let layout = ask_layout(qmp)?;
        let cpus = registers::parse(&qmp.monitor("info registers -a")?);
        let (files, pieces) = locate(&process, &layout)?;
        let shared = pieces
            .iter()
            .filter(|piece| matches!(piece.from, Backing::File { .. }))
            .fold(0_u64, |sum, piece| {
                sum.saturating_add(piece.last - piece.first)
                    .saturating_add(1)
            });
        let guest = Self {
            socket: socket.to_owned(),
            patience,
            info: LiveInfo {
                pid,
                ranges: ranges(&pieces),
                cpus,
                running,
                shared,
            },
            process,
            files,
            pieces,
            layout,
        };
        guest.try_each_piece()?;
        Ok(guest)
    }

    /// Reads a byte of each piece, so that missing privileges are known now and not as a guest without memory.
    fn try_each_piece(&self) -> Result<(), LiveErrorKind> {
        let pid = self.process.pid;
        for piece in &self.pieces {
            let Err(fault) = self.read(Gpa(piece.first), &mut [0]) else {
                continue;
            };
            return Err(match fault.cause {
                Cause::Gone => LiveErrorKind::Gone { pid },
                Cause::Io { errno } if errno == libc::EPERM => LiveErrorKind::Permission {
                    pid,
                    doing: "reading its memory",
                    source: io::Error::from_raw_os_error(errno),
                },
                cause => LiveErrorKind::Layout(format!(
                    "{} should be RAM, but reading it fails: {cause}",
                    fault.addr
                )),
            });
        }
        Ok(())
    }

    /// What is known about the guest.
    pub fn info(&self) -> &LiveInfo {
        &self.info
    }

    /// The socket by which it was found.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether QEMU's process still runs. Cost: one system call.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// Asks QEMU again for the layout and answers whether it is what it was when the guest was opened. If not,
    /// what was read in between may be of memory that is no longer the guest's.
    ///
    /// Cost: as [`LiveGuest::open`]. Not to be called while the guest is [`Paused`] through the same socket: QEMU
    /// would not answer, and nothing can change.
    ///
    /// # Errors
    ///
    /// As [`LiveGuest::open`].
    pub fn recheck(&self) -> Result<bool, LiveError> {
        let ask = || {
            if !self.is_alive() {
                let pid = self.process.pid;
                return Err(LiveErrorKind::Gone { pid });
            }
            let mut qmp = Qmp::connect(&self.socket, self.patience)?;
            Ok(qmp.peer()? == self.process.pid && ask_layout(&mut qmp)? == self.layout)
        };
        ask().map_err(|kind| LiveError {
            socket: self.socket.clone(),
            kind,
        })
    }

    /// The index of the piece that holds an address, or of the first one behind it.
    fn find(&self, gpa: u64) -> usize {
        self.pieces.partition_point(|piece| piece.last < gpa)
    }

    /// Copies from one piece, `skip` bytes behind its beginning.
    fn read_piece(&self, piece: &Piece, skip: u64, buf: &mut [u8]) -> Result<(), (usize, Cause)> {
        let mut done = 0;
        while done < buf.len() {
            let at = skip + done as u64;
            let got = match piece.from {
                // Neither sum wraps: `locate` has seen the ends.
                Backing::File { index, offset } => {
                    match self.files[index].read_at(&mut buf[done..], offset + at) {
                        // The file was cut.
                        Ok(0) => Err(Cause::Truncated {
                            gpa: Gpa(piece.first + at),
                            offset: offset + at,
                        }),
                        other => other.map_err(|error| io_cause(&error)),
                    }
                }
                Backing::Process { hva } => match self.process.read(hva + at, &mut buf[done..]) {
                    Ok(0) => Err(Cause::Io {
                        errno: libc::EFAULT,
                    }),
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(Cause::Gone),
                    other => other.map_err(|error| io_cause(&error)),
                },
            };
            match got {
                Ok(got) => done += got,
                Err(Cause::Io { errno }) if errno == libc::EINTR => {}
                Err(cause) => return Err((done, cause)),
            }
        }
        Ok(())
    }

    /// Copies, without asking whether the guest is still there.
    fn copy(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let mut done = 0;
        let mut index = self.find(addr.0);
        while done < buf.len() {
            let absent = |gpa| Fault {
                addr: gpa,
                cause: Cause::Absent { gpa },
            };
            let here = addr
                .checked_add(done as u64)
                .ok_or_else(|| absent(Gpa(u64::MAX)))?;
            let piece = self.pieces.get(index).filter(|piece| piece.first <= here.0);
            let piece = piece.ok_or_else(|| absent(here))?;
            let rest = &mut buf[done..];
            let behind = (piece.last - here.0).saturating_add(1);
            let len = usize::try_from(behind).map_or(rest.len(), |n| n.min(rest.len()));
            self.read_piece(piece, here.0 - piece.first, &mut rest[..len])
                .map_err(|(got, cause)| Fault {
                    addr: Gpa(here.0 + got as u64),
                    cause,
                })?;
            done += len;
            index += 1;
        }
        Ok(())
    }
}

impl Whole for LiveGuest {}

impl Memory for LiveGuest {
    type Addr = Gpa;

    fn spans(&self, range: AddrRange<Gpa>) -> Spans<'_, Gpa> {
        let within = move |ram: &AddrRange<Gpa>| {
            let first = ram.start().max(range.start());
            let last = ram.last().min(range.last());
            // All of the 64-bit space but one byte is no RAM, so the length fits.
            let len = (first <= last).then(|| (last.0 - first.0).saturating_add(1))?;
            Some(Span {
                start: first,
                len,
                kind: SpanKind::Mapped(Prot::RWX),
            })
        };
        Box::new(self.info.ranges.iter().filter_map(within))
    }

    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        if buf.is_empty() {
            return Ok(());
        }
        let copied = self.copy(addr, buf);
        // Afterwards: what was copied is the guest's if it still runs now.
        if !self.process.is_alive() {
            let cause = Cause::Gone;
            return Err(Fault { addr, cause });
        }
        copied
    }
}

fn io_cause(error: &io::Error) -> Cause {
    Cause::Io {
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    }
}

/// Asks QEMU where its RAM is, and checks that it says the same in two ways.
fn ask_layout(qmp: &mut Qmp) -> Result<Layout, LiveErrorKind> {
    let sections =
        mtree::parse(&qmp.monitor("info mtree -f -o")?).map_err(LiveErrorKind::Layout)?;
    let mut layout = Layout::with_capacity(sections.len());
    for section in sections {
        let mut ask = |gpa: u64| -> Result<u64, LiveErrorKind> {
            let answer = qmp.monitor(&format!("gpa2hva {gpa:#x}"))?;
            match mtree::parse_hva(&answer) {
                Some((block, hva)) if block == section.block => Ok(hva),
                _ => Err(LiveErrorKind::Layout(format!(
                    "`info mtree -f` puts {} at {gpa:#x}, but `gpa2hva` answers `{}`",
                    section.block.escape_debug(),
                    error::excerpt(answer.trim().as_bytes())
                ))),
            }
        };
        let first = ask(section.first)?;
        let last = ask(section.last)?;
        if last.checked_sub(first) != Some(section.last - section.first) {
            return Err(LiveErrorKind::Layout(format!(
                "{} is not in one piece: {:#x} is at {first:#x} in QEMU's process, {:#x} at {last:#x}",
                section.block.escape_debug(),
                section.first,
                section.last
            )));
        }
        layout.push((section, first));
    }
    Ok(layout)
}

/// Finds out where the bytes of each section are.
fn locate(process: &Process, layout: &Layout) -> Result<(Vec<File>, Vec<Piece>), LiveErrorKind> {
    let mappings = backing::mappings(process.pid)?;
    let mut files = Vec::new();
    // The mappings that were looked at, with the number of the file that was opened.
    let mut known: Vec<(&backing::Mapping, Option<usize>)> = Vec::new();
    let mut pieces: Vec<Piece> = Vec::new();
    for (section, hva) in layout {
        let (hva, len) = (*hva, (section.last - section.first).saturating_add(1));
        let from = match backing::behind(&mappings, hva, len) {
            backing::Found::Hole => {
                return Err(LiveErrorKind::Layout(format!(
                    "{} should be at {hva:#x} in process {}, where nothing is mapped; is it QEMU's?",
                    section.block.escape_debug(),
                    process.pid
                )));
            }
            backing::Found::Process => Backing::Process { hva },
            backing::Found::Shared(mapping, offset) => {
                let seen = known.iter().find(|(seen, _)| *seen == mapping);
                let index = seen.map(|(_, index)| *index).unwrap_or_else(|| {
                    let file = backing::open(process.pid, mapping);
                    let index = file.map(|file| {
                        files.push(file);
                        files.len() - 1
                    });
                    known.push((mapping, index));
                    index
                });
                let reaches = |index: &usize| {
                    let end = offset.checked_add(len);
                    let size = files[*index].metadata().map_or(0, |file| file.len());
                    end.is_some_and(|end| end <= size)
                };
                match index.filter(reaches) {
                    Some(index) => Backing::File { index, offset },
                    None => Backing::Process { hva },
                }
            }
        };
        let piece = Piece {
            first: section.first,
            last: section.last,
            from,
        };
        match pieces.last_mut() {
            // Parts of one block that differ in kind only.
            Some(before)
                if before.last.checked_add(1) == Some(piece.first)
                    && before
                        .from
                        .continues((before.last - before.first).saturating_add(1), from) =>
            {
                before.last = piece.last;
            }
            _ => pieces.push(piece),
        }
    }
    Ok((files, pieces))
}

/// The pieces as ranges, adjacent ones merged.
fn ranges(pieces: &[Piece]) -> Vec<AddrRange<Gpa>> {
    let mut bounds: Vec<(u64, u64)> = Vec::new();
    for piece in pieces {
        match bounds.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(piece.first) => *last = piece.last,
            _ => bounds.push((piece.first, piece.last)),
        }
    }
    bounds
        .into_iter()
        .filter_map(|(first, last)| AddrRange::inclusive(Gpa(first), Gpa(last)))
        .collect()
}
