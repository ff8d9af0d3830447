//! Who talks: the sockets of all network namespaces, with all that hold them.
//!
//! Two ways lead to sockets, and each alone loses some. Descriptors lead to those that were never bound, which no table has. The tables of the
//! protocols lead to those of processes that are hidden, to those that nobody has accepted yet, and to what is left of connections that
//! were closed. Both are walked, and a socket that both lead to is one row.

mod owners;
mod tables;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::addr::Gva;
use crate::os::object::{Known as _, Object, ObjectError, Objects, Walk};
use crate::os::{Guest, Listing, OsError, Process};

/// Address families (`include/linux/socket.h`).
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const AF_NETLINK: u16 = 16;
const AF_PACKET: u16 = 17;

/// Names of states by number (`include/net/tcp_states.h`), which protocols without connections use, too.
const STATES: [&str; 14] = [
    "UNKNOWN",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    // A connection that is being made, which is told from others within the kernel only.
    "SYN_RECV",
    "BOUND_INACTIVE",
];
const TIME_WAIT: u64 = 6;
const LISTEN: u64 = 10;
const NEW_SYN_RECV: u64 = 12;

/// Who holds a socket.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub struct SocketOwner {
    /// The process.
    pub pid: u32,
    /// Its short name.
    pub process: String,
    /// The descriptor.
    pub fd: u64,
}

/// A socket.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Socket {
    /// Its protocol: `tcp`, `tcp6`, `udp`, `udp6`, `unix`, `raw`, `packet`, `netlink`, or another family's or protocol's name or number.
    pub proto: String,
    /// The address that it is bound to: an IP address, or a path. A name that is no path begins with `@`, in place of NUL.
    pub local: Option<Vec<u8>>,
    /// Its port; for `raw` its protocol, for `packet` the Ethernet type, for `netlink` its port.
    pub lport: Option<u32>,
    /// The address that it is connected to.
    pub remote: Option<Vec<u8>>,
    /// The port there.
    pub rport: Option<u32>,
    /// The state of its connection.
    pub state: &'static str,
    /// Bytes that have come and were not read; of one that listens, connections that were not accepted.
    pub receive_queue: Option<u32>,
    /// Bytes that were not sent, or not acknowledged.
    pub send_queue: Option<u32>,
    /// The number of its inode; `None` for one that belongs to no file: not yet, or no more.
    pub inode: Option<u64>,
    /// The user who made it.
    pub uid: Option<u32>,
    /// The number of its network namespace.
    pub netns: Option<u32>,
    /// Who holds it; empty where no process does.
    pub owners: Vec<SocketOwner>,
    /// Of a UNIX socket: the number of the inode at the other end.
    pub peer: Option<u64>,
    /// Whether a table of its protocol has it.
    pub listed: bool,
    /// The kernel's record of it (`struct sock`, or the smaller ones of connections that are being made or were closed).
    pub object: Gva,
}

/// All sockets, ordered by protocol, namespace, port and address. `processes` are those whose descriptors are looked at.
///
/// Cost: a read for each page of the protocols' tables, and some ten for each socket.
///
/// # Errors
///
/// When the system's types or symbols cannot be had. A table that this kernel does not have where it is looked for is a
/// finding, never an empty table.
pub fn sockets(guest: &dyn Guest, processes: &[Process]) -> Result<Listing<Socket>, OsError> {
    let objects = guest.objects()?;
    let walk = guest.walk();
    let mut found = Found {
        objects: &objects,
        walk: &walk,
        sockets: Vec::new(),
        by_address: HashMap::new(),
        netns: HashMap::new(),
    };
    tables::add_all(&mut found)?;
    owners::add_all(&mut found, processes);
    let mut items = found.sockets;
    for item in &mut items {
        item.owners.sort();
        item.owners.dedup();
    }
    items.sort_by(|a, b| {
        let key = |socket: &Socket| {
            (
                rank(&socket.proto),
                socket.netns,
                socket.lport,
                socket.rport,
                socket.object,
            )
        };
        key(a).cmp(&key(b))
    });
    Ok(Listing {
        items,
        findings: walk.finish(),
    })
}

/// Protocols in the order of the guest's own lists.
fn rank(proto: &str) -> usize {
    const ORDER: [&str; 8] = [
        "tcp", "tcp6", "udp", "udp6", "raw", "unix", "packet", "netlink",
    ];
    let known = ORDER.iter().position(|&known| known == proto);
    known.unwrap_or(ORDER.len())
}

