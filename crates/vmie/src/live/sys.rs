//! The system calls that the standard library does not offer: all the `unsafe` of live guests.
//!
//! Nothing here maps or points into memory of the guest. Its bytes are copied by the kernel
//! (`pread`, `process_vm_readv`), which answers with an error where an access of our own would raise
//! SIGBUS or SIGSEGV.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Turns the answer of a system call into a result.
fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

/// Connects to a Unix socket, or says at once that it cannot be done now (`WouldBlock`): where others
/// wait in front of us, the standard library's `connect` waits for ever.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: a plain system call.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, flags, 0) })?;
    // SAFETY: the descriptor was just made and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: `sockaddr_un` is plain integers, for which zeros are valid.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() {
        let most = address.sun_path.len() - 1;
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the path of a socket has at most {most} bytes; try a relative one or a link"),
        ));
    }
    for (to, &from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from as libc::c_char;
    }
    let len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    let pointer = (&raw const address).cast::<libc::sockaddr>();
    // SAFETY: `pointer` leads to `len` bytes of an address that lives until the call returns.
    check(unsafe { libc::connect(fd.as_raw_fd(), pointer, len) })?;
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The process that listens at the other end; 0 where it is not to be seen from here.
pub(super) fn peer(stream: &UnixStream) -> io::Result<u32> {
    let mut creds = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which is what `creds` has.
    check(unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut creds).cast(),
            &raw mut len,
        )
    })?;
    Ok(u32::try_from(creds.pid).unwrap_or(0))
}

/// A process, held so that its number cannot come to mean another unnoticed.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    fd: OwnedFd,
}

impl Process {
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: a plain system call.
        let answer = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = check(libc::c_int::try_from(answer).unwrap_or(-1))?;
        // SAFETY: the descriptor was just made and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { pid, fd })
    }

    /// Whether the process still runs. Cost: one system call.
    pub(super) fn is_alive(&self) -> bool {
        // The descriptor becomes readable when the process ends.
        !readable(self.fd.as_fd())
    }

    /// Copies memory of the process, answering how many bytes it got; fewer than asked for when a page
    /// behind them cannot be read, and an error when the first one cannot.
    ///
    /// The number may be another process's by now: what was read counts only if the process
    /// [is alive](Self::is_alive) afterwards.
    pub(super) fn read(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let Ok(at) = usize::try_from(at) else {
            return Err(io::Error::from_raw_os_error(libc::EFAULT));
        };
        let local = libc::iovec {
            iov_base: buf.as_mut_ptr().cast(),
            iov_len: buf.len(),
        };
        let remote = libc::iovec {
            iov_base: std::ptr::without_provenance_mut(at),
            iov_len: buf.len(),
        };
        let pid = self.pid as libc::pid_t;
        // SAFETY: the kernel writes into `buf` only, which is exclusively ours; the other address is the
        // other process's, and the kernel checks it.
        let got =
            unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }
}

/// Whether a descriptor has something to read, or has come to its end.
fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry, which lives until the call returns; it does not wait.
    let answer = unsafe { libc::poll(&raw mut poll, 1, 0) };
    answer > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_process_is_copied_and_what_is_not_there_is_an_error() {
        let me = Process::open(std::process::id()).expect("we run");
        let bytes: Vec<u8> = (0..=255).collect();
        let mut copy = vec![0; 256];
        let at = bytes.as_ptr().addr() as u64;
        assert_eq!(me.read(at, &mut copy).expect("ours"), 256);
        assert_eq!(copy, bytes);
        let error = me.read(8, &mut copy).expect_err("nothing is mapped there");
        assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
        assert!(me.is_alive());
    }

    #[test]
    fn the_end_of_a_process_is_seen() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("there is a sleep");
        let process = Process::open(child.id()).expect("it runs");
        assert!(process.is_alive());
        child.kill().expect("it can be ended");
        child.wait().expect("it ends");
        assert!(!process.is_alive());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_said() {
        let error = connect(Path::new(&"x".repeat(200))).expect_err("too long");
        assert!(error.to_string().contains("at most 107 bytes"), "{error}");
    }
}
