//! `vmie net`.

use crate::define::{record, row};
use crate::{Bytes, Hex};

record! {
    /// Who holds a socket.
    pub struct SocketOwner {
        /// The process.
        pid: u32;
        /// Its short name.
        process: String;
        /// The descriptor.
        fd: u64;
    }
}

row! {
    /// A socket.
    pub struct SocketRow<'a>: "vmie.net/1" of "vmie net" {
        /// Its protocol: tcp, tcp6, udp, udp6, unix, raw, packet, netlink, or the name or number of another.
        proto: &'a str => left strong;
        /// Its own address, or its path; `@` begins a name that is no path. Null when it has none.
        local: Option<String> => left;
        /// The bytes of that, where they are not UTF-8.
        local_bytes: Option<Bytes> => optional;
        /// Its own port; of raw sockets their protocol, of packet sockets the Ethernet type. Null when it has none.
        lport: Option<u32> => right;
        /// The address at the other end; null when it is not connected.
        remote: Option<String> => left;
        /// The bytes of that, where they are not UTF-8.
        remote_bytes: Option<Bytes> => optional;
        /// The port at the other end; null when it is not connected.
        rport: Option<u32> => right;
        /// The state of its connection, such as LISTEN, ESTABLISHED, TIME_WAIT, CLOSE.
        state: &'static str => left;
        /// Bytes that were not read yet; of one that listens, connections that were not accepted; null when not known.
        receive_queue: Option<u32> => hidden;
        /// Bytes that were not sent or acknowledged yet; null when not known.
        send_queue: Option<u32> => hidden;
        /// The number of its inode; null for one that belongs to no file.
        inode: Option<u64> => right;
        /// The user who made it; null when not known.
        uid: Option<u32> => right;
        /// The number of its network namespace; null when not known.
        netns: Option<u32> => right;
        /// Who holds it; empty when nobody does.
        owners: Vec<SocketOwner> => left;
        /// Of a UNIX socket: the number of the inode at the other end.
        peer: Option<u64> => hidden optional;
        /// Whether a table of its protocol has it, beside those that hold it.
        listed: bool => hidden;
        /// Where the kernel keeps its record of it (`struct sock`).
        sock: Hex => hidden;
    }
}

row! {
    /// A network interface.
    pub struct InterfaceRow<'a>: "vmie.net-interfaces/1" of "vmie net --interfaces" {
        /// Its name, unique in its namespace.
        name: &'a str => left strong;
        /// Its number there.
        index: u32 => right;
        /// Its addresses of IP, each with the length of its network.
        addresses: &'a [String] => left;
        /// Its own address; null when it has none.
        mac: Option<String> => left;
        /// Whether it has been switched on.
        up: bool => left;
        /// What its link is doing: up, down, unknown, ...
        link: &'static str => left;
        /// Whether it takes in what is not addressed to it.
        promiscuous: bool => left;
        /// The longest packet.
        mtu: u32 [bytes] => right;
        /// The number of its network namespace.
        netns: u32 => right;
        /// Where the kernel keeps its record of it (`struct net_device`).
        device: Hex => hidden;
    }
}