/// What was found so far.
struct Found<'f, 'o> {
    objects: &'o Objects<'o>,
    walk: &'f Walk,
    sockets: Vec<Socket>,
    by_address: HashMap<Gva, usize>,
    /// Numbers of namespaces by their records.
    netns: HashMap<Gva, Option<u32>>,
}

/// Where a socket was met.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    /// In a table of a protocol.
    Table,
    /// Behind a descriptor, or on its way to one.
    Descriptor,
}

impl<'o> Found<'_, 'o> {
    /// Adds a socket, unless it is there. Answers its place.
    fn add(&mut self, common: &Object<'o>, met: Met) -> Option<usize> {
        if let Some(&index) = self.by_address.get(&common.address()) {
            return Some(index);
        }
        let read = self.read(common, met);
        let socket = self
            .walk
            .keep(read, format_args!("the socket at {}", common.address()))?;
        let index = self.sockets.len();
        self.by_address.insert(common.address(), index);
        self.sockets.push(socket);
        Some(index)
    }

    fn read(&mut self, common: &Object<'o>, met: Met) -> Result<Socket, ObjectError> {
        let common = common.cast("sock_common")?.load();
        let family = common.u16("skc_family")?;
        let state = common.u64("skc_state")?;
        // Of these only the common part is there, and what stands behind it is something else.
        let is_mini =
            matches!(family, AF_INET | AF_INET6) && matches!(state, TIME_WAIT | NEW_SYN_RECV);
        let mut socket = Socket {
            proto: "tcp".into(),
            local: None,
            lport: None,
            remote: None,
            rport: None,
            state: STATES.get(state as usize).copied().unwrap_or(STATES[0]),
            receive_queue: None,
            send_queue: None,
            inode: None,
            uid: None,
            netns: self.netns(&common)?,
            owners: Vec::new(),
            peer: None,
            listed: met == Met::Table,
            object: common.address(),
        };
        let mut kind = (1, 6);
        if !is_mini {
            let sock = common.cast("sock")?.load();
            kind = (sock.u64("sk_type")?, sock.u64("sk_protocol")?);
            socket.inode = inode(&sock)?;
            socket.uid = sock.u32("sk_uid").unless_missing()?;
        }
        match family {
            AF_INET | AF_INET6 => inet(&common, family, kind, state, &mut socket)?,
            AF_UNIX => unix(&common, &mut socket)?,
            AF_PACKET => {
                socket.proto = "packet".into();
                let port = common.cast("packet_sock")?.u16("num")?;
                socket.lport = Some(port.swap_bytes().into());
            }
            AF_NETLINK => {
                socket.proto = "netlink".into();
                let netlink = common.cast("netlink_sock")?;
                socket.lport = Some(netlink.u32("portid")?);
                socket.rport = Some(netlink.u32("dst_portid")?).filter(|&port| port != 0);
            }
            other => socket.proto = family_name(other),
        }
        if !is_mini {
            queues(&common, family, kind, state, &mut socket)?;
        }
        Ok(socket)
    }

    /// The number of a socket's namespace.
    fn netns(&mut self, common: &Object<'o>) -> Result<Option<u32>, ObjectError> {
        let Some(net) = common
            .pointer("skc_net.net")
            .unless_missing()?
            .filter(|&net| net != Gva(0))
        else {
            return Ok(None);
        };
        if let Some(&known) = self.netns.get(&net) {
            return Ok(known);
        }
        let number = self.objects.object_at(net, "net")?.u32("ns.inum")?;
        self.netns.insert(net, Some(number));
        Ok(Some(number))
    }
}

/// The number of the inode that a socket has as a file.
fn inode(sock: &Object<'_>) -> Result<Option<u64>, ObjectError> {
    match sock.at("sk_socket").unless_null()? {
        Some(socket) => Ok(Some(
            socket
                .container_of("socket_alloc", "socket")?
                .u64("vfs_inode.i_ino")?,
        )),
        None => Ok(None),
    }
}

fn family_name(family: u16) -> String {
    match family {
        38 => "alg".into(),
        40 => "vsock".into(),
        44 => "xdp".into(),
        other => format!("family {other}"),
    }
}

