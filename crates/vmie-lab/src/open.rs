//! What the guest's processes were given and hold open: environments, descriptors, sockets that listen.

use std::fs;
use std::path::Path;

use crate::{Error, Snapshot, read_text};

/// An open file of a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenFile {
    /// Its descriptor.
    pub fd: u32,
    /// Where `/proc/PID/fd/FD` leads: a path, `socket:[INODE]`, `pipe:[INODE]`.
    pub path: String,
}

/// A socket of the first network namespace to which others can connect or send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The file under `/proc/net` that lists it: `tcp`, `tcp6`, `udp`, `udp6`, `unix`.
    pub family: &'static str,
    /// Its address; a path for `unix`.
    pub address: String,
    /// Its port; 0 for `unix`.
    pub port: u16,
    /// Its inode, by which descriptors name it.
    pub inode: u64,
}

/// The states in which sockets of these files wait for others: `TCP_LISTEN`, and `TCP_CLOSE` of a bound UDP
/// socket that is not connected.
const FAMILIES: [(&str, &str); 4] = [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")];

/// `__SO_ACCEPTCON` of a Unix socket.
const ACCEPTS: u32 = 1 << 16;

impl Snapshot {
    /// The environment of a process, `NAME=VALUE` each; empty for kernel threads and zombies.
    ///
    /// # Errors
    ///
    /// When the snapshot has none: the process is not in it, or it is older than this.
    pub fn environment(&self, pid: u32) -> Result<Vec<String>, Error> {
        let path = self.path(format!("guest/proc/{pid}/environ"));
        let bytes = fs::read(&path).map_err(|error| Error::new(&path, error))?;
        let whole = bytes.split(|&byte| byte == 0).filter(|one| !one.is_empty());
        Ok(whole
            .map(|one| String::from_utf8_lossy(one).into_owned())
            .collect())
    }

    /// The open files of a process.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::environment`].
    pub fn open_files(&self, pid: u32) -> Result<Vec<OpenFile>, Error> {
        let path = self.path(format!("guest/proc/{pid}/fds"));
        let line = |line: &str| {
            let (fd, path) = line.split_once(' ')?;
            Some(OpenFile {
                fd: fd.parse().ok()?,
                path: path.to_owned(),
            })
        };
        parse(&path, &read_text(&path)?, line)
    }

    /// All sockets that listen.
    ///
    /// # Errors
    ///
    /// When a file is missing that every guest has, or one is not understood.
    pub fn listeners(&self) -> Result<Vec<Listener>, Error> {
        let mut listeners = Vec::new();
        for (family, state) in FAMILIES {
            let path = self.path("guest/proc/net").join(family);
            // Guests need not have IPv6.
            if family.ends_with('6') && !path.exists() {
                continue;
            }
            let text = read_text(&path)?;
            let rows = text.split_once('\n').map_or("", |(_, rows)| rows);
            let all = parse(&path, rows, |line| inet(family, line))?;
            let waits = all.into_iter().filter(|(found, _)| found == state);
            listeners.extend(waits.map(|(_, listener)| listener));
        }
        let path = self.path("guest/proc/net/unix");
        let text = read_text(&path)?;
        let rows = text.split_once('\n').map_or("", |(_, rows)| rows);
        listeners.extend(parse(&path, rows, unix)?.into_iter().flatten());
        Ok(listeners)
    }
}

fn parse<T>(path: &Path, text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Error> {
    text.lines()
        .map(|line| parse(line).ok_or_else(|| Error::new(path, format!("line {line:?}"))))
        .collect()
}

/// State and socket of a line: `N: ADDRESS:PORT REMOTE STATE TX:RX TR:WHEN RETRANSMITS UID TIMEOUT INODE ...`.
/// Addresses are words of four bytes as the machine has them.
fn inet(family: &'static str, line: &str) -> Option<(String, Listener)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let mut bytes = Vec::new();
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_le_bytes());
    }
    let address = match (<[u8; 4]>::try_from(&*bytes), <[u8; 16]>::try_from(&*bytes)) {
        (Ok(four), _) => std::net::Ipv4Addr::from(four).to_string(),
        (_, Ok(six)) => std::net::Ipv6Addr::from(six).to_string(),
        _ => return None,
    };
    let listener = Listener {
        family,
        address,
        port: u16::from_str_radix(port, 16).ok()?,
        inode: fields.get(9)?.parse().ok()?,
    };
    Some(((*fields.get(3)?).to_owned(), listener))
}

/// A line `POINTER: REFERENCES PROTOCOL FLAGS TYPE STATE INODE PATH`, if that socket listens.
fn unix(line: &str) -> Option<Option<Listener>> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
    let listener = Listener {
        family: "unix",
        address: fields.get(7).copied().unwrap_or_default().to_owned(),
        port: 0,
        inode: fields.get(6)?.parse().ok()?,
    };
    Some((flags & ACCEPTS != 0).then_some(listener))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_as_the_kernel_lists_them() {
        let (state, found) = inet(
            "udp",
            "  185: 0100007F:1268 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 10276 2 0",
        )
        .expect("valid");
        assert_eq!(
            (&*state, &*found.address, found.port),
            ("07", "127.0.0.1", 4712)
        );
        assert_eq!(found.inode, 10276);
        let (_, found) = inet(
            "tcp6",
            "0: 00000000000000000000000001000000:1269 0:0 0A 0:0 00:0 0 0 0 10277 1",
        )
        .expect("valid");
        assert_eq!((&*found.address, found.port), ("::1", 4713));
        let found =
            unix("0000000096f9799b: 00000002 00000000 00010000 0001 01 10278 /lab/out/a.socket");
        let found = found.expect("valid").expect("listens");
        assert_eq!((&*found.address, found.inode), ("/lab/out/a.socket", 10278));
        let other = unix("0000000096f9799b: 00000002 00000000 00000000 0001 03 10279");
        assert_eq!(other, Some(None));
        assert_eq!(unix("x"), None);
    }
}