/// Addresses and ports of a socket of IP.
fn inet(
    common: &Object<'_>,
    family: u16,
    (kind, protocol): (u64, u64),
    state: u64,
    socket: &mut Socket,
) -> Result<(), ObjectError> {
    let six = family == AF_INET6;
    let name = match (kind, protocol) {
        (3, _) => "raw",
        (_, 6) => "tcp",
        (_, 17) => "udp",
        (_, 136) => "udplite",
        (_, 132) => "sctp",
        (_, 262) => "mptcp",
        (_, 1 | 58) => "icmp",
        _ => "ip",
    };
    // Raw sockets have one name for both, as their addresses tell.
    socket.proto = match six && name != "raw" {
        true => format!("{name}6"),
        false => name.to_owned(),
    };
    let (local, remote): (IpAddr, IpAddr) = if six {
        let read = |path| -> Result<IpAddr, ObjectError> {
            let bytes: [u8; 16] = common.bytes(path, 16)?.try_into().unwrap_or_default();
            Ok(Ipv6Addr::from(bytes).into())
        };
        (read("skc_v6_rcv_saddr")?, read("skc_v6_daddr")?)
    } else {
        let read = |path| -> Result<IpAddr, ObjectError> {
            Ok(Ipv4Addr::from(common.u32(path)?.to_le_bytes()).into())
        };
        (read("skc_rcv_saddr")?, read("skc_daddr")?)
    };
    let rport = u32::from(common.u16("skc_dport")?.swap_bytes());
    socket.local = Some(local.to_string().into_bytes());
    socket.lport = Some(common.u32("skc_num")?);
    // What listens, or is not connected, has no other end.
    if state != LISTEN && (rport != 0 || !remote.is_unspecified()) {
        socket.remote = Some(remote.to_string().into_bytes());
        socket.rport = Some(rport);
    }
    Ok(())
}

fn unix(common: &Object<'_>, socket: &mut Socket) -> Result<(), ObjectError> {
    socket.proto = "unix".into();
    let unix = common.cast("unix_sock")?.load();
    socket.local = name(&unix)?;
    if let Some(peer) = unix.at("peer").unless_null()? {
        socket.peer = inode(&peer)?;
        socket.remote = name(&peer.cast("unix_sock")?)?;
    }
    Ok(())
}

/// The name of a UNIX socket, `@` for the NUL that names begin with which are no paths.
fn name(unix: &Object<'_>) -> Result<Option<Vec<u8>>, ObjectError> {
    /// `sun_path` and the family.
    const MAX: u64 = 110;
    let Some(address) = unix.at("addr").unless_null()? else {
        return Ok(None);
    };
    let len = address.u64("len")?.min(MAX);
    let bytes = address.place("name[0]")?.bytes("", len)?;
    let mut name = bytes.get(2..).unwrap_or_default().to_vec();
    match name.first_mut() {
        None => return Ok(None),
        Some(first) if *first == 0 => *first = b'@',
        Some(_) => name.truncate(
            name.iter()
                .position(|&byte| byte == 0)
                .unwrap_or(name.len()),
        ),
    }
    Ok(Some(name))
}

fn queues(
    common: &Object<'_>,
    family: u16,
    (kind, protocol): (u64, u64),
    state: u64,
    socket: &mut Socket,
) -> Result<(), ObjectError> {
    let sock = common.cast("sock")?.load();
    let is_tcp = matches!(family, AF_INET | AF_INET6) && kind == 1 && protocol == 6;
    if state == LISTEN {
        socket.receive_queue = Some(sock.u32("sk_ack_backlog")?);
    } else if is_tcp {
        let tcp = common.cast("tcp_sock")?;
        // Numbers of bytes that wrap; what has been asked for can be ahead of what has come.
        let between = |to: &str, from: &str| -> Result<u32, ObjectError> {
            let distance = tcp.u32(to)?.wrapping_sub(tcp.u32(from)?);
            Ok(if distance >> 31 == 0 { distance } else { 0 })
        };
        socket.receive_queue = Some(between("rcv_nxt", "copied_seq")?);
        socket.send_queue = Some(between("write_seq", "snd_una")?);
    } else {
        socket.receive_queue = Some(sock.u32("sk_backlog.rmem_alloc")?);
        let allocated = sock.u32("sk_wmem_alloc")?;
        // The socket holds one of them itself.
        socket.send_queue = Some(allocated.saturating_sub(1));
    }
    Ok(())
}
